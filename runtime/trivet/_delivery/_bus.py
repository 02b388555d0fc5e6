"""From one publisher to every subscriber of the event's type.

Owns the subscriptions, and what a publisher waits for.
Never knows what an inbox does with an event, nor what the subscribers are.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from types import MappingProxyType

import attrs
import trio

from .._events._delivery import Delivery
from .._events._delivery_settings import BUFFER_BYTES, DeliveryPolicy
from .._events._event import Event
from .._events._fates import Fate
from .._events._outcome import NO_REFUSALS, Outcome, Refusal
from ._memory import QUEUED, Admission, MemoryInbox

BURST = 192
"""Events that are published, at most, before every other task has its turn."""
QUIET = 0.0005
"""Seconds without an event for an idle reader after which one has its turn at once, and does not
have to wait for whatever else its publisher is about."""


@attrs.frozen(eq=False)
class Subscription:
    """One plugin's wish for one type of event."""

    plugin: str
    event: type[Event]
    inbox: MemoryInbox
    policy: DeliveryPolicy


@attrs.define(eq=False)
class Undecided:
    """An event that a subscriber has not decided about."""

    delivery: Delivery[Event]
    subscription: Subscription
    admission: Admission | None
    """Its place before the inbox; None where there is no room, and it has none yet."""
    fates: dict[str, Fate]
    """Where the decision goes."""

    @property
    def has_waited(self) -> bool:
        """Whether its publisher had to wait for it, so that others have had their turn."""
        return self.admission is not None or self.subscription.policy.overflow == "block"

    def decided(self, fate: Fate) -> None:
        """This is what has become of it."""
        self.fates[self.subscription.plugin] = fate


@attrs.frozen(eq=False)
class Route:
    """Where the events of one type go."""

    subscriptions: Sequence[Subscription]
    all_queued: Mapping[str, Fate]
    """The fates of an event for which all had room."""
    is_stored: bool
    """Whether one of the subscribers stores it."""

    @classmethod
    def to(cls, subscriptions: Sequence[Subscription]) -> Route:
        """To these."""
        fates = {subscription.plugin: QUEUED for subscription in subscriptions}
        is_stored = any(each.inbox.policy.durable for each in subscriptions)
        return cls(subscriptions, MappingProxyType(fates), is_stored)


class Bus:
    """Routes events by their exact type.

    Args:
        subscriptions: who wants which events.
        types: event types that there are besides those.
    """

    def __init__(
        self, subscriptions: Iterable[Subscription] = (), types: Iterable[type[Event]] = ()
    ) -> None:
        by_type: dict[type[Event], list[Subscription]] = {each: [] for each in types}
        for subscription in subscriptions:
            by_type.setdefault(subscription.event, []).append(subscription)
        self.routes: Mapping[type[Event], Route] = {
            each: Route.to(wishes) for each, wishes in by_type.items()
        }
        self.streak = 0
        """How many events were published since other tasks had their turn; see `BURST`."""
        self._undecided: list[Undecided] = []
        self._looked = -math.inf
        """When something had to be looked at last, by the calendar, whose time an event bears."""
        self._before = 0
        self._looks_only = False
        """Whether the next event is only to look for a cancellation, and `streak` goes on then."""
        self.is_pending = False
        """Whether a publisher has to wait for something after it has offered its events."""
        self.unrouted: Counter[str] = Counter()
        """Events that nobody listens to, by name."""

    def listens(self, event: type[Event]) -> bool:
        """Whether anybody listens to events of this type."""
        return event in self.routes and bool(self.routes[event].subscriptions)

    def room(self, event: type[Event]) -> float:
        """How many events of this type find room if they are offered together.

        An inbox that does not make a publisher wait, and is all but full, counts as if empty.
        """
        return min(map(_room, self.routes[event].subscriptions), default=math.inf)

    def room_bytes(self, event: type[Event]) -> float:
        """As `room`, how many bytes of memory."""
        return min(map(_room_bytes, self.routes[event].subscriptions), default=math.inf)

    def buffer_bytes(self, event: type[Event]) -> int:
        """How many bytes of memory an event of this type may take, so that anybody can have it."""
        inboxes = (subscription.inbox for subscription in self.routes[event].subscriptions)
        return max((inbox.buffer_bytes for inbox in inboxes), default=BUFFER_BYTES)

    async def publish(self, deliveries: Sequence[Delivery[Event]]) -> list[Outcome]:
        """Offer the events, in order, to every subscriber, each of whom decides alone.

        Those with room have them at once, or as soon as they are stored: what is offered in one
        call is stored in one transaction. For the others the publisher waits, at most as long as
        the longest `block_for` among them.
        """
        if self.streak >= BURST or not deliveries:
            await self.let_others_on()
        routes = self.routes
        outcomes = [self.offer(each, routes[type(each.event)]) for each in deliveries]
        if self.is_pending:
            await self.settle()
        return outcomes

    async def let_others_on(self) -> None:
        """Let every other task have its turn: once in a while, not for each event.

        It is here that a publisher learns of a cancellation, before it publishes.
        """
        self.streak, self._before = self._before, 0
        if self._looks_only:
            self._looks_only = False
            await trio.lowlevel.checkpoint_if_cancelled()
        else:
            await trio.lowlevel.checkpoint()

    @trio.lowlevel.enable_ki_protection
    def offer(self, delivery: Delivery[Event], route: Route) -> Outcome:
        """Offer an event to its subscribers; `settle` is to follow where `is_pending` says so."""
        self.streak += 1
        is_plain = delivery.is_plain
        for subscription in route.subscriptions:
            inbox = subscription.inbox
            ready = inbox.ready
            # As the inbox's `offer`, without its call: most events and most inboxes are plain.
            if is_plain and inbox.is_plain and len(ready) < inbox.buffer:
                inbox.accepted += 1
                ready.append(delivery)
                if inbox.idle:
                    self._rouse(inbox, delivery.published)
            else:
                self._was_quiet(delivery.published)
                if (fate := inbox.offer(delivery)) is not QUEUED:
                    return self._offer_others(delivery, route, subscription, fate)
        if not route.subscriptions:
            self._was_quiet(delivery.published)
            self.unrouted[delivery.event.__event_name__] += 1
        return Outcome(delivery, route.all_queued)

    def _offer_others(
        self,
        delivery: Delivery[Event],
        route: Route,
        subscription: Subscription,
        fate: Fate | Refusal | Admission | None,
    ) -> Outcome:
        """Go on with the subscribers after one who has not simply taken an event in."""
        fates, refusals = dict(route.all_queued), NO_REFUSALS
        rest = iter(route.subscriptions[route.subscriptions.index(subscription) + 1 :])
        while True:
            if isinstance(fate, Fate):
                fates[subscription.plugin] = fate
            elif isinstance(fate, Refusal):
                fates[subscription.plugin] = Fate.UNACCEPTABLE
                refusals = {**refusals, subscription.plugin: fate}
            else:
                self._undecided.append(Undecided(delivery, subscription, fate, fates))
                self.is_pending = True
            if (following := next(rest, None)) is None:
                return Outcome(delivery, fates, refusals)
            subscription = following
            fate = subscription.inbox.offer(delivery)

    def _rouse(self, inbox: MemoryInbox, now: float) -> None:
        """Wake a reader that has slept; after a quiet time it has its turn before the publisher."""
        inbox.wake()
        if self._was_quiet(now):
            self.is_pending = True

    def _was_quiet(self, now: float) -> bool:
        """Whether nothing was published for a while, that had to be looked at.

        A publisher that takes its time has to look for a cancellation at its next event, and not
        after many.
        """
        was_quiet = now - self._looked > QUIET
        self._looked = now
        if was_quiet and self.streak < BURST:
            self._before, self.streak, self._looks_only = self.streak, BURST, True
        return was_quiet

    async def settle(self) -> None:
        """Wait for what is left of the publishing: decisions, and who has been roused."""
        undecided, self._undecided = self._undecided, []
        self.is_pending = False
        if undecided:
            await _decide(undecided)
            if any(one.has_waited for one in undecided):
                self.streak = self._before = 0
                self._looks_only = False
        else:
            # Twice: of what is due at once Trio draws the order, and this task may be the first.
            await trio.lowlevel.cancel_shielded_checkpoint()
            await trio.lowlevel.cancel_shielded_checkpoint()
            self._before = 0

    @trio.lowlevel.enable_ki_protection
    def publish_nowait(self, delivery: Delivery[Event]) -> None:
        """As `publish`, for who cannot wait: `block` has no time, so that `on_full` decides."""
        for subscription in self.routes[type(delivery.event)].subscriptions:
            if subscription.inbox.offer(delivery) is None:
                policy = subscription.policy
                overflow = policy.on_full if policy.overflow == "block" else policy.overflow
                subscription.inbox.overflow(delivery, overflow)


