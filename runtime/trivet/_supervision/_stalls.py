"""Who uses the event loop, and how long at a time.

Owns the account of every step of every task, by plugin.
Never knows what is done about a long step: that is `_stall_watch`'s, from outside of the loop.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from time import perf_counter

import attrs
import trio

from .._usage import SERVICE, Usage
from ._tasks import plugin_of_task


@attrs.define(eq=False)
class Account:
    """One plugin's use of the loop so far."""

    busy: float = 0.0
    longest: float = 0.0
    stalls: int = 0
    cpu: float = 0.0


Step = tuple[trio.lowlevel.Task, float]
"""A task that the loop has resumed, and when, by `perf_counter`. A tuple: one is made each time."""


def plugin_of(step: Step) -> str:
    """Whose it is."""
    return step[0].context.get(plugin_of_task, SERVICE)


class StallMeter(trio.abc.Instrument):
    """Charges every step to the plugin whose task it is, so that it is never charged to a victim.

    It costs two calls and two readings of a clock for each step.

    Args:
        threshold: seconds from which a step is a stall.
    """

    __slots__ = ("_began", "_threshold", "accounts", "ended", "step", "steps")

    def __init__(self, threshold: float) -> None:
        self.step: Step | None = None
        """The step that goes on now; read by another thread."""
        self.steps: int = 0
        """How many there have been."""
        self.ended: deque[tuple[Step, float]] = deque(maxlen=100)
        """The last stalls that are over, with their seconds."""
        self.accounts: dict[str, Account] = {}
        self._began = perf_counter()
        self._threshold = threshold

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """A task goes on."""
        self.step = (task, perf_counter())

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """It waits again, or has ended."""
        step = self.step
        if step is None:
            return  # The step in which this was put in place.
        took = perf_counter() - step[1]
        self.step = None
        self.steps += 1
        plugin = task.context.get(plugin_of_task, SERVICE)
        try:
            account = self.accounts[plugin]
        except KeyError:
            account = self.accounts[plugin] = Account()
        account.busy += took
        account.longest = max(account.longest, took)
        if took >= self._threshold:
            account.stalls += 1
            self.ended.append((step, took))

    def usage(self) -> Mapping[str, Usage]:
        """What each plugin has used."""
        elapsed = max(perf_counter() - self._began, 1e-9)
        return {
            plugin: Usage(
                busy=account.busy,
                share=account.busy / elapsed,
                cpu=account.cpu,
                longest=account.longest,
                stalls=account.stalls,
            )
            for plugin, account in self.accounts.items()
        }
