"""Has a system task that raises, which ends Trio's run itself."""

from __future__ import annotations

import trio

from trivet import BackgroundPlugin


async def fall() -> None:
    raise ValueError("a system task")


class SystemTaskCrashes(BackgroundPlugin):
    async def run(self) -> None:
        self.log.info("misbehaving")
        trio.lowlevel.spawn_system_task(fall)
        await trio.sleep_forever()
