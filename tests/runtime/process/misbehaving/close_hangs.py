"""Never ends its close."""

from __future__ import annotations

import trio

from trivet import BackgroundPlugin


class CloseHangs(BackgroundPlugin):
    async def close(self) -> None:
        self.log.info("misbehaving")
        await trio.sleep_forever()
