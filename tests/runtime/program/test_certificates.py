"""The operator's certificate: which files serve, and what is said about the others."""

from __future__ import annotations

import errno
import os
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from structlog.testing import capture_logs

from trivet import ConfigurationError, Secret, Settings, TlsSettings, load_settings
from trivet._program._certificates import WARN_BEFORE, end_of, server_context
from trivet._program._loader import load

PASSWORD = "pa55word-of-the-key"


class Files:
    """The files of a certificate."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        issued = trustme.CA().issue_cert("localhost")
        key = issued.private_key_pem.bytes()
        encrypted = load_pem_private_key(key, None).private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(PASSWORD.encode())
        )
        chain = issued.cert_chain_pems[0].bytes()
        self.certificate = self.write("certificate.pem", chain)
        self.key = self.write("key.pem", key)
        self.encrypted = self.write("encrypted.pem", encrypted)
        self.both = self.write("both.pem", key + chain)
        other = trustme.CA().issue_cert("localhost").private_key_pem.bytes()
        self.other_key = self.write("other.pem", other)
        self.text = self.write("text.pem", b"no certificate, \xff")

    def write(self, name: str, content: bytes) -> Path:
        """Write a file that only its owner may read."""
        file = self.directory / name
        file.write_bytes(content)
        file.chmod(0o600)
        return file


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """The files, made once."""
    return Files(tmp_path_factory.mktemp("certificates"))


def context(**tls: object) -> ssl.SSLContext | None:
    """The context for these settings."""
    return server_context(Settings(tls=TlsSettings(**tls)))  # type: ignore[arg-type]


def fault(**tls: object) -> str:
    """The fault of these settings."""
    with pytest.raises(ConfigurationError) as caught:
        context(**tls)
    return str(caught.value)


def test_a_certificate_and_its_key(files: Files) -> None:
    """The key is in a file of its own, in the certificate's, or encrypted."""
    for made in (
        context(certificate=files.certificate, key=files.key),
        context(certificate=files.both),
        context(certificate=files.certificate, key=files.encrypted, key_password=Secret(PASSWORD)),
    ):
        assert made is not None
        assert made.minimum_version is ssl.TLSVersion.TLSv1_2
        assert made.verify_mode is ssl.CERT_NONE
    assert context() is None


def test_demands_on_clients(files: Files) -> None:
    """A version and a client's certificate may be asked for; renegotiation never is."""
    made = context(certificate=files.both, minimum_version="1.3", client_ca=files.certificate)
    assert made is not None
    assert made.minimum_version is ssl.TLSVersion.TLSv1_3
    assert made.verify_mode is ssl.CERT_REQUIRED
    assert made.options & ssl.OP_NO_RENEGOTIATION


def test_a_fault_names_the_setting_and_the_file(files: Files) -> None:
    """Each file that does not hold what it should is named, with its setting and the reason."""
    cert, key, missing = files.certificate, files.key, files.directory / "missing.pem"
    unread = f"it cannot be read: {os.strerror(errno.ENOENT)}"
    no_certificate = "there is no certificate in PEM form in it"
    no_key = "there is no private key in PEM form in it"
    assert fault(certificate=missing) == f"tls.certificate: {missing}: {unread}"
    assert fault(certificate=cert, key=missing) == f"tls.key: {missing}: {unread}"
    assert fault(certificate=files.text, key=key) == (
        f"tls.certificate: {files.text}: {no_certificate}"
    )
    assert fault(certificate=key, key=key) == f"tls.certificate: {key}: {no_certificate}"
    assert fault(certificate=cert, key=files.text) == f"tls.key: {files.text}: {no_key}"
    assert fault(certificate=cert) == f"tls.certificate: {cert}: {no_key}"
    assert fault(certificate=files.both, client_ca=key) == f"tls.client_ca: {key}: {no_certificate}"
    assert fault(certificate=files.both, client_ca=missing) == f"tls.client_ca: {missing}: {unread}"


def test_a_key_that_does_not_fit(files: Files) -> None:
    """The key of another certificate is named together with the certificate."""
    assert fault(certificate=files.certificate, key=files.other_key) == (
        f"tls.key: {files.other_key}: the key does not fit the certificate in {files.certificate}"
    )


