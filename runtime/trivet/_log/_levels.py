"""The level from which lines are logged: the program's, and for some plugins one of their own.

Owns the levels, and the class of loggers that keeps to them.
Never knows who changes a level. A change lives as long as the process.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, Literal

import structlog
from structlog.typing import EventDict, WrappedLogger

Level = Literal["debug", "info", "warning", "error"]
NUMBERS: Mapping[str, int] = {
    name: getattr(logging, name.upper()) for name in ("debug", "info", "warning", "error")
}
"""Each level's number, the lowest first."""


class Levels:
    """The levels of one log.

    Methods below all of the levels do nothing, at no cost. While a plugin has a level of its own,
    each line that passes is compared with the level of its plugin.

    Args:
        level: the program's level.
        guarded: derives the methods of a logger from those of structlog's loggers of a level.
        before: the levels of the log before its settings were read anew: those of plugins stay.
    """

    def __init__(
        self,
        level: Level,
        guarded: Callable[[type[Any]], Mapping[str, Any]],
        before: Levels | None = None,
    ) -> None:
        self.level: Level = level
        """The program's level."""
        self._of: Mapping[str, Level] = {} if before is None else before._of
        self._guarded = guarded
        everything: type[Any] = structlog.make_filtering_bound_logger(logging.NOTSET)
        new: type[Any] = type("Logger", (everything,), {})
        self.logger: type[Any] = new if before is None else before.logger
        """The class of loggers. One for good: loggers that a plugin keeps change with it."""
        self._apply()

    def of(self, plugin: str) -> Level:
        """The level from which the lines of a plugin are logged."""
        return self._of.get(plugin, self.level)

    def set(self, plugin: str, level: Level | None) -> None:
        """Give a plugin a level of its own; None takes it away."""
        others: dict[str, Level] = {**self._of}
        others.pop(plugin, None)
        self._of = others if level is None else {**others, plugin: level}
        self._apply()

    def _apply(self) -> None:
        lowest = min(NUMBERS[level] for level in (self.level, *self._of.values()))
        filtering = structlog.make_filtering_bound_logger(lowest)
        inherited = {key: value for key, value in vars(filtering).items() if key[0] != "_"}
        for name, method in {**inherited, **self._guarded(filtering)}.items():
            setattr(self.logger, name, method)

    def __call__(self, logger: WrappedLogger, method: str, event_dict: EventDict) -> EventDict:
        """Drop a line below the level of its plugin; a processor of structlog's."""
        if self._of:
            plugin: object = event_dict.get("plugin")
            level = self.of(plugin) if type(plugin) is str else self.level
            if NUMBERS.get(method, logging.ERROR) < NUMBERS[level]:
                raise structlog.DropEvent
        return event_dict


_current: Levels | None = None


def use(levels: Levels) -> None:
    """Note the levels of the process's log."""
    global _current  # noqa: PLW0603 - as structlog's configuration, which they are a part of
    _current = levels


def levels_in_use() -> Levels | None:
    """The levels of the process's log; None where the code around Trivet has configured it."""
    configured: object = structlog.get_config()["wrapper_class"]
    return _current if _current is not None and configured is _current.logger else None
