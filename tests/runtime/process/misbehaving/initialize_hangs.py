"""Never ends its start."""

from __future__ import annotations

import trio

from trivet import BackgroundPlugin


class InitializeHangs(BackgroundPlugin):
    async def initialize(self) -> None:
        self.log.info("misbehaving")
        await trio.sleep_forever()
