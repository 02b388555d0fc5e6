"""Leaves standard error as a full pipe, and holds the interpreter."""

from __future__ import annotations

import collections
import itertools
import os

from trivet import BackgroundPlugin


class FullStderr(BackgroundPlugin):
    async def run(self) -> None:
        self.log.info("misbehaving")
        os.dup2(os.pipe()[1], 2)
        os.set_blocking(2, False)
        try:
            while True:
                os.write(2, b"x" * 65536)
        except BlockingIOError:
            os.set_blocking(2, True)
        collections.deque(itertools.repeat(0), maxlen=0)
