"""Has Trio call an instrument that never returns."""

from __future__ import annotations

import time

import trio

from trivet import BackgroundPlugin


class Blocking(trio.abc.Instrument):
    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        time.sleep(1000)


class BlockingInstrument(BackgroundPlugin):
    async def run(self) -> None:
        self.log.info("misbehaving")
        trio.lowlevel.add_instrument(Blocking())
        await trio.sleep_forever()
