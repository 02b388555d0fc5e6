"""The machine around a program: the installed versions, and the permissions of its files.

Owns these two checks.
Never knows how the faults are told.
"""

from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement

from .._events._delivery_settings import DeliveryPolicy
from .._faults._errors import ConfigurationError
from .._program._collector import Faults
from .._program._loader import Program
from .._program._plugin_tables import CheckedPlugin
from .._program._settings import IN_MEMORY


def check_versions(faults: Faults) -> None:
    """Collect each library of Trivet's that is missing, or of another version than it asks for.

    A library of an extra may be missing: its plugins say so themselves.
    """
    for requirement in requires("trivet") or []:
        with faults.collect():
            _check_requirement(requirement)


def _check_requirement(requirement: str) -> None:
    """Check one line of a distribution's metadata, such as `quart<0.24,>=0.22`.

    Its marker, if it has one, names an extra.
    """
    needed = Requirement(requirement)
    name, is_of_extra = needed.name, needed.marker is not None
    try:
        installed = version(name)
    except PackageNotFoundError:
        if not is_of_extra:
            raise ConfigurationError(f"{name} is not installed: pip install '{name}'") from None
        return
    if not needed.specifier.contains(installed, prereleases=True):
        raise ConfigurationError(
            f"{name} {installed} is installed, and Trivet needs {name}{needed.specifier}"
        )


def check_files(program: Program, faults: Faults) -> None:
    """Collect each file that this user could not read or write while the program runs."""
    path = program.settings.store.path
    if path != IN_MEMORY and any(map(_is_durable, program.plugins)):
        with faults.collect():
            _check_writable(path, "`[store] path`")


def _is_durable(plugin: CheckedPlugin) -> bool:
    events = (event.__delivery__ for event in plugin.listens_to)
    return bool(plugin.listens_to) and DeliveryPolicy.decide(plugin.delivery, *events).durable


def _check_writable(path: Path, setting: str) -> None:
    """Check a file that is written, and the directory, in which SQLite writes further ones."""
    directory = path.parent
    if not directory.is_dir():
        raise ConfigurationError(f"{setting}: there is no directory {directory}")
    if not os.access(directory, os.W_OK | os.X_OK):
        raise ConfigurationError(f"{setting}: {directory} cannot be written to by this user")
    if path.exists() and not os.access(path, os.R_OK | os.W_OK):
        raise ConfigurationError(f"{setting}: {path} cannot be read and written by this user")
