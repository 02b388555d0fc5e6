"""Plugins' files with mistakes, and their loading."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trivet import ConfigurationError, Settings
from trivet._program._loader import Program, load

HEADER = """\
import attrs, dataclasses, functools, socket, trio
from trivet import *

class Ping(Event):
    number: int = 0

class Pong(Event):
    text: str = ""

"""

Write = Callable[[str], Path]

PLUGIN = "class M(BackgroundPlugin):\n"


def loaded(file: Path, *active: str, **more: Any) -> Program:
    """Load the file as the operator names it."""
    names = list(active or ("mistake",))
    return load(Settings(active_plugins=names, plugins_directory=file.parent, **more))


def fault(file: Path, *active: str, **more: Any) -> str:
    """The error's text for a file that should not load."""
    with pytest.raises(ConfigurationError) as caught:
        loaded(file, *active, **more)
    return str(caught.value)