def _room(subscription: Subscription) -> float:
    room, policy = subscription.inbox.room, subscription.policy
    if policy.overflow == "block":
        return room
    # Whoever reads along frees more than that at each turn; of a reader who lags behind it is lost
    # all the same, and the others need not have it one by one.
    buffer = math.inf if policy.buffer is None else policy.buffer
    return room if room * 32 > buffer else buffer


def _room_bytes(subscription: Subscription) -> float:
    inbox = subscription.inbox
    return inbox.room_bytes if subscription.policy.overflow == "block" else inbox.buffer_bytes


async def _decide(undecided: Sequence[Undecided]) -> None:
    """Wait for the decisions."""
    being_stored = [(one, one.admission) for one in undecided if one.admission is not None]
    if len(being_stored) < len(undecided):
        full = [one for one in undecided if one.admission is None]
        being_stored.extend(await _wait_for_room(full))
    for one, admission in being_stored:  # Which no policy limits: the disk answers, or fails.
        await admission.wait()
        assert admission.fate is not None
        one.decided(admission.fate)


async def _wait_for_room(full: list[Undecided]) -> list[tuple[Undecided, Admission]]:
    """Wait at full inboxes, each as long as its policy says; returns what is being stored then."""
    now = trio.current_time()
    limited: list[tuple[float, Undecided, Admission]] = []
    being_stored: list[tuple[Undecided, Admission]] = []

    def take(one: Undecided, decision: Fate | Admission) -> None:
        if isinstance(decision, Fate):
            one.decided(decision)
        else:
            being_stored.append((one, decision))

    try:
        for one in full:
            policy, inbox = one.subscription.policy, one.subscription.inbox
            if policy.overflow != "block":
                take(one, inbox.overflow(one.delivery, policy.overflow))
            elif not inbox.may_wait(one.delivery):
                take(one, inbox.overflow(one.delivery, policy.on_full))
            else:
                limited.append((now + policy.block_for, one, inbox.queue_up(one.delivery)))
        # It stands in all the queues by now: to wait at one after the other, the most impatient
        # first, takes no longer, and lets each policy decide at its own time.
        for until, one, admission in sorted(limited, key=itemgetter(0)):
            if admission.is_waiting:
                with trio.move_on_at(until):
                    await admission.wait()
            if admission.is_waiting:
                inbox = one.subscription.inbox
                inbox.withdraw(admission)
                take(one, inbox.overflow(one.delivery, one.subscription.policy.on_full))
            else:
                take(one, admission)
    finally:
        for _, one, admission in limited:
            one.subscription.inbox.withdraw(admission)
    return being_stored
