"""The meter of the event loop: which plugin uses it, and how long at a time.

Owns the account of every step of every task, by plugin.
Never knows what follows from a long step: that is `_stall_watch`'s, from outside of the loop.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from time import perf_counter

import attrs
import trio

from ._kept_stalls import KeptStalls
from ._processor import Processor, Sample
from ._tasks import plugin_of_task
from ._usage import SERVICE, Usage


@attrs.define(eq=False)
class Account:
    """One plugin's use of the loop so far."""

    busy: float = 0.0
    longest: float = 0.0
    stalls: int = 0
    stalled: float = 0.0
    cpu: float = 0.0


Step = tuple[trio.lowlevel.Task, float]
"""A task that the loop has resumed, and the moment, by `perf_counter`. A tuple, since each step
makes one."""


def plugin_of(step: Step) -> str:
    """The plugin whose step it is."""
    return step[0].context.get(plugin_of_task, SERVICE)


@attrs.frozen
class Held:
    """The time for which a step has held the loop."""

    seconds: float
    """Seconds, without those in which the machine had no processor for the step."""
    used: float
    """Seconds of processor time; an upper bound."""

    @property
    def is_computing(self) -> bool:
        """Whether the step computed most of the time; otherwise it waited in a blocking call."""
        return self.used > self.seconds / 2


class StallMeter(trio.abc.Instrument):
    """Charges every step to the plugin whose task it is, and never to a victim of the step.

    A step costs two calls and two readings of a clock more. The time for which the thread of a long
    step waited for a processor is not charged: the machine is to blame, not the plugin.

    Args:
        threshold: seconds from which a step is examined.
        limit_of: seconds from which a step is a stall, by its plugin and the moment at which it
            began; the threshold by default.
        processor: the account of the loop's thread.
    """

    __slots__ = (
        "_began",
        "_limit_of",
        "_processor",
        "_threshold",
        "accounts",
        "ended",
        "kept",
        "samples",
        "started",
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
        """The current step; another thread reads it."""
        self.steps: int = 0
        """The number of steps so far."""
        self.ended: deque[tuple[Step, Held]] = deque(maxlen=100)
        """The last stalls that are over."""
        self.kept: KeptStalls = KeptStalls()
        """The last stalls with their profiles, which another thread adds."""
        self.accounts: dict[str, Account] = {}
        self.started: dict[trio.lowlevel.Task, float] = {}
        """The moments at which the living tasks were started, by `perf_counter`."""
        self._began = perf_counter()
        self._threshold = threshold
        self._limit_of = limit_of
        self._processor = processor or Processor()
        first = self._processor.sample()
        self.samples: tuple[Sample, Sample] = first, first
        """Two samples of the thread, the first from before the current step."""

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        """Note the start of a task."""
        self.started[task] = perf_counter()

    def task_exited(self, task: trio.lowlevel.Task) -> None:
        """Forget a task that has ended."""
        self.started.pop(task, None)

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """Begin a step."""
        self.step = (task, perf_counter())

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """End the step: the task waits again, or has ended."""
        step = self.step
        if step is None:
            return  # The step in which this instrument was added.
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
                account.stalled += took
                self.ended.append((step, held))
        account.busy += took
        account.longest = max(account.longest, took)

    def split(self) -> None:
        """End the step so far, and count the rest as another step."""
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
        """Take a sample of the loop's thread; another thread may ask."""
        return self._processor.sample()

    def held_so_far(self, step: Step, now: Sample) -> Held:
        """The time for which the current step has held the loop; another thread may ask."""
        held = self.held(step, now.at - step[1], now)
        if self._processor.is_runnable():
            # The kernel counts a wait for a processor only when the wait is over.
            return Held(min(held.seconds, held.used), held.used)
        return held

    def held(self, step: Step, took: float, now: Sample) -> Held:
        """The time for which the step has held the loop, out of the `took` seconds of its length.

        Waits for a processor between the last sample and the step count as the step's: in doubt
        nobody is blamed.
        """
        before = next((each for each in self.samples[::-1] if each.at <= step[1]), self.samples[0])
        seconds = max(0.0, took - (now.starved - before.starved))
        return Held(seconds, min(took, now.used - before.used))

    def usage(self) -> Mapping[str, Usage]:
        """The use of the loop by plugin."""
        elapsed = max(perf_counter() - self._began, 1e-9)
        return {
            plugin: Usage(
                busy=account.busy,
                share=account.busy / elapsed,
                cpu=account.cpu,
                longest=account.longest,
                stalls=account.stalls,
                stalled=account.stalled,
            )
            for plugin, account in self.accounts.items()
        }
