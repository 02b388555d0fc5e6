"""The rings that end a stop whose budget is over: who acts, when, and with which exit code.

Owns these as data, in the order in which they act; each is for what the one before cannot end.
Never knows how a ring does it: `_serve` is the first, `_supervision._watchdog` the next two, and
`_parent` the last. The stages before them are `[shutdown]`'s, and `StopPlan` has their deadlines.
"""

from __future__ import annotations

import attrs

from . import _parent


@attrs.frozen
class Ring:
    """One of those who end the process."""

    name: str
    after: float
    """Seconds after the last deadline of the stop."""
    exit_code: int


LOOP = Ring("the event loop", 0.5, 70)
THREAD = Ring("the watchdog's thread", 1.0, 71)
KERNEL = Ring("a timer of the kernel", 1.5, 137)  # As a shell says SIGKILL.
PARENT = Ring("the parent process", 2.0, _parent.OVERRUN)

LADDER = (LOOP, THREAD, KERNEL, PARENT)

DUMP_AFTER = 1.25
"""Seconds after which faulthandler is asked where the threads stand; the kill leaves no time."""
