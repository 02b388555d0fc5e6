"""Programs in a directory, which are changed while they run."""

from __future__ import annotations

import textwrap
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs

from trivet import Runtime, open_runtime
from trivet._program._collector import Faults
from trivet._program._reading import Change, Reading, read_settings
from trivet._program._structuring import NO_HINTS
from trivet._reload._reloader import Reloader, reloading

HEADER = """\
from __future__ import annotations
import trio
from trivet import *
"""

COUNTING = """
class Number(Event):
    value: int

class Counting(EventPlugin[Number]):
    step: int = 1

    async def initialize(self) -> None:
        self.seen = []

    async def handle_event(self, event: Number) -> None:
        self.seen.append(event.value * self.step)
"""


def plugin(runtime: Runtime, name: str) -> Any:
    """The instance of this name."""
    return runtime.hosts[name].plugin


class Files:
    """The settings' file and the plugins' files of a program."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.toml = path / "trivet.toml"
        self.environ: dict[str, str] = {}
        """The environment."""
        self.overrides: dict[str, object] = {}
        """The settings of the command line."""

    @property
    def overlay(self) -> Path:
        """The overlay's file."""
        return self.path / "trivet.overlay.toml"

    def settings(self, text: str) -> None:
        """Write the settings' file."""
        self.toml.write_text(textwrap.dedent(text), encoding="utf-8")

    def plugin(self, name: str, text: str) -> Path:
        """Write a plugin's file, which begins with the usual imports, in three lines."""
        file = self.path / "plugins" / f"{name}.py"
        file.parent.mkdir(exist_ok=True)
        file.write_text(HEADER + textwrap.dedent(text), encoding="utf-8")
        return file

    def read(
        self, faults: Faults, change: Change | None = None, hints: Mapping[str, str] = NO_HINTS
    ) -> Reading:
        """Read the settings as they are now."""
        return read_settings(self.toml, self.environ, self.overrides, faults, change, hints)

    @asynccontextmanager
    async def running(
        self, *, in_loop: bool = False, disabled: Mapping[str, str] | None = None
    ) -> AsyncGenerator[tuple[Runtime, Reloader]]:
        """Run the program, to be reloaded; in the loop where its clock jumps.

        Args:
            in_loop: whether its clock jumps.
            disabled: the plugins that start disabled, with the reasons.
        """
        faults = Faults()
        settings = attrs.evolve(self.read(faults).settings, disabled_plugins=disabled or {})
        faults.check()
        async with (
            open_runtime(settings) as runtime,
            reloading(runtime, self.read, in_loop=in_loop) as reloader,
        ):
            yield runtime, reloader
