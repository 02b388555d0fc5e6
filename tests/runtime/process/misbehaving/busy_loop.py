"""Holds the loop by computing."""

from __future__ import annotations

from trivet import BackgroundPlugin


class BusyLoop(BackgroundPlugin):
    async def run(self) -> None:
        self.log.info("misbehaving")
        while True:
            pass
