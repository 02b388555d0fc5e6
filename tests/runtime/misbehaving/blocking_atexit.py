"""Has the interpreter call something at its exit that blocks."""

from __future__ import annotations

import atexit
import time

import trio

from trivet import BackgroundPlugin


class BlockingAtexit(BackgroundPlugin):
    async def run(self) -> None:
        self.log.info("misbehaving")
        atexit.register(time.sleep, 1000)
        await trio.sleep_forever()
