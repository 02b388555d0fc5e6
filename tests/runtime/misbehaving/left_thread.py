"""Leaves a thread that the interpreter waits for."""

from __future__ import annotations

import threading
import time

import trio

from trivet import BackgroundPlugin


class LeftThread(BackgroundPlugin):
    async def run(self) -> None:
        self.log.info("misbehaving")
        threading.Thread(target=time.sleep, args=(1000,)).start()
        await trio.sleep_forever()
