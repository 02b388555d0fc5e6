"""Takes every worker thread that there may be, and waits for none of them."""

from __future__ import annotations

import time

import trio

from trivet import BackgroundPlugin


class AllThreads(BackgroundPlugin):
    async def run(self) -> None:
        self.log.info("misbehaving")
        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(trio.to_thread.run_sync, time.sleep, 1000)
