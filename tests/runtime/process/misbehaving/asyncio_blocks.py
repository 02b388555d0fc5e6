"""Holds the loop by blocking calls, in a task of asyncio's."""

from __future__ import annotations

import asyncio
import time

from trivet import AsyncioPlugin, BackgroundPlugin


class AsyncioBlocks(AsyncioPlugin, BackgroundPlugin):
    async def run(self) -> None:
        self.task = asyncio.create_task(self.block())

    async def block(self) -> None:
        self.log.info("misbehaving")
        while True:
            time.sleep(0.01)
