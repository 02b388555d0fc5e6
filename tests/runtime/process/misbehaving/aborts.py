"""Calls `abort`, as a failed assertion in an extension would."""

from __future__ import annotations

import os

import trio

from trivet import BackgroundPlugin


class Aborts(BackgroundPlugin):
    async def run(self) -> None:
        self.log.info("misbehaving")
        await trio.lowlevel.checkpoint()
        os.abort()
