"""Has the interpreter call something at its exit that blocks."""

from __future__ import annotations

import atexit
import time

import trio

from trivet import BackgroundPlugin


def stay() -> None:
    time.sleep(1000)


class BlockingAtexit(BackgroundPlugin):
    async def run(self) -> None:
        self.log.info("misbehaving")
        atexit.register(stay)
        await trio.sleep_forever()
