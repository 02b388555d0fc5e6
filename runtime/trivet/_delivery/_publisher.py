"""The publisher of a program: what `app.publish` does.

Owns its two methods, what an event's envelope has by default, and the wait for an event's end.
Never knows who listens to an event: that is the bus's.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from time import time as wall_time
from typing import Unpack
from weakref import WeakKeyDictionary

import structlog
import trio
from msgspec.structs import replace

from .._events._delivery import (
    NO_ORIGIN,
    Delivery,
    Envelope,
    Facts,
    Origin,
    Receipt,
    current_origin,
    current_request,
    delivery_of_task,
)
from .._events._event import Event, source_of
from .._events._fates import Fate
from .._events._outcome import Outcome, ended
from .._events._successors import UNCARRIABLE, carried
from .._events._types import EventTypes, loaded_twice
from .._faults._errors import UnknownEventError
from .._inbox._quantum import QUANTUM
from .._loop._tasks import plugin_of_task
from ._bus import Bus, Route
from ._waits import Waits

LONG = 30.0
"""Seconds of `publish(wait=True)` after which it is said who waits, and for whom."""

FACTS = frozenset(Envelope.__annotations__)
"""The keywords that `publish` takes."""
NEVER = math.inf

# To look a method up on an imported name takes longer than the rest of its call.
_handled, _request = delivery_of_task.get, current_request.get

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger("trivet")


class Publisher:
    """The way from an event to the bus; a running program is one.

    Args:
        bus: where events go.
        service: the source of events whose publisher names none.
        types: the event types.
    """

    def __init__(self, bus: Bus, service: str, types: EventTypes) -> None:
        self._bus = bus
        self._fairness = bus.fairness
        self._routes = bus.routes
        self._service = service
        self._types = types
        self._waits = Waits()
        self._superseded: WeakKeyDictionary[type[Event], str] = WeakKeyDictionary()
        self._on_outcome: Callable[[Outcome], None] | None = None

    @trio.lowlevel.enable_ki_protection
    async def publish(  # noqa: C901 - a call for each event would cost as much
        self, event: Event, *, wait: bool = False, id: str | None = None, **facts: Unpack[Facts]
    ) -> Outcome:
        """Hand the event to every subscriber; each decides alone, and none can make this raise.

        Returns when the event is stored for every durable subscriber. A full inbox makes the
        publisher wait, for at most the longest `block_for` of the full inboxes. A call that need
        not wait is a checkpoint only once in a while.

        Args:
            event: an instance of one of the program's event types.
            wait: whether to wait until the event has ended at every subscriber, with all its
                attempts. This may take any time: put a time limit around it.
            id: unique within the source; see `Envelope`.
            facts: other facts about the event: `source`, `time`, `key`, `deadline`, `request_id`,
                `traceparent`; see `Envelope`.

        Returns:
            The outcome, with one fate per subscriber, and none if no plugin listens to the type.
            The outcome's `refusals` have the reason of each subscriber that can never accept the
            event; publishing the event again is useless to these.

        Raises:
            UnknownEventError: the event is not an instance of one of the program's event types.
            DeadlockError: a handler publishes with `wait`, and the event would need that handler:
                its plugin listens to the type and has no other worker, or several such plugins
                wait for each other in a circle.
        """
        try:
            route = self._routes[type(event)]
        except KeyError:
            event = self._renewed(event)
            route = self._routes[type(event)]
        if wait:
            return await self._publish_and_wait(event, route, id, facts)
        fairness = self._fairness
        if facts:
            delivery = self._enveloped(event, id, facts)
        else:
            handled = _handled()  # As in `current_origin`, without its call.
            origin = _request() or (NO_ORIGIN if handled is None else handled.origin)
            if origin.account_id is not None:
                origin = _without_account(origin)
            path, source, given = route.only, self._service, None
            if id is None:
                delivery = Delivery(event, source, wall_time(), origin, True)
            else:
                given = (source, id)
                delivery = Delivery(
                    event, source, wall_time(), origin, False, None, NEVER, 1, None, given
                )
            # As `Bus.offer`, without its call, where the only subscriber need not be woken.
            if (
                path is not None
                and len(path.ready) < path.room
                and fairness.streak < QUANTUM
                and (given is None or path.mark(given, delivery) is delivery)
            ):
                fairness.streak += 1
                path.counts.accepted += 1
                path.ready.append(delivery)
                return Outcome(delivery, route.all_queued)
        if fairness.streak >= QUANTUM:
            await fairness.before_publish()
        bus = self._bus
        outcome = bus.offer(delivery, route)
        if (commit := bus.commit) is not None and not bus.undecided:
            # As `settle`, without its call.
            bus.commit = None
            if not commit.is_over:
                await commit.over()
            fairness.has_waited()
        elif bus.commit is not None or fairness.owes_turn or bus.undecided:
            await bus.settle()
        return outcome

    def awaited_by(self, plugins: Collection[str]) -> set[str]:
        """The plugins for whose end of an event a handler of these plugins waits."""
        return self._waits.of(plugins)

    def supersede(self, classes: Iterable[type[Event]]) -> None:
        """Take events of these classes, too, which other classes of their names have replaced."""
        self._superseded.update((cls, cls.__event_name__) for cls in classes)

    def _renewed(self, event: Event) -> Event:
        """An event of a class that was replaced, as one of the class in its place."""
        name = self._superseded.get(type(event))
        cls = None if name is None else self._types.get(name)
        if cls is None:
            raise _unknown(event, self._types)
        try:
            return carried(event, cls, self._types)
        except UNCARRIABLE as error:
            raise UnknownEventError(f"{error}: its class was replaced by a reload") from error

    async def _publish_and_wait(
        self, event: Event, route: Route, id: str | None, facts: Facts
    ) -> Outcome:
        delivery = self._enveloped(event, id, facts, Receipt())
        with self._waits.during(delivery, route.subscriptions):
            (outcome,) = await self._bus.publish([delivery])
            outcome = await _ended(outcome)
        if self._on_outcome is not None and _is_from_around():
            self._on_outcome(outcome)
        return outcome

    def _enveloped(
        self, event: Event, id: str | None, facts: Facts, receipt: Receipt | None = None
    ) -> Delivery[Event]:
        """The event with the facts that its publisher gives, and the defaults of the others."""
        if not FACTS.issuperset(facts):
            raise TypeError(f"publish takes {sorted(FACTS)}, and not {sorted(facts)}")
        # To unpack the facts would take longer than to look each of them up.
        return Delivery.of(
            event,
            origin=_without_account(current_origin()),
            receipt=receipt,
            id=id,
            source=facts.get("source") or self._service,
            time=facts.get("time"),
            key=facts.get("key"),
            deadline=facts.get("deadline"),
            request_id=facts.get("request_id"),
            traceparent=facts.get("traceparent"),
        )

    def offer(self, event: Event, origin: Origin | None = None) -> Awaitable[object] | None:
        """Publish an event that nobody waits for; returns the wait that has to follow, if any.

        Most events need none. A publisher that limits the wait, or shields it, does so only where
        there is one.

        Args:
            event: an instance of one of the program's event types.
            origin: the request that led to it; by default that of the calling task.
        """
        bus, fairness = self._bus, self._fairness
        delivery = Delivery(event, self._service, wall_time(), origin or current_origin(), True)
        if fairness.streak >= QUANTUM:
            return bus.publish([delivery])
        bus.offer(delivery, self._routes[type(event)])
        is_decided = bus.commit is None and not (fairness.owes_turn or bus.undecided)
        return None if is_decided else bus.settle()

    def hand_over(self, delivery: Delivery[Event]) -> bool:
        """Publish an event for a task that has just waited, and is about to wait again.

        Nothing is done unless each subscriber has room for the event, and simply takes it in. The
        waits of the task are the turns that others have.

        Args:
            delivery: an event of the program's types, without an id of its own, a deadline, and a
                publisher that waits for its end.

        Returns:
            Whether the event is queued at all subscribers.
        """
        route, size = self._routes[type(delivery.event)], delivery.size
        besides = size * (len(route.subscriptions) - 1)
        for each in route.subscriptions:
            path = each.path
            if (
                not path.is_open
                or len(path.ready) >= path.buffer
                or not each.admission.fits(size, besides)
            ):
                return False
        self._bus.offer(delivery, route)
        self._fairness.has_waited()
        return True

    def all_queued(self, event: type[Event]) -> Mapping[str, Fate]:
        """The fates of an event of this type for which all its subscribers have room."""
        return self._routes[event].all_queued

    def on_outcome(self, callback: Callable[[Outcome], None] | None) -> None:
        """Report each event that the code around the program publishes with `wait`, at its end.

        Args:
            callback: called with the outcome; what it raises comes out of `publish`. None ends the
                reports.
        """
        self._on_outcome = callback

    def tapped(self, tap: Callable[[Delivery[Event]], None]) -> AbstractContextManager[None]:
        """Show every event of the program while it is published, within this block.

        This costs the program a fraction of a microsecond an event, and nothing outside of the
        block.

        Args:
            tap: called with each event before it is offered to the plugins that listen to it; it
                must neither wait nor raise.
        """
        return self._bus.tapped(tap)

    async def publish_many(
        self, deliveries: Iterable[Delivery[Event]], *, wait: bool = False
    ) -> list[Outcome]:
        """Hand several events, in order, to every subscriber.

        The effect is that of `publish` for each event, but all are stored in one transaction, and
        a full inbox makes the publisher wait only once.

        Args:
            deliveries: the events in their envelopes, such as `Delivery.of(event, key="k")`.
            wait: whether to wait until all events have ended; see `publish`.

        Returns:
            One outcome per event, in the same order.

        Raises:
            UnknownEventError: an event is not an instance of one of the program's event types; none
                is published then.
            DeadlockError: see `publish`; none is published then.
        """
        origin, routes = _without_account(current_origin()), self._routes
        sent = [self._complete(delivery, origin, wait=wait) for delivery in deliveries]
        if not wait:
            return await self._offer(sent)
        with ExitStack() as waits:
            for each in sent:
                subscriptions = routes[type(each.event)].subscriptions
                waits.enter_context(self._waits.during(each, subscriptions))
            outcomes = [await _ended(each) for each in await self._offer(sent)]
        if self._on_outcome is not None and _is_from_around():
            for outcome in outcomes:
                self._on_outcome(outcome)
        return outcomes

    async def _offer(self, sent: Sequence[Delivery[Event]]) -> list[Outcome]:
        """Offer the events to their subscribers, with their payloads as stores write them."""
        routes = self._routes
        stored = [each for each in sent if routes[type(each.event)].is_stored]
        if not stored:
            return await self._bus.publish(sent)
        await self._write_ahead(stored)
        try:
            return await self._bus.publish(sent)
        finally:
            for delivery in stored:
                delivery.written = None

    async def _write_ahead(self, deliveries: Sequence[Delivery[Event]]) -> None:
        from .._store._packing import write_ahead  # noqa: PLC0415 - where there is a store, only

        await write_ahead(deliveries, self._types)

    def _complete(
        self, delivery: Delivery[Event], origin: Origin, *, wait: bool
    ) -> Delivery[Event]:
        """Fill in the envelope's defaults."""
        if type(delivery) is not Delivery:
            raise UnknownEventError("publish_many takes deliveries: write `Delivery.of(event)`")
        if type(delivery.event) not in self._routes:
            delivery = replace(delivery, event=self._renewed(delivery.event))
        if delivery.origin is not NO_ORIGIN:
            origin = Origin(
                delivery.request_id or origin.request_id, delivery.traceparent or origin.traceparent
            )
        receipt = delivery.receipt or (Receipt() if wait else None)
        source, given = delivery.source or self._service, delivery.given
        return replace(
            delivery,
            source=source,
            given=None if given is None else (source, given[1]),
            origin=origin,
            is_plain=delivery.is_plain and receipt is None,
            receipt=receipt,
        )


