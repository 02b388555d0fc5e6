"""The reloads of a program that runs, as those ask for them who know no more of it.

Owns the promise.
Never knows how a reload is done.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from ._difference import Change


class Reloads(Protocol):
    """See `Reloader`, which has these methods."""

    async def reload(self) -> tuple[Change, ...]:
        """Read the settings anew, and the files that differ."""
        ...

    async def reload_plugin(self, plugin: str) -> tuple[Change, ...]:
        """Import the code of a plugin anew, by its name."""
        ...

    async def change_settings(
        self, patch: Mapping[str, Any], version: str | None
    ) -> tuple[tuple[Change, ...], str | None]:
        """Change settings by a JSON merge patch, if they have the version; returns the next."""
        ...

    def version(self) -> str:
        """The version of the settings; it reads a file, and belongs into a thread."""
        ...
