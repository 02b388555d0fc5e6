"""Secrets that stand in files of their own: an operator's, or the credentials of systemd.

Owns the reading of such a file, and the warning about one that others may read.
Never knows settings, nor what a secret is for.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import cast

import attrs
import structlog

from .._faults._secret import Secret
from ._misfits import MisfitError

LARGEST = 1024 * 1024
"""Bytes of a secret, at most; systemd's limit for a credential is the same."""
DIRECTORY_VARIABLE = "CREDENTIALS_DIRECTORY"
"""The variable with which systemd names the directory of a service's credentials."""

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger("trivet")


def read_secret(file: Path) -> Secret:
    """Read a secret from a file; one newline at its end is not part of it.

    Raises:
        MisfitError: the file is missing, unreadable, empty, too large, not UTF-8, or no file.
    """
    try:
        # A pipe must not hold the start; a device is refused below.
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it has a NUL character in its name"
        raise MisfitError(f"{file} cannot be read: {reason}") from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise MisfitError(f"{file} is not a regular file")
        with open(descriptor, "rb", closefd=False) as opened:
            data = opened.read(LARGEST + 1)
    except OSError as error:
        raise MisfitError(f"{file} cannot be read: {error.strerror}") from None
    finally:
        os.close(descriptor)
    if len(data) > LARGEST:
        raise MisfitError(f"{file} is no secret: more than {LARGEST} bytes")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise MisfitError(f"{file} is not UTF-8") from None
    text = text.removesuffix("\n").removesuffix("\r") if text.endswith("\n") else text
    if not text:
        raise MisfitError(f"{file} is empty")
    return Secret(text, file=file)


def credential_file(name: str, environ: Mapping[str, str] | None = None) -> Path:
    """The file of one of systemd's credentials.

    Args:
        name: the credential's name, as in `LoadCredential=`.
        environ: the environment; that of this process by default.

    Raises:
        MisfitError: systemd has given no credentials, or there can be none of this name.
    """
    directory = (os.environ if environ is None else environ).get(DIRECTORY_VARIABLE)
    if not directory:
        raise MisfitError(
            f"${DIRECTORY_VARIABLE} is not set: `credential` is for a service of systemd with "
            "`LoadCredential=` or `SetCredential=`"
        )
    if "/" in name or name in ("", ".", ".."):
        raise MisfitError("a credential is named without a directory")
    return Path(directory, name)


def warn_of_readable_files(settings: Iterable[object], keys: Iterable[Path | None] = ()) -> None:
    """Warn of each file with a secret that any user of the machine may read.

    Args:
        settings: settings in which secrets may be.
        keys: further files with a secret.
    """
    files = {secret.file for value in settings for secret in _secrets_within(value)} | {*keys}
    for file in sorted(file for file in files if file is not None):
        try:
            mode = file.stat().st_mode
        except OSError:
            continue  # It was deleted since it was read.
        if mode & stat.S_IROTH:
            _log.warning(
                "others may read the file of a secret",
                file=str(file),
                mode=f"{stat.S_IMODE(mode):04o}",
                hint="chmod o-r",
            )


def _secrets_within(value: object) -> Iterator[Secret]:
    """Every secret within a value: in tables, arrays and instances of attrs classes, too."""
    inner: Iterable[object] = ()
    cls = type(value)
    if isinstance(value, Secret):
        yield value
    elif isinstance(value, Mapping):
        inner = cast("Mapping[object, object]", value).values()
    elif isinstance(value, (list, tuple, set, frozenset)):
        inner = cast("Iterable[object]", value)
    elif attrs.has(cls):
        inner = (getattr(value, field.name, None) for field in attrs.fields(cls))
    for each in inner:
        yield from _secrets_within(each)
