"""Reads from where there is no memory, as a fault in an extension would."""

from __future__ import annotations

import ctypes

import trio

from trivet import BackgroundPlugin


class Segfault(BackgroundPlugin):
    async def run(self) -> None:
        self.log.info("misbehaving")
        await trio.lowlevel.checkpoint()
        ctypes.c_int.from_address(8).value += 1
