"""Leaves a task of asyncio's that catches its cancellations."""

from __future__ import annotations

import asyncio

from trivet import AsyncioPlugin, BackgroundPlugin


class AsyncioStays(AsyncioPlugin, BackgroundPlugin):
    async def run(self) -> None:
        self.log.info("misbehaving")
        self.task = asyncio.create_task(self.stay())

    async def stay(self) -> None:
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                continue
