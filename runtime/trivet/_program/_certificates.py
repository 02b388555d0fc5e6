"""The operator's certificate, its key and the authorities of clients, as a context for TLS.

Owns the reading of these files, and the faults in them, each with the file's name.
Never knows connections. Each call reads the files anew, so that a reload is another call, whose
fault changes nothing.
"""

from __future__ import annotations

import ssl
from pathlib import Path

import attrs

from .._faults._errors import ConfigurationError
from ._plugin_tables import place_of_key
from ._settings import Settings, TlsSettings

_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


def server_context(settings: Settings) -> ssl.SSLContext | None:
    """The context for the connections of clients; None without a certificate.

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
    return context


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
