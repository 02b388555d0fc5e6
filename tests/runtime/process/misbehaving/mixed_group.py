"""Fails in two ways at once, one of which is no Exception."""

from __future__ import annotations

import trio

from trivet import BackgroundPlugin


async def leave() -> None:
    raise SystemExit


async def fail() -> None:
    raise ValueError


class MixedGroup(BackgroundPlugin):
    async def run(self) -> None:
        self.log.info("misbehaving")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(leave)
            nursery.start_soon(fail)
