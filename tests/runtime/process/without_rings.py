"""The command `trivet` without some of the rings that end a stop.

    python tests/runtime/process/without_rings.py loop,thread serve …

The program is a copy of this very process, so what is replaced here is replaced there.
"""

from __future__ import annotations

import sys
import time

import trio

from trivet._cli import main
from trivet._process import _serve
from trivet._process._ladder import Ring
from trivet._process._watchdog import KernelTimer, Watchdog


async def never(*arguments: object) -> None:
    """In place of the task that ends the process from inside the event loop."""
    await trio.sleep_forever()


def wait(watchdog: Watchdog, ring: Ring) -> None:
    """In place of the thread's end of the process."""
    time.sleep(1000)


def leave(timer: KernelTimer, seconds: float) -> None:
    """In place of arming the timer."""


def take_away(ring: str) -> None:
    """Have this ring do nothing."""
    if ring == "loop":
        setattr(_serve, "_leave_when_overrun", never)  # noqa: B010
    elif ring == "thread":
        setattr(Watchdog, "end", wait)  # noqa: B010
    elif ring == "kernel":
        setattr(KernelTimer, "arm", leave)  # noqa: B010
    else:
        raise ValueError(ring)


if __name__ == "__main__":
    for name in filter(None, sys.argv.pop(1).split(",")):
        take_away(name)
    main()
