"""Waits behind a shield of its own."""

from __future__ import annotations

import trio

from trivet import BackgroundPlugin


class ShieldForever(BackgroundPlugin):
    async def run(self) -> None:
        self.log.info("misbehaving")
        with trio.CancelScope(shield=True):
            await trio.sleep_forever()
