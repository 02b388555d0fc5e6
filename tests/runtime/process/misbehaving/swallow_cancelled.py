"""Catches its cancellation, and waits again."""

from __future__ import annotations

import trio

from trivet import BackgroundPlugin


class SwallowCancelled(BackgroundPlugin):
    async def run(self) -> None:
        self.log.info("misbehaving")
        while True:
            try:
                await trio.sleep_forever()
            except trio.Cancelled:
                continue
