"""Handlers that wait for the end of what they have published, and whether that can ever come.

Owns the search for a circle: a plugin waits for itself, or for another that waits for it.
Never knows what a handler does, nor how it is told.

A plugin is blocked when all its workers wait, each for an event that a blocked plugin would have to
handle. A publisher outside of a handler blocks nobody. Nor does a `run()` of the author's own,
since nobody knows how it reads its inbox.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Generator, Sequence
from contextlib import contextmanager

import attrs
import trio

from .._events._delivery import Delivery, Receipt
from .._events._delivery import delivery_of_task as current
from .._events._event import Event
from .._faults._errors import DeadlockError
from .._inbox._workers import workers
from ._bus import Subscription


@attrs.frozen(eq=False)
class Wait:
    """A worker that waits, and the plugins that it waits for."""

    worker: trio.lowlevel.Task
    receipt: Receipt
    subscribers: frozenset[str]

    @property
    def plugin(self) -> str:
        """The name of the worker's plugin."""
        return workers[self.worker]

    @property
    def pending(self) -> list[str]:
        """The plugins that have not ended the event."""
        fates = self.receipt.fates
        return [name for name in self.subscribers if name not in fates or fates[name].alive]


class Waits:
    """The waits of the workers of one program."""

    def __init__(self) -> None:
        self._waits: set[Wait] = set()
        self._crews: dict[str, int] = {}
        """The number of workers of each plugin that was waited for."""

    @contextmanager
    def during(
        self, delivery: Delivery[Event], subscriptions: Sequence[Subscription]
    ) -> Generator[None]:
        """Note a wait, around the publishing of an event and the wait for its end.

        Raises:
            DeadlockError: before the event is published: its end would never come.
        """
        worker = _worker_around()
        if worker is None or delivery.receipt is None:
            yield
            return
        wanted = [each for each in subscriptions if each.admission.is_wanted(delivery)]
        self._crews |= {each.plugin: each.inbox.policy.concurrency for each in wanted}
        wait = Wait(worker, delivery.receipt, frozenset(each.plugin for each in wanted))
        self._waits.add(wait)
        try:
            circle = self._circle(wait) or _own_lane(wait, delivery, wanted)
            if circle:
                raise DeadlockError(wait.plugin, delivery.event.__event_name__, circle)
            yield
        finally:
            self._waits.discard(wait)

    def of(self, plugins: Collection[str]) -> set[str]:
        """The plugins for which the workers of these plugins wait."""
        return {name for wait in self._waits if wait.plugin in plugins for name in wait.pending}

    def _circle(self, wait: Wait) -> list[str]:
        """The plugins of which each waits for the next, if this wait closes such a circle."""
        stuck = self._stuck()
        by_plugin = {each.plugin: each for each in stuck}
        circle: list[str] = []
        here = wait if wait in stuck else None
        while here is not None:
            following = next((name for name in here.pending if name in by_plugin), None)
            if following is None or following in circle:
                break
            circle.append(following)
            here = by_plugin[following]
        return circle

    def _stuck(self) -> set[Wait]:
        """The waits that nothing would end: at first all of them, then fewer and fewer."""
        stuck = set(self._waits)
        while True:
            waiting: defaultdict[str, set[trio.lowlevel.Task]] = defaultdict(set)
            for wait in stuck:
                waiting[wait.plugin].add(wait.worker)
            blocked = {name for name, tasks in waiting.items() if len(tasks) >= self._crew_of(name)}
            ended = {wait for wait in stuck if blocked.isdisjoint(wait.pending)}
            if not ended:
                return stuck
            stuck -= ended

    def _crew_of(self, plugin: str) -> float:
        # A plugin for which nobody has waited keeps nobody waiting.
        return self._crews.get(plugin, math.inf)


def _worker_around() -> trio.lowlevel.Task | None:
    """The worker in whose handler the calling task is, or for which it works."""
    task: trio.lowlevel.Task | None = trio.lowlevel.current_task()
    while task is not None and task not in workers:
        task = None if task.parent_nursery is None else task.parent_nursery.parent_task
    return task


def _own_lane(wait: Wait, delivery: Delivery[Event], wanted: Sequence[Subscription]) -> list[str]:
    """The publisher's own plugin, where the event follows by its key the one that it handles."""
    held = current.get()
    own = [each.inbox for each in wanted if each.plugin == wait.plugin]
    follows = held is not None and any(inbox.follows(delivery, held) for inbox in own)
    return [wait.plugin] if follows else []
