"""Has a task that cannot be cancelled, and whose name cannot be told."""

from __future__ import annotations

import trio

from trivet import BackgroundPlugin


class Nameless(str):
    __slots__ = ()

    def _refuse(self, *_: object) -> str:
        raise RuntimeError("it has no name")

    __str__ = __repr__ = __format__ = _refuse  # type: ignore[assignment]
    partition = split = encode = _refuse


async def stay() -> None:
    with trio.CancelScope(shield=True):
        await trio.sleep_forever()


class NamelessTask(BackgroundPlugin):
    async def run(self) -> None:
        self.log.info("misbehaving")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stay, name=Nameless())
