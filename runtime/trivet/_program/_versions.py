"""The version of a plugin's code: its distribution, its file, the file's hash, when it was loaded.

Owns how the version is found out.
Never knows whether the file has changed since then.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import packages_distributions, version
from pathlib import Path

import attrs

from ._finder import PACKAGE, is_within


@attrs.frozen
class CodeVersion:
    """The code of one module, as it was loaded."""

    module: str
    """The module's name."""
    file: str | None
    """The path of the module's file; None for a module without one."""
    sha256: str | None
    """The SHA-256 of the file, in hexadecimal digits; None where it could not be read."""
    loaded_at: datetime
    """The moment at which the program was made from the code, in UTC."""


def code_versions(classes: Iterable[type]) -> dict[type, CodeVersion]:
    """The version of the code of each class. A file with several classes is read once."""
    classes, now = list(classes), datetime.now(UTC)
    modules = dict.fromkeys(cls.__module__ for cls in classes)
    versions = {name: _version_of(name, now) for name in modules}
    return {cls: versions[cls.__module__] for cls in classes}


def _version_of(name: str, now: datetime) -> CodeVersion:
    file: str | None = getattr(sys.modules.get(name), "__file__", None)
    digest: str | None = None
    if file is not None:
        try:
            digest = hashlib.sha256(Path(file).read_bytes()).hexdigest()
        except OSError:  # It was imported from an archive, or is gone.
            digest = None
    return CodeVersion(name, file, digest, now)


@cache
def distribution_of(module: str) -> str | None:
    """The installed distributions that have a module, with their versions, such as `shop 1.2`.

    The first call reads the metadata of everything that is installed, which may take a second: it
    belongs into a thread.

    Args:
        module: the module's name.

    Returns:
        None for a file of the plugins' directory, and for code that is not installed.

    >>> distribution_of("trio.testing").split()[0]
    'trio'
    """
    if is_within(module, PACKAGE):
        return None
    names = dict.fromkeys(_installed().get(module.partition(".")[0], ()))
    return ", ".join(f"{name} {version(name)}" for name in names) or None


@cache
def _installed() -> Mapping[str, list[str]]:
    return packages_distributions()
