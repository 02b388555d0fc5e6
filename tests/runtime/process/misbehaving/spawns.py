"""Starts tasks faster than they end."""

from __future__ import annotations

import trio

from trivet import BackgroundPlugin


class Spawns(BackgroundPlugin):
    async def run(self) -> None:
        self.log.info("misbehaving")
        async with trio.open_nursery() as nursery:
            while True:
                nursery.start_soon(trio.sleep, 0)
                await trio.lowlevel.checkpoint()
