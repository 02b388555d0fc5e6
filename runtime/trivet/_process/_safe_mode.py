"""Safe mode, as the program that starts in it knows it.

Owns the files by which the parent knows whose code a death is put down to, and the way of its
verdict into the settings.
Never knows the evidence.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import attrs

from .._program._loader import Program
from .._program._settings import Settings
from ._parent._suspects import FILE, PLUGIN


def files_of(program: Program) -> dict[str, list[str]]:
    """The names of the plugins by the file of their code; a folder ends with `/`."""
    found: dict[str, list[str]] = {}
    for name, home in program.homes.items():
        file = getattr(sys.modules.get(home), "__file__", None)
        if file is not None:
            path = Path(file)
            place = f"{path.parent}/" if path.name == "__init__.py" else file
            found.setdefault(place, []).append(name)
    return found


def with_disabled(settings: Settings, disabled: Mapping[str, Mapping[str, str]]) -> Settings:
    """The settings of a program in which some plugins start disabled.

    Args:
        settings: the operator's.
        disabled: the reasons by name, by what the name is of.
    """
    return attrs.evolve(
        settings,
        disabled_files=dict(disabled.get(FILE, {})),
        disabled_plugins=dict(disabled.get(PLUGIN, {})),
    )
