"""Starts a shielded task in the outermost nursery that it finds."""

from __future__ import annotations

import trio

from trivet import BackgroundPlugin


async def stay() -> None:
    with trio.CancelScope(shield=True):
        await trio.sleep_forever()


class ForeignNursery(BackgroundPlugin):
    async def run(self) -> None:
        self.log.info("misbehaving")
        nursery = trio.lowlevel.current_task().parent_nursery
        while nursery and (outer := nursery.parent_task.parent_nursery):
            if outer.parent_task is trio.lowlevel.current_root_task():
                nursery.start_soon(stay)
            nursery = outer
        await trio.sleep_forever()
