"""Yields to the event loop what it does not understand."""

from __future__ import annotations

from collections.abc import Generator

from trivet import BackgroundPlugin


class Garbage:
    def __await__(self) -> Generator[str]:
        yield "garbage"


class Yields(BackgroundPlugin):
    name = "garbage"

    async def run(self) -> None:
        self.log.info("misbehaving")
        await Garbage()
