"""Enters a scope in one task and leaves it in another."""

from __future__ import annotations

import trio

from trivet import BackgroundPlugin


async def enter(scope: trio.CancelScope, entered: trio.Event) -> None:
    scope.__enter__()
    entered.set()
    await trio.sleep(0.1)


class LeakedScope(BackgroundPlugin):
    async def run(self) -> None:
        self.log.info("misbehaving")
        scope, entered = trio.CancelScope(), trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(enter, scope, entered)
            await entered.wait()
            scope.__exit__(None, None, None)
            await trio.sleep(0.1)