def _is_from_around() -> bool:
    """Whether the calling task belongs to the code around the program: no plugin, no request."""
    return _request() is None and plugin_of_task.get(None) is None


def _without_account(origin: Origin) -> Origin:
    """The origin as an event carries it on: the account is known to the request itself alone."""
    if origin.account_id is None:
        return origin
    return Origin(origin.request_id, origin.traceparent)


def _unknown(event: object, types: EventTypes) -> UnknownEventError:
    """The fault of something that was to be published."""
    kind = event if isinstance(event, type) else type(event)
    if isinstance(event, Delivery):
        return UnknownEventError("publish takes the event alone: write `delivery.event`")
    if not issubclass(kind, Event):
        return UnknownEventError(
            f"a {kind.__name__} is no event: derive a class from Event, and publish an "
            "instance of it"
        )
    if isinstance(event, type):
        return UnknownEventError(
            f"{kind.__name__} is the class: publish an event of it, `{kind.__name__}(…)`"
        )
    known = types.get(kind.__event_name__)
    twice = None if known is None else loaded_twice(kind, known)
    if twice is not None:
        return UnknownEventError(
            f"{twice}: take the class from `runtime.events[{kind.__event_name__!r}]`, or publish "
            f"by HTTP, `POST /events/{kind.__event_name__}`"
        )
    return UnknownEventError(
        f"{source_of(kind)} is no event type of this program: name its module, "
        f"{kind.__module__!r}, in `event_types`, or give the type to open_runtime"
    )


async def _ended(outcome: Outcome) -> Outcome:
    """The outcome when nothing more becomes of the event."""
    receipt = outcome.delivery.receipt
    assert receipt is not None
    with trio.move_on_after(LONG) as patience:
        await receipt.ended()
    if patience.cancelled_caught:
        waits_for = [name for name, fate in receipt.fates.items() if fate.alive]
        facts = outcome.delivery.identity()
        plugin = plugin_of_task.get(None)
        _log.warning("a publisher still waits", plugin=plugin, waits_for=waits_for, **facts)
        await receipt.ended()
    return ended(outcome, receipt.fates, receipt.errors)
