"""Catches its cancellation on asyncio, and waits again."""

from __future__ import annotations

import asyncio

from trivet import AsyncioPlugin, BackgroundPlugin


class AsyncioSwallows(AsyncioPlugin, BackgroundPlugin):
    async def run(self) -> None:
        self.log.info("misbehaving")
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                continue
