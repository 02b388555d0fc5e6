"""Stops its own process with a signal that cannot be caught."""

from __future__ import annotations

import os
import signal

import trio

from trivet import BackgroundPlugin


class Stopped(BackgroundPlugin):
    async def run(self) -> None:
        self.log.info("misbehaving")
        os.kill(os.getpid(), signal.SIGSTOP)
        await trio.sleep_forever()
