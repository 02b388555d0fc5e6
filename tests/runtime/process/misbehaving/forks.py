"""Makes a copy of the whole program."""

from __future__ import annotations

import os

import trio

from trivet import BackgroundPlugin


class Forks(BackgroundPlugin):
    async def run(self) -> None:
        self.log.info("misbehaving")
        os.fork()
        await trio.sleep_forever()