def test_an_encrypted_key(files: Files) -> None:
    """A key that cannot be decrypted is an error, and no question at the terminal."""
    encrypted = files.encrypted
    pair = {"certificate": files.certificate, "key": encrypted}
    assert fault(**pair) == f"tls.key: {encrypted}: the key is encrypted: set `key_password`"
    for wrong in ("wrong-password", "long" * 1000):
        said = fault(**pair, key_password=Secret(wrong))
        assert said == f"tls.key: {encrypted}: the key cannot be decrypted with `key_password`"


def test_the_files_stand_beside_the_settings(files: Files, tmp_path: Path) -> None:
    """Names of files are relative to the settings' file, which the message names, too."""
    (tmp_path / "both.pem").write_bytes(files.both.read_bytes())
    file = tmp_path / "trivet.toml"
    file.write_text('[tls]\ncertificate = "both.pem"\nclient_ca = "ca.pem"')
    with pytest.raises(ConfigurationError, match=rf"^{file}: tls\.client_ca: {tmp_path}/ca\.pem: "):
        load(load_settings(file, {}))
    file.write_text('[tls]\ncertificate = "both.pem"')
    assert load(load_settings(file, {})).tls is not None


@pytest.mark.parametrize("setting", ["key", "client_ca", "key_password"])
def test_a_setting_without_a_certificate(setting: str) -> None:
    """A setting that has no effect without a certificate is an error."""
    variable = f"TRIVET_TLS__{setting.upper()}"
    with pytest.raises(ConfigurationError, match=f"{variable}: it has no effect"):
        load_settings(None, {variable: "a"})


def warnings(**tls: object) -> list[dict[str, object]]:
    """The warnings at the reading of these settings."""
    with capture_logs() as logs:
        context(**tls)
    return [dict(log) for log in logs if log["log_level"] == "warning"]


def issued_until(directory: Path, end: datetime) -> Path:
    """A file with a certificate that ends then, its key, and a certificate that lasts."""
    authority = trustme.CA()
    issued = authority.issue_cert("localhost", not_after=end)
    file = directory / "ends.pem"
    chain = issued.private_key_and_cert_chain_pem.bytes() + authority.cert_pem.bytes()
    file.write_bytes(b"a comment\n" + chain)
    return file


@pytest.mark.parametrize(
    ("left", "said"),
    [
        (timedelta(days=-1), "a certificate has ended"),
        (timedelta(minutes=1), "a certificate ends soon"),
        (WARN_BEFORE - timedelta(hours=1), "a certificate ends soon"),
        (WARN_BEFORE + timedelta(hours=1), None),
        (timedelta(days=365 * 100), None),  # Its year has four digits.
    ],
)
def test_the_end_of_a_certificate(tmp_path: Path, left: timedelta, said: str | None) -> None:
    """A certificate that has ended, or ends within 14 days, is a warning with its end, and is
    served all the same; so is the certificate of an authority of clients."""
    end = (datetime.now(UTC) + left).replace(microsecond=0)
    file = issued_until(tmp_path, end)
    lines = warnings(certificate=file)
    if said is None:
        assert lines == []
        return
    (line,) = lines
    assert (line["event"], line["setting"]) == (said, "tls.certificate")
    assert (line["file"], line["end"]) == (str(file), f"{end:%Y-%m-%dT%H:%M:%SZ}")
    _, line = warnings(certificate=file, client_ca=file)
    assert line["setting"] == "tls.client_ca"


def test_the_end_is_the_one_that_others_read(files: Files, tmp_path: Path) -> None:
    """The end of a certificate is that which a library for certificates reads in it."""
    for year in (2027, 2049, 2050, 9999):
        text = issued_until(tmp_path, datetime(year, 12, 31, 23, 59, 59, tzinfo=UTC)).read_text()
        pem = text[text.index("-----BEGIN CERT") :]
        read = x509.load_pem_x509_certificate(pem.encode()).not_valid_after_utc
        assert end_of(ssl.PEM_cert_to_DER_cert(pem[: pem.index("-----END") + 26])) == read


def test_a_key_that_others_may_read_is_a_warning(files: Files) -> None:
    """The file with the key is looked at as the file of a secret is."""
    files.key.chmod(0o644)
    with capture_logs() as logs:
        load(Settings(tls=TlsSettings(certificate=files.certificate, key=files.key)))
    files.key.chmod(0o600)
    (line,) = (log for log in logs if log["log_level"] == "warning")
    assert line["file"] == str(files.key)
