"""Polls behind a shield that is cancelled and made again."""

from __future__ import annotations

import trio

from trivet import BackgroundPlugin


class ShieldedCheckpoints(BackgroundPlugin):
    async def run(self) -> None:
        self.log.info("misbehaving")
        while True:
            with trio.CancelScope(shield=True) as scope:
                scope.cancel()
                await trio.sleep_forever()
