"""Blocks in its close."""

from __future__ import annotations

import time

from trivet import BackgroundPlugin


class CloseBlocks(BackgroundPlugin):
    async def close(self) -> None:
        self.log.info("misbehaving")
        time.sleep(1000)
