"""Starts another task whenever one is cancelled."""

from __future__ import annotations

import trio

from trivet import BackgroundPlugin


async def another(nursery: trio.Nursery) -> None:
    try:
        await trio.sleep_forever()
    finally:
        nursery.start_soon(another, nursery)


class SpawnsAtTheEnd(BackgroundPlugin):
    async def run(self) -> None:
        self.log.info("misbehaving")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(another, nursery)
