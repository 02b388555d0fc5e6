"""Holds the loop by blocking calls."""

from __future__ import annotations

import time

from trivet import BackgroundPlugin


class SleepLoop(BackgroundPlugin):
    async def run(self) -> None:
        self.log.info("misbehaving")
        while True:
            time.sleep(0.01)
