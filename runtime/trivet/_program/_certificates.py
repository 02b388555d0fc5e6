"""The operator's certificate, its key and the authorities of clients, as a context for TLS.

Owns the reading of these files, and the faults in them, each with the file's name.
Never knows connections. Each call reads the files anew, so that a reload is another call, whose
fault changes nothing.
"""

from __future__ import annotations

import hashlib
import re
import ssl
from base64 import b64decode
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import attrs
import structlog

from .._faults._errors import ConfigurationError
from ._plugin_tables import place_of_key
from ._settings import Settings, TlsSettings

WARN_BEFORE = timedelta(days=14)
"""The time before a certificate's end at which a start begins to warn."""

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger("trivet")
_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


def server_context(settings: Settings) -> ssl.SSLContext | None:
    """The context for the connections of clients; None without a certificate.

    A certificate that has ended, or ends soon, is a warning: the operator may mend it at a reload.

    Raises:
        ConfigurationError: a file cannot be read, or does not hold what it should, or the key does
            not fit the certificate. The message names the setting and the file.
    """
    if settings.tls.certificate is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _VERSIONS[settings.tls.minimum_version]
    context.options |= ssl.OP_NO_RENEGOTIATION  # TLS 1.3 has none, and it is work for nothing.
    context.set_alpn_protocols(["http/1.1"])
    try:
        _load_pair(context, settings.tls, settings.tls.certificate)
        if settings.tls.client_ca is not None:
            _check_certificates("client_ca", settings.tls.client_ca)
            context.load_verify_locations(settings.tls.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except _FileError as error:
        key = place_of_key(settings, f"tls.{error.setting}")
        raise ConfigurationError(f"{key}: {error.file}: {error.reason}") from None
    for setting in ("certificate", "client_ca"):
        file = getattr(settings.tls, setting)
        if file is not None:
            _warn_of_end(place_of_key(settings, f"tls.{setting}"), file)
    return context


def digest_of_files(settings: TlsSettings) -> str | None:
    """The SHA-256 of the certificate, its key and the authorities; None without a certificate."""
    if settings.certificate is None:
        return None
    digest = hashlib.sha256()
    for file in (settings.certificate, settings.key, settings.client_ca):
        with suppress(OSError, ValueError):  # `server_context` tells what is wrong with it.
            digest.update(b"" if file is None else file.read_bytes())
        digest.update(b"\0")
    return digest.hexdigest()


def _warn_of_end(key: str, file: Path) -> None:
    """Warn of the first certificate in a file that has ended, or ends soon."""
    ends: list[datetime] = []
    for certificate in _PEM.findall(file.read_bytes()):
        with suppress(ValueError):  # A time in a form that no standard has.
            ends.append(end_of(b64decode(certificate)))
    now = datetime.now(UTC)
    if ends and (end := min(ends)) <= now + WARN_BEFORE:
        what = "a certificate has ended" if end <= now else "a certificate ends soon"
        _log.warning(what, setting=key, file=str(file), end=f"{end:%Y-%m-%dT%H:%M:%SZ}")


_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.DOTALL)
_UTC_TIME, _VERSION = 0x17, 0xA0
"""The tags in DER of a time whose year has two digits, and of a certificate's version."""


def end_of(certificate: bytes) -> datetime:
    """The moment after which a certificate in DER is not valid: OpenSSL has read it already.

    Python's `ssl` tells it of a peer's certificate only.
    """
    _, signed = next(_elements(certificate))
    _, contents = next(_elements(signed))
    fields = [content for tag, content in _elements(contents) if tag != _VERSION]
    _, (tag, end) = _elements(fields[3])  # Behind the number, the algorithm and the issuer.
    text = end.decode("ascii")
    if tag == _UTC_TIME:
        text = ("20" if text < "50" else "19") + text  # As RFC 5280 has it.
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The elements in DER one after the other: each tag, and the content."""
    while data:
        length, begin = data[1], 2
        if length >= 0x80:  # So many bytes have the length.
            begin += length - 0x80
            length = int.from_bytes(data[2:begin], "big")
        yield data[0], data[begin : begin + length]
        data = data[begin + length :]


@attrs.frozen
class _FileError(Exception):
    """A fault of one of the files."""

    setting: str
    file: Path
    reason: str


def _load_pair(context: ssl.SSLContext, settings: TlsSettings, certificate: Path) -> None:
    key, password = settings.key or certificate, settings.key_password
    setting = "certificate" if settings.key is None else "key"
    _check_certificates("certificate", certificate)
    _read(setting, key)
    was_asked = False

    def given() -> str:
        """The password; without this function OpenSSL would ask at the terminal."""
        nonlocal was_asked
        was_asked = True
        return "" if password is None else password.reveal()

    try:
        context.load_cert_chain(certificate, key, given)
    except (ssl.SSLError, ValueError) as error:  # A password may be too long.
        reason = getattr(error, "reason", None)
        if reason in _TOO_WEAK:
            raise _FileError("certificate", certificate, _TOO_WEAK[reason]) from None
        if reason == "KEY_VALUES_MISMATCH":
            said = f"the key does not fit the certificate in {certificate}"
        elif was_asked and password is None:
            said = "the key is encrypted: set `key_password`"
        elif was_asked:
            said = "the key cannot be decrypted with `key_password`"
        else:
            said = "there is no private key in PEM form in it"
        raise _FileError(setting, key, said) from None


_TOO_WEAK = {
    "EE_KEY_TOO_SMALL": "its key is too small",
    "CA_KEY_TOO_SMALL": "the key of an authority in it is too small",
    "CA_MD_TOO_WEAK": "it is signed with a digest that is too weak",
}


def _check_certificates(setting: str, file: Path) -> None:
    """Raise unless a file has certificates in PEM form."""
    text = _read(setting, file).decode("ascii", "ignore")  # Comments may have any characters.
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=text)
    except (ssl.SSLError, ValueError):
        raise _FileError(setting, file, "there is no certificate in PEM form in it") from None


def _read(setting: str, file: Path) -> bytes:
    try:
        return file.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "there is a NUL character in its name"
        raise _FileError(setting, file, f"it cannot be read: {reason}") from None
