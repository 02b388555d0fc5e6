"""Opens one nursery in the other, deeper than Python recurses, and cannot be cancelled."""

from __future__ import annotations

from contextlib import AsyncExitStack

import trio

from trivet import BackgroundPlugin


async def deeper(levels: int) -> None:
    if not levels:
        with trio.CancelScope(shield=True):
            await trio.sleep_forever()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(deeper, levels - 1)


class NestedNurseries(BackgroundPlugin):
    async def run(self) -> None:
        self.log.info("misbehaving")
        async with AsyncExitStack() as stack:
            for _ in range(100):
                await stack.enter_async_context(trio.open_nursery())
            await deeper(1500)
