"""Waits in a C function that lets go of the interpreter."""

from __future__ import annotations

import ctypes

from trivet import BackgroundPlugin


class PauseInC(BackgroundPlugin):
    async def run(self) -> None:
        self.log.info("misbehaving")
        ctypes.CDLL(None).pause()
