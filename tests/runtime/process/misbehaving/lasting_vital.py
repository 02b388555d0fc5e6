"""Gives up, which the program cannot go on without, and leaves a thread that stays."""

from __future__ import annotations

import threading
import time

import trio

from trivet import BackgroundPlugin, SupervisionSettings


class LastingVital(BackgroundPlugin):
    supervision = SupervisionSettings(critical=True, max_restarts=0)

    async def run(self) -> None:
        self.log.info("misbehaving")
        threading.Thread(target=time.sleep, args=(1000,)).start()
        await trio.sleep(1)
        raise ValueError("vital")
