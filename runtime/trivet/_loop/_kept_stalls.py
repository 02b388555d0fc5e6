"""The last stalls of the event loop, each with its profile.

Owns how many of them are kept.
Never knows how a stall is noticed, nor who asks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import attrs

KEPT = 20
"""Stalls that are kept; each has at most `_profile.LARGEST` bytes."""


@attrs.frozen(kw_only=True)
class Stall:
    """One stall that is over."""

    number: int
    """From 1 on, in this process."""
    plugin: str
    began: float
    """The moment at which the plugin began to hold the loop, by `perf_counter`."""
    seconds: float
    """Seconds, without those in which the machine had no processor for it."""
    doing: str
    """The plugin's activity: `computing`, `waiting in a call` or `running an asyncio loop`."""
    task: str
    """The name of the task."""
    at: str
    """The author's line at the first sample, as in the log."""
    document: bytes = attrs.field(repr=False)
    """The profile, in speedscope's file format."""


class KeptStalls:
    """The last stalls, which one thread adds and others read."""

    def __init__(self) -> None:
        self._number = 0
        self._kept: tuple[Stall, ...] = ()

    def keep(
        self,
        *,
        plugin: str,
        began: float,
        seconds: float,
        doing: str,
        task: str,
        at: str,
        document: bytes,
    ) -> None:
        """Keep a stall; where there are too many, the plugin with the most loses its oldest one."""
        self._number += 1
        kept = self._kept
        if len(kept) >= KEPT:
            most = Counter(each.plugin for each in kept).most_common(1)[0][0]
            oldest = next(each for each in kept if each.plugin == most)
            kept = tuple(each for each in kept if each is not oldest)
        stall = Stall(
            number=self._number,
            plugin=plugin,
            began=began,
            seconds=seconds,
            doing=doing,
            task=task,
            at=at,
            document=document,
        )
        self._kept = (*kept, stall)  # In one step, for other threads.

    def all(self) -> Sequence[Stall]:
        """The stalls that are kept, the earliest first."""
        return self._kept

    def get(self, number: int) -> Stall | None:
        """A stall by its number; None if it is not kept."""
        return next((each for each in self._kept if each.number == number), None)
