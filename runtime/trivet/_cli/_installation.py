"""The machine around a program: the installed versions, and the permissions of its files.

Owns these two checks.
Never knows how the faults are told.
"""

from __future__ import annotations

import os
import re
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from .._events._delivery_settings import DeliveryPolicy
from .._faults._errors import ConfigurationError
from .._program._collector import Faults
from .._program._loader import Program
from .._program._plugin_tables import CheckedPlugin
from .._program._settings import IN_MEMORY

_REQUIREMENT = re.compile(r"([\w.-]+)(?:\[[^\]]*\])?\s*([^;]*)(?:;\s*(.*))?")
_BOUND = re.compile(r"(>=|<)\s*([\d.]+)")


def check_versions(faults: Faults) -> None:
    """Collect each library of Trivet's that is missing, or of another version than it asks for.

    A library of an extra may be missing: its plugins say so themselves.
    """
    for requirement in requires("trivet") or []:
        with faults.collect():
            _check_requirement(requirement)


def _check_requirement(requirement: str) -> None:
    """Check one line of a distribution's metadata, such as `quart<0.24,>=0.22`."""
    found = _REQUIREMENT.fullmatch(requirement)
    assert found is not None
    name, bounds, marker = found[1], found[2], found[3] or ""
    try:
        installed = version(name)
    except PackageNotFoundError:
        if "extra" not in marker:
            raise ConfigurationError(f"{name} is not installed: pip install '{name}'") from None
        return
    for operator, bound in _BOUND.findall(bounds):
        is_at_least = release(installed) >= release(bound)
        if is_at_least is not (operator == ">="):
            raise ConfigurationError(
                f"{name} {installed} is installed, and Trivet needs {name}{bounds.strip()}"
            )


def release(version: str) -> tuple[int, ...]:
    """The numbers of a version, without zeros at the end, for comparisons.

    >>> release("0.22.0"), release("1.10rc1") > release("1.9")
    ((0, 22), True)
    """
    numbers = re.match(r"\d+(?:\.\d+)*", version)
    parts = [int(part) for part in numbers[0].split(".")] if numbers else []
    while parts and parts[-1] == 0:
        parts.pop()
    return tuple(parts)


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
