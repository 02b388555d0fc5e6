"""Exits in a task of asyncio's for which nobody waits."""

from __future__ import annotations

import asyncio
import sys

from trivet import AsyncioPlugin, BackgroundPlugin


class AsyncioExits(AsyncioPlugin, BackgroundPlugin):
    async def run(self) -> None:
        self.log.info("misbehaving")
        self.task = asyncio.create_task(self.leave())

    async def leave(self) -> None:
        sys.exit(9)
