"""Has a task that cannot be cancelled, and whose name cannot be told."""

from __future__ import annotations

from typing import Any

import trio

from trivet import BackgroundPlugin


def refuse(*_: object) -> Any:
    raise RuntimeError("it has no name")


class Nameless(str):
    __slots__ = ()
    __str__ = __repr__ = __format__ = refuse
    partition = refuse


async def stay() -> None:
    with trio.CancelScope(shield=True):
        await trio.sleep_forever()


class NamelessTask(BackgroundPlugin):
    async def run(self) -> None:
        self.log.info("misbehaving")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stay, name=Nameless())
