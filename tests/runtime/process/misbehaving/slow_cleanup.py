"""Takes its time behind a shield when it is cancelled."""

from __future__ import annotations

import trio

from trivet import BackgroundPlugin


class SlowCleanup(BackgroundPlugin):
    async def run(self) -> None:
        self.log.info("misbehaving")
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(1000)
