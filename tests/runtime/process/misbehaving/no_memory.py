"""Asks for more memory than there is."""

from __future__ import annotations

from trivet import BackgroundPlugin


class NoMemory(BackgroundPlugin):
    async def run(self) -> None:
        self.log.info("misbehaving")
        bytes(1 << 62)
