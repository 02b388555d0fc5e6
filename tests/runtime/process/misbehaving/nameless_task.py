"""Has a task that cannot be cancelled, and whose name cannot be told."""

from __future__ import annotations

import trio

from trivet import BackgroundPlugin


class Nameless(str):
    __slots__ = ()

    def __str__(self) -> str:
        raise RuntimeError("it has no name")

    __repr__ = __str__

    def __format__(self, spec: str) -> str:
        raise RuntimeError("it has no name")

    def partition(self, sep: str, /) -> tuple[str, str, str]:
        raise RuntimeError("it has no name")


async def stay() -> None:
    with trio.CancelScope(shield=True):
        await trio.sleep_forever()


class NamelessTask(BackgroundPlugin):
    async def run(self) -> None:
        self.log.info("misbehaving")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stay, name=Nameless())
