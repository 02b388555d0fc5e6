"""The command `trivet` without some steps of the escalation that ends a stop.

    python tests/runtime/process/without_steps.py loop,thread serve …

The program is a copy of this very process, so what is replaced here is replaced there.
"""

from __future__ import annotations

import sys
import time

import trio

from trivet._cli import main
from trivet._process import _serve
from trivet._process._escalation import EscalationStep
from trivet._process._watchdog import KernelTimer, Watchdog


async def never(*arguments: object) -> None:
    """In place of the task that ends the process from inside the event loop."""
    await trio.sleep_forever()


def wait(watchdog: Watchdog, step: EscalationStep) -> None:
    """In place of the thread's end of the process."""
    time.sleep(1000)


def leave(timer: KernelTimer, seconds: float) -> None:
    """In place of arming the timer."""


def take_away(step: str) -> None:
    """Have this step do nothing."""
    if step == "loop":
        setattr(_serve, "_leave_when_overrun", never)  # noqa: B010
    elif step == "thread":
        setattr(Watchdog, "end_process", wait)  # noqa: B010
    elif step == "kernel":
        setattr(KernelTimer, "arm", leave)  # noqa: B010
    else:
        raise ValueError(step)


if __name__ == "__main__":
    for name in filter(None, sys.argv.pop(1).split(",")):
        take_away(name)
    main()
