"""Leaves a thread that the interpreter waits for."""

from __future__ import annotations

import threading
import time

import trio

from trivet import BackgroundPlugin


def stay() -> None:
    time.sleep(1000)


class LeftThread(BackgroundPlugin):
    async def run(self) -> None:
        self.log.info("misbehaving")
        threading.Thread(target=stay).start()
        await trio.sleep_forever()
