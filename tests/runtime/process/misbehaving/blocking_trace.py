"""Has every further call of a function wait."""

from __future__ import annotations

import sys
import time
from types import FrameType

import trio

from trivet import BackgroundPlugin


def wait(frame: FrameType, event: str, argument: object) -> None:
    time.sleep(1000)


class BlockingTrace(BackgroundPlugin):
    async def run(self) -> None:
        self.log.info("misbehaving")
        sys.setprofile(wait)
        await trio.sleep_forever()
