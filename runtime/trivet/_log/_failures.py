"""Failures that repeat: the first of a kind is logged whole, the others by their number.

Owns what makes two failures one kind, and how often a kind is a line of the log.
Never knows inboxes: no counter depends on what is logged.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import attrs
import trio

from .._faults._containment import members, one_line, open_transparent_nursery
from .._faults._frames import Authors, lines_of

EVERY = 60.0
"""Seconds in which a kind of failure is one line of the log at most, besides the first."""
MOST = 1000
"""Kinds that are known at once; beyond that, the oldest is forgotten before its time."""

Log = Callable[..., Any]
"""A method of a logger."""


@attrs.define(eq=False)
class _Kind:
    """The failures of one kind since the last line about it."""

    until: float
    """The end of the time in which they are counted."""
    count: int = 0
    tell: Log | None = None
    """Logs the last one of them."""

    def end(self) -> bool:
        """Log the failures that were counted, if there are any; says whether there were."""
        if self.tell is None:
            return False
        self.tell(repeated=self.count)
        return True


class Failures:
    """The failures of one program lately, by their kinds.

    Failures of one plugin with events of one type, or with one page, are of one kind if the log
    says the same of them, and their exceptions have one class and come from one line of the
    author's.
    """

    def __init__(self) -> None:
        self._kinds: dict[tuple[str, ...], _Kind] = {}  # In the order of their ends.
        self._is_counted = trio.Event()

    def log(
        self,
        log: Log,
        what: str,
        error: BaseException,
        facts: Mapping[str, Any],
        *,
        plugin: str,
        event: str,
        whole: Mapping[str, Any],
    ) -> None:
        """Log a failure, or count it.

        Args:
            log: the method of a logger.
            what: the message.
            error: the failure.
            facts: values of the line; those of the last failure stand beside the number.
            plugin: the plugin whose failure it is.
            event: the type of the event, or the name of the page.
            whole: further values of a line about a failure of a new kind.
        """
        now = trio.current_time()
        self._tell_until(now)
        first = next(members(error))
        place = Authors().place(lines_of(first) or lines_of(error))
        key = (plugin, what, event, type(first).__module__, type(first).__qualname__, place)
        kind = self._kinds.get(key)
        if kind is None:
            while len(self._kinds) >= MOST:
                self._kinds.pop(next(iter(self._kinds))).end()
            self._kinds[key] = _Kind(now + EVERY)
            log(what, **facts, **whole)
            return
        kind.count += 1
        kind.tell = partial(log, what, **facts, error=one_line(error), at=place)
        self._is_counted.set()

    def _tell_until(self, now: float) -> None:
        """Log what was counted in the times that are over, and forget kinds that have not recurred.

        A kind that has is counted for another time.
        """
        while self._kinds:
            key, kind = next(iter(self._kinds.items()))
            if kind.until > now:
                return
            del self._kinds[key]
            if kind.end():
                self._kinds[key] = _Kind(now + EVERY)

    @asynccontextmanager
    async def told(self) -> AsyncGenerator[None]:
        """Log the failures that were counted, in time; the rest when the block is left."""
        try:
            async with open_transparent_nursery() as nursery:
                nursery.start_soon(self._tell)
                yield
        finally:
            for kind in self._kinds.values():
                kind.end()
            self._kinds.clear()

    async def _tell(self) -> None:
        while True:
            await self._is_counted.wait()
            self._is_counted = trio.Event()
            while any(kind.count for kind in self._kinds.values()):
                await trio.sleep_until(next(iter(self._kinds.values())).until)
                self._tell_until(trio.current_time())
