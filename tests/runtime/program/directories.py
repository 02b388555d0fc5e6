"""Plugins' directories in the making, and the loading of plugins that tests share."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from trivet import (
    ConfigurationError,
    Plugin,
    Settings,
)
from trivet._program._loader import Program, load
from trivet._program._plugin_tables import CheckedPlugin

HEADER = """\
from __future__ import annotations
import attrs
from trivet import *
"""

TEAPOT = """
class Teapot(BackgroundPlugin):
    step: float = 1.0
    kind: str = "green"
"""


class Directory:
    """A plugins' directory in the making."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, file: str, text: str) -> Path:
        """Write a module that begins with the usual imports, in three lines."""
        path = self.path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(HEADER + textwrap.dedent(text), encoding="utf-8")
        return path

    def settings(self, *names: str, **others: Any) -> Settings:
        return Settings(active_plugins=list(names), plugins_directory=self.path, **others)

    def load(self, *names: str, **settings: Any) -> Program:
        return load(self.settings(*names, **settings))

    def fault(self, *names: str, **settings: Any) -> str:
        with pytest.raises(ConfigurationError) as caught:
            self.load(*names, **settings)
        return str(caught.value)


def names(program: Program) -> list[str]:
    """Names of a program's plugins, in the order of activation."""
    return [one.cls.name for one in program.plugins]


def checked(
    cls: type[Plugin], table: Mapping[str, Any] | None = None, **more: Any
) -> CheckedPlugin:
    """Load one class with its table of settings."""
    settings = Settings(plugins={cls.name: dict(table or {})})
    (one,) = load(settings, plugins=[cls], **more).plugins
    return one


def refusal(
    classes: Iterable[type[Plugin]], tables: Mapping[str, Mapping[str, Any]] | None = None
) -> str:
    """The error's text for classes that should not load."""
    settings = Settings(plugins={name: dict(table) for name, table in (tables or {}).items()})
    with pytest.raises(ConfigurationError) as caught:
        load(settings, plugins=classes)
    return str(caught.value)
