"""The last lines of each plugin's log, for its operator.

Owns how many lines are kept, and for how many plugins.
Never knows how a line is made, nor who reads it; secrets are masked in it already.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence

import attrs

KEPT = 100
"""Lines of one plugin that are kept."""
LONGEST = 2000
"""Characters of a line that are kept."""
MOST = 2000
"""Plugins whose lines are kept: an author may log with any name."""

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


@attrs.frozen
class Line:
    """One line, as it was written."""

    level: str
    text: str


class Recent:
    """The last lines of each plugin."""

    def __init__(self) -> None:
        self._by_plugin: dict[str, deque[Line]] = {}

    def keep(self, plugin: object, level: object, text: str) -> None:
        """Keep a line, if it is a plugin's.

        Args:
            plugin: the plugin's name; anything but a string is none.
            level: the line's level.
            text: the line, with secrets masked.
        """
        if not isinstance(plugin, str):
            return
        lines = self._by_plugin.get(plugin)
        if lines is None:
            if len(self._by_plugin) >= MOST:
                return
            lines = self._by_plugin[plugin] = deque(maxlen=KEPT)
        lines.append(Line(str(level), text[:LONGEST]))

    def of(self, plugin: str) -> Sequence[Line]:
        """The last lines of a plugin, the earliest first, without colours."""
        lines = self._by_plugin.get(plugin, ())
        return [Line(each.level, _COLOURS.sub("", each.text)) for each in lines]


recent = Recent()
"""The lines of this process, which has one log."""
