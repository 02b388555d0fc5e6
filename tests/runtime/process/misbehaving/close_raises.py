"""Fails in its close."""

from __future__ import annotations

from trivet import BackgroundPlugin


class CloseRaises(BackgroundPlugin):
    async def close(self) -> None:
        self.log.info("misbehaving")
        raise ValueError("in close")
