"""Holds the interpreter in one call of a C function, for ever."""

from __future__ import annotations

import collections
import itertools

from trivet import BackgroundPlugin


class GilDeque(BackgroundPlugin):
    async def run(self) -> None:
        self.log.info("misbehaving")
        collections.deque(itertools.repeat(0), maxlen=0)
