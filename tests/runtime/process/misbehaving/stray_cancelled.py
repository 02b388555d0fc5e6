"""Raises a cancellation that it has kept from a scope which is over."""

from __future__ import annotations

import trio

from trivet import BackgroundPlugin


class StrayCancelled(BackgroundPlugin):
    async def run(self) -> None:
        self.log.info("misbehaving")
        kept: list[trio.Cancelled] = []
        with trio.CancelScope() as scope:
            scope.cancel()
            try:
                await trio.lowlevel.checkpoint()
            except trio.Cancelled as cancelled:
                kept.append(cancelled)
                raise
        raise kept[0]
