"""The escalation of a stop whose budget is over: who ends the process, when, with which exit code.

Owns the steps as data, in the order in which they act; each is for what the one before cannot end.
Never knows how a step ends the process: `_serve` takes the first, `_watchdog` the next two, and
`_parent` the last. `[shutdown]` limits the stages of the stop before; `StopPlan` has the deadlines.
"""

from __future__ import annotations

import attrs

from ._parent._wire import OVERRUN


@attrs.frozen
class EscalationStep:
    """One step that ends the process."""

    name: str
    after: float
    """Seconds after the last deadline of the stop."""
    exit_code: int


LOOP = EscalationStep("the event loop", 0.5, 70)
THREAD = EscalationStep("the watchdog's thread", 1.0, 71)
KERNEL = EscalationStep("a timer of the kernel", 1.5, 137)  # A shell's code for SIGKILL.
PARENT = EscalationStep("the parent process", 2.0, OVERRUN)

ESCALATION = (LOOP, THREAD, KERNEL, PARENT)

DUMP_AFTER = 1.25
"""Seconds after which faulthandler dumps the threads' stacks; the kill leaves no time for it."""
