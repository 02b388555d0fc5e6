"""Leaves a timer that the interpreter waits for; none of its own code is on any stack."""

from __future__ import annotations

import threading

import trio

from trivet import BackgroundPlugin


def much_later() -> None:
    pass


class LeftTimer(BackgroundPlugin):
    async def run(self) -> None:
        self.log.info("misbehaving")
        threading.Timer(1000, much_later).start()
        await trio.sleep_forever()
