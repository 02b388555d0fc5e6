"""Has an object that blocks when it is collected."""

from __future__ import annotations

import time

import trio

from trivet import BackgroundPlugin


class BlockingFinaliser(BackgroundPlugin):
    async def run(self) -> None:
        self.log.info("misbehaving")

        class Sticky:
            def __del__(self) -> None:
                time.sleep(1000)

        sticky = Sticky()
        await trio.sleep_forever()
        del sticky
