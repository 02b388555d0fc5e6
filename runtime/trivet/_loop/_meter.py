"""Who uses the event loop, and how long at a time.

Owns the account of every step of every task, by plugin.
Never knows what is done about a long step: that is `_stall_watch`'s, from outside of the loop.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from time import perf_counter

import attrs
import trio

from ._processor import Processor, Sample
from ._tasks import plugin_of_task
from ._usage import SERVICE, Usage


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


@attrs.frozen
class Held:
    """For how long a step has held the loop."""

    seconds: float
    """Without the time in which the machine had no processor for it."""
    used: float
    """Seconds of processor time, at most."""

    @property
    def is_computing(self) -> bool:
        """Whether it computed most of the time; otherwise it waited in a call that blocks."""
        return self.used > self.seconds / 2


class StallMeter(trio.abc.Instrument):
    """Charges every step to the plugin whose task it is, so that it is never charged to a victim.

    It costs two calls and two readings of a clock for each step. Of a long one, the time for which
    the thread waited for a processor is not charged: that is the machine's, not the plugin's.

    Args:
        threshold: seconds from which a step is looked at.
        limit_of: seconds from which one is a stall, by its plugin and when it began; the
            threshold by default.
        processor: the account of the loop's thread.
    """

    __slots__ = (
        "_began",
        "_limit_of",
        "_processor",
        "_threshold",
        "accounts",
        "ended",
        "samples",
        "step",
        "steps",
    )

    def __init__(
        self,
        threshold: float,
        limit_of: Callable[[str, float], float] | None = None,
        processor: Processor | None = None,
    ) -> None:
        self.step: Step | None = None
        """The step that goes on now; read by another thread."""
        self.steps: int = 0
        """How many there have been."""
        self.ended: deque[tuple[Step, Held]] = deque(maxlen=100)
        """The last stalls that are over."""
        self.accounts: dict[str, Account] = {}
        self._began = perf_counter()
        self._threshold = threshold
        self._limit_of = limit_of
        self._processor = processor or Processor()
        first = self._processor.sample()
        self.samples: tuple[Sample, Sample] = first, first
        """Two moments at which the thread was looked at, the first before the step of now."""

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
        if took >= self._threshold:
            held = self.held(step, took, self._processor.sample())
            took = held.seconds
            if took >= self.limit_of(step):
                account.stalls += 1
                self.ended.append((step, held))
        account.busy += took
        account.longest = max(account.longest, took)

    def split(self) -> None:
        """Charge what the step has taken so far, and count what follows as another."""
        if self.step is not None:
            task = self.step[0]
            self.after_task_step(task)
            self.before_task_step(task)

    def limit_of(self, step: Step) -> float:
        """Seconds from which this step is a stall."""
        if self._limit_of is None:
            return self._threshold
        return self._limit_of(plugin_of(step), step[1])

    def sample(self) -> Sample:
        """Look at the loop's thread, from another one."""
        return self._processor.sample()

    def held_so_far(self, step: Step, now: Sample) -> Held:
        """For how long the step that goes on has held the loop; for another thread to ask."""
        held = self.held(step, now.at - step[1], now)
        if self._processor.is_runnable():
            # How long it waits for a processor is known when it has got one.
            return Held(min(held.seconds, held.used), held.used)
        return held

    def held(self, step: Step, took: float, now: Sample) -> Held:
        """For how long the step has held the loop, of the seconds that it took.

        What was used or waited for just before the step, since the last look, counts as the
        step's: in doubt nobody is blamed.
        """
        before = next((each for each in self.samples[::-1] if each.at <= step[1]), self.samples[0])
        seconds = max(0.0, took - (now.starved - before.starved))
        return Held(seconds, min(took, now.used - before.used))

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
