"""Has thousands of tasks that cannot be cancelled, as one for each connection."""

from __future__ import annotations

import trio

from trivet import BackgroundPlugin


async def stay() -> None:
    with trio.CancelScope(shield=True):
        await trio.sleep_forever()


class Crowd(BackgroundPlugin):
    async def run(self) -> None:
        self.log.info("misbehaving")
        async with trio.open_nursery() as nursery:
            for _ in range(5000):
                nursery.start_soon(stay)
