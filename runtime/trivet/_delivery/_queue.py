"""The queue of one inbox: events in the order in which they may be handed out.

Owns that order: lanes of events that follow one another, and the waits before another attempt.
Never knows who puts events in and takes them out, nor where else the events are.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from itertools import islice, takewhile
from typing import TypeGuard

import attrs

from .._events._delivery import Delivery
from .._events._delivery_settings import PARTITION_KEY, DeliveryPolicy
from .._events._event import Event

Item = Delivery[Event] | int
"""An event; or the number of an event that is on disk only, and waits for an earlier one."""

LOADED = 64
"""Events of one lane that wait in memory for an earlier one, at most; the others wait on disk."""


@attrs.define(eq=False)
class _Lane:
    """Events that are handled in order, where one is in flight or backs off."""

    in_flight: bool = False
    """Whether an event of the lane is in flight, for which the others wait."""
    returning: list[Delivery[Event]] = attrs.field(factory=list[Delivery[Event]])
    """Events that back off; all of them come back when the wait of the last one is over."""
    due: float = -math.inf
    """The time at which they come back."""
    held: deque[Item] = attrs.field(factory=deque[Item])
    """Events that wait for the others."""
    is_loading: bool = False
    """Whether the first of `held` is being read from disk."""

    @property
    def is_blocked(self) -> bool:
        return bool(self.in_flight or self.returning or self.is_loading)


class Queue:
    """Events in their order.

    A lane has the events that must be handled in order: none of them overtakes one that backs off.
    With an ordering key there is a lane for each of its values, and one event of a lane at a time
    is handed out. Without a key the whole queue is one lane; or, where several handlers run side by
    side, each event is a lane of its own.

    Args:
        policy: the subscriber's.
        one_at_a_time: false where a plugin takes several events of a key together, and handles them
            in order.
    """

    def __init__(self, policy: DeliveryPolicy, *, one_at_a_time: bool = True) -> None:
        self._heed(policy, one_at_a_time=one_at_a_time)
        self.ready: deque[Delivery[Event]] = deque()
        """Events in the order in which they are handed out, as far as their lanes are free."""
        self._lanes: dict[Hashable, _Lane] = {}
        self._due: list[tuple[float, int, Hashable]] = []
        self._pushed = 0
        self._missing: dict[Hashable, list[int]] = {}
        self.held: int = 0
        """Events that wait for others of their lane."""
        self.backing_off: int = 0
        """Events that back off."""

    def _heed(self, policy: DeliveryPolicy, *, one_at_a_time: bool) -> None:
        self._is_keyed = policy.ordering_key is not None
        self._one_at_a_time = self._is_keyed and one_at_a_time
        self._is_one_lane = not self._is_keyed and policy.concurrency == 1
        self._lane_of = _lane_of(policy)

    def rearrange(self, policy: DeliveryPolicy, *, one_at_a_time: bool) -> None:
        """Put all events into the lanes of another policy; none is in flight, or on disk only."""
        lanes = list(self._lanes.values())
        returning = [(lane.due, each) for lane in lanes for each in lane.returning]
        held = [item for lane in lanes for item in lane.held if _is_here(item)]
        self.ready.extendleft(reversed(held))
        self._lanes.clear()
        self._due.clear()
        self.held = self.backing_off = 0
        self._heed(policy, one_at_a_time=one_at_a_time)
        for due, delivery in returning:
            self.back_off(delivery, due)

    @property
    def waiting(self) -> int:
        """Events that wait for their turn."""
        return len(self.ready) + self.held

    def put_back(self, deliveries: Iterable[Delivery[Event]]) -> None:
        """Put events that were handed out back, in their order, before all the others."""
        returned = list(deliveries)
        for delivery in returned:
            self._leave_lane(delivery)
        self.ready.extendleft(reversed(returned))

    def take(self, now: float) -> Delivery[Event] | None:
        """The next event that may be handed out, or None."""
        if self._due and self._due[0][0] <= now:
            self._come_back(now)
        if self._is_keyed:
            return self._take_of_free_lane()
        if not self.ready or (self._lanes and self._is_one_lane):
            return None
        return self.ready.popleft()

    def take_some(self, now: float, at_most: int) -> list[Delivery[Event]]:
        """The next events, where only their order has to be minded; elsewhere `take` has them."""
        if self._due and self._due[0][0] <= now:
            self._come_back(now)
        if self._one_at_a_time or (self._lanes and (self._is_keyed or self._is_one_lane)):
            return []
        pop = self.ready.popleft
        return [pop() for _ in range(min(at_most, len(self.ready)))]

    def done(self, *deliveries: Delivery[Event]) -> None:
        """Let the lanes of events go on that were handed out and have ended."""
        if self._one_at_a_time:
            for delivery in deliveries:
                self._leave_lane(delivery)
                self._release(self._lane_of(delivery))

    def back_off(self, delivery: Delivery[Event], until: float) -> None:
        """Have an event that was handed out come back at a time; its lane waits for it."""
        self._leave_lane(delivery)
        name = self._lane_of(delivery)
        lane = self._lanes.setdefault(name, _Lane())
        lane.returning.append(delivery)
        lane.due = max(lane.due, until)
        self.backing_off += 1
        self._pushed += 1
        heapq.heappush(self._due, (lane.due, self._pushed, name))

    @property
    def next_return(self) -> float:
        """The time at which the next back-off ends; infinity if there is none."""
        return self._due[0][0] if self._due else math.inf

    @property
    def is_stuck(self) -> bool:
        """Whether all that is left, if anything, waits for the end of back-offs only."""
        if self._is_one_lane:
            return bool(self._lanes) or not self.ready
        waiting = (lane for lane in self._lanes.values() if lane.held and not lane.returning)
        return not self.ready and next(waiting, None) is None

    def pop_oldest(self) -> Delivery[Event] | None:
        """Take out the event that has waited longest, as far as is known across the lanes."""
        for name, lane in self._lanes.items():
            if lane.returning:
                self.backing_off -= 1
                oldest = lane.returning.pop(0)
                self._release(name)
                return oldest
            # Where the lane is not blocked, one that is older than those held is ready.
            if lane.is_blocked and lane.held and _is_here(first := lane.held[0]):
                self.held -= 1
                lane.held.popleft()
                return first
        if not self.ready:
            return None
        oldest = self.ready.popleft()
        if self._is_keyed:
            self._release(self._lane_of(oldest))
        return oldest

    def clear(self) -> list[Delivery[Event]]:
        """Take out everything."""
        everything = list(self.everything())
        self.ready.clear()
        self._lanes.clear()
        self._due.clear()
        self._missing.clear()
        self.held = self.backing_off = 0
        return everything

    def everything(self) -> Iterator[Delivery[Event]]:
        """The events in memory: those of lanes, then those that are ready."""
        for lane in self._lanes.values():
            yield from lane.returning
            yield from filter(_is_here, lane.held)
        yield from self.ready

    def returning(self) -> Iterator[tuple[Delivery[Event], float]]:
        """The events that back off, each with the time at which it comes back."""
        for lane in self._lanes.values():
            for delivery in lane.returning:
                yield delivery, lane.due

    def waiting_for_others(self) -> Iterator[Delivery[Event]]:
        """The events in memory that wait for others of their lane."""
        for lane in self._lanes.values():
            yield from filter(_is_here, lane.held)

    # For events that are on disk.

    def wait_again(self, delivery: Delivery[Event], now: float, until: float) -> None:
        """Back off an event that was just loaded from disk; its wait began before the restart.

        Events of its lane that are before it stay so, whichever of them has to wait longer.
        """
        lane = self._lanes.get(self._lane_of(delivery))
        if until > now:
            self._have_wait_with(delivery)
            self.back_off(delivery, until)
        elif lane is not None and lane.returning:
            self.back_off(delivery, now)
        else:
            self.ready.append(delivery)

    def _have_wait_with(self, delivery: Delivery[Event]) -> None:
        """Have the ready events of its lane wait with it."""
        if not (self._is_keyed or self._is_one_lane):
            return
        name = self._lane_of(delivery)
        before = [each for each in self.ready if self._lane_of(each) == name]
        if before:
            others = [each for each in self.ready if self._lane_of(each) != name]
            self.ready.clear()
            self.ready.extend(others)
            self._lanes.setdefault(name, _Lane()).returning.extend(before)
            self.backing_off += len(before)

    def sort_out(self) -> None:
        """Move the ready events of blocked lanes into their lanes, before a page is loaded.

        Otherwise `hold` would let the page overtake them.
        """
        if self._is_keyed and self._lanes:
            ready = list(self.ready)
            self.ready.clear()
            for delivery in ready:
                lane = self._lanes.get(self._lane_of(delivery))
                if lane is not None and lane.is_blocked:
                    lane.held.append(delivery)
                    self.held += 1
                else:
                    self.ready.append(delivery)

    def hold(self, lane: Hashable, number: int) -> bool:
        """Have an event wait on disk if many of its lane wait in memory; says whether it does."""
        blocked = self._lanes.get(lane) if self._is_keyed else None
        if blocked is None or not blocked.is_blocked or len(blocked.held) < LOADED:
            return False
        blocked.held.append(number)
        self.held += 1
        return True

    @property
    def is_blocked(self) -> bool:
        """Whether an event that is put behind the others has to wait for a back-off."""
        return self._is_one_lane and bool(self._lanes)

    @property
    def has_lanes(self) -> bool:
        """Whether any event has to be minded besides those that are ready, in their order."""
        return bool(self._lanes)

    def lane_of(self, delivery: Delivery[Event]) -> Hashable:
        """The name of the event's lane."""
        return self._lane_of(delivery)

    @property
    def has_missing(self) -> bool:
        """Whether `missing` would return anything."""
        return bool(self._missing)

    def missing(self) -> dict[Hashable, list[int]]:
        """The numbers of events on disk whose turn it is, by lane; each is returned once."""
        missing, self._missing = self._missing, {}
        return missing

    def load(self, lane: Hashable, numbers: list[int], found: Iterable[Delivery[Event]]) -> None:
        """Take in events that were `missing`, in their order; any other of them is gone."""
        blocked = self._lanes.get(lane)
        if blocked is not None and blocked.is_loading:
            deliveries, held = list(found), list(blocked.held)
            first = held.index(numbers[0])  # Others may have come back before them meanwhile.
            held[first : first + len(numbers)] = deliveries
            blocked.held = deque(held)
            self.held -= len(numbers) - len(deliveries)
            blocked.is_loading = False
            self._release(lane)

    def _take_of_free_lane(self) -> Delivery[Event] | None:
        while self.ready:
            delivery = self.ready.popleft()
            name = self._lane_of(delivery)
            lane = self._lanes.get(name)
            if lane is not None and lane.is_blocked:
                lane.held.append(delivery)
                self.held += 1
                continue
            if self._one_at_a_time:
                self._lanes.setdefault(name, _Lane()).in_flight = True
            else:
                self._release(name)  # The next one may follow at once.
            return delivery
        return None

    def _leave_lane(self, delivery: Delivery[Event]) -> None:
        if self._is_keyed and (lane := self._lanes.get(self._lane_of(delivery))) is not None:
            lane.in_flight = False

    def _come_back(self, now: float) -> None:
        while self._due and self._due[0][0] <= now:
            _, _, name = heapq.heappop(self._due)
            lane = self._lanes.get(name)
            if lane is None or not lane.returning or lane.due > now:
                continue  # Another of the lane has to wait longer, or nothing waits any more.
            lane.held.extendleft(reversed(lane.returning))
            self.backing_off -= len(lane.returning)
            self.held += len(lane.returning)
            lane.returning.clear()
            self._release(name)

    def _release(self, name: Hashable) -> None:
        """Let the events of a lane go on, if nothing is left for them to wait for."""
        lane = self._lanes.get(name)
        if lane is None or lane.is_blocked:
            return
        lane.due = -math.inf
        if not self._is_keyed:
            self.ready.extendleft(reversed([item for item in lane.held if _is_here(item)]))
            self.held -= len(lane.held)
            del self._lanes[name]
        elif not lane.held:
            del self._lanes[name]
        elif _is_here(first := lane.held[0]):
            lane.held.popleft()
            self.held -= 1
            self.ready.appendleft(first)
        else:
            numbers = takewhile(_is_number, islice(lane.held, LOADED))
            self._missing[name] = [item for item in numbers if _is_number(item)]
            lane.is_loading = True


def _is_number(item: Item) -> TypeGuard[int]:
    return isinstance(item, int)


def _is_here(item: Item) -> TypeGuard[Delivery[Event]]:
    return not isinstance(item, int)


def _lane_of(policy: DeliveryPolicy) -> Callable[[Delivery[Event]], Hashable]:
    """The function that names the lane of an event."""
    if policy.ordering_key is not None:
        return lane_by(policy.ordering_key)
    return (lambda _: None) if policy.concurrency == 1 else id


def lane_by(key: str) -> Callable[[Delivery[Event]], str]:
    """A function that names an event's lane by a key; an event without a value has its own lane."""

    def lane(delivery: Delivery[Event]) -> str:
        """The value of the key."""
        try:
            value = delivery.key if key == PARTITION_KEY else getattr(delivery.event, key, None)
            name = None if value is None else str(value)
        except Exception:  # A value of the author's that cannot be written as text.
            name = None
        return f"\0{delivery.source}\0{delivery.id}" if name is None else name

    return lane
