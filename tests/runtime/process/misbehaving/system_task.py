"""Runs on in a system task that cannot be cancelled."""

from __future__ import annotations

import trio

from trivet import BackgroundPlugin


async def stay() -> None:
    while True:
        try:
            await trio.sleep_forever()
        except BaseException:
            continue


class SystemTask(BackgroundPlugin):
    async def run(self) -> None:
        self.log.info("misbehaving")
        trio.lowlevel.spawn_system_task(stay)
        await trio.sleep_forever()
