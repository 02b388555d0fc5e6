"""Runs an event loop inside the event loop."""

from __future__ import annotations

import trio

from trivet import BackgroundPlugin


class NestedRun(BackgroundPlugin):
    async def run(self) -> None:
        self.log.info("misbehaving")
        trio.run(trio.sleep_forever)
