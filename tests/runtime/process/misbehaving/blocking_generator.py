"""Has an asynchronous generator whose end blocks."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator

import trio

from trivet import BackgroundPlugin


class BlockingGenerator(BackgroundPlugin):
    async def run(self) -> None:
        self.log.info("misbehaving")

        async def numbers() -> AsyncGenerator[int]:
            try:
                yield 1
            finally:
                time.sleep(1000)

        self.numbers = numbers()
        await anext(self.numbers)
        await trio.sleep_forever()
