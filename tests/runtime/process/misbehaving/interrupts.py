"""Raises what Ctrl-C raises elsewhere."""

from __future__ import annotations

from trivet import BackgroundPlugin


class Interrupts(BackgroundPlugin):
    async def run(self) -> None:
        self.log.info("misbehaving")
        raise KeyboardInterrupt
