"""The bus: from one publisher to every subscriber of the event's type.

Owns the subscriptions, and what a publisher waits for.
Never knows what an inbox does with an event, nor what the subscribers are.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from operator import itemgetter
from types import MappingProxyType

import attrs
import trio

from .._events._delivery import Delivery
from .._events._delivery_settings import BUFFER_BYTES, DeliveryPolicy
from .._events._event import Event
from .._events._fates import Fate
from .._events._outcome import NO_REFUSALS, Outcome, Refusal
from .._inbox._fast_path import FastPath
from .._inbox._quantum import QUANTUM
from .._store._commit import Commit, Writing
from ._admission import QUEUED, Admission
from ._bounded import BoundedInbox
from ._fairness import Fairness
from ._pending_offer import PendingOffer

Tap = Callable[[Delivery[Event]], None]
"""A function that looks on while events are published."""


@attrs.frozen(eq=False)
class Subscription:
    """One plugin's wish for one type of event."""

    plugin: str
    event: type[Event]
    inbox: BoundedInbox
    policy: DeliveryPolicy
    admission: Admission = attrs.field(init=False)
    path: FastPath = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "admission", self.inbox.admission)
        object.__setattr__(self, "path", self.inbox.fast_path)


@attrs.define(eq=False)
class Undecided:
    """An event that a subscriber has not decided about."""

    delivery: Delivery[Event]
    subscription: Subscription
    offer: PendingOffer | None
    """The offer that waits; None where there is no room, and it does not wait for it yet."""
    fates: dict[str, Fate]
    """The outcome's fates, to which the decision is added."""

    @property
    def has_waited(self) -> bool:
        """Whether the publisher had to wait, so that others have had their turn."""
        return self.offer is not None or self.subscription.policy.overflow == "block"

    def decided(self, fate: Fate) -> None:
        """Note the decision."""
        self.fates[self.subscription.plugin] = fate

    def taken(self, decision: Fate | Writing, commits: list[Commit]) -> None:
        """Note the decision, or the transaction that leads to it."""
        if isinstance(decision, Writing):
            decision.fates = self.fates
            commits.append(decision.commit)
        else:
            self.decided(decision)


@attrs.frozen(eq=False)
class Route:
    """The subscribers of the events of one type."""

    subscriptions: Sequence[Subscription]
    all_queued: MappingProxyType[str, Fate]
    """The fates of an event for which all had room."""
    is_stored: bool
    """Whether one of the subscribers stores it."""
    buffer_bytes: int
    """The bytes of memory that an event may take, so that anybody can have it."""
    paths: tuple[FastPath, ...]
    """The fast paths of the subscribers; none while they are not to be taken."""
    only: FastPath | None
    """The only one of the fast paths; None where there is none, or several."""

    @classmethod
    def to(cls, subscriptions: Sequence[Subscription], *, is_tapped: bool) -> Route:
        """The route to some subscriptions; without fast paths where somebody looks on."""
        fates = {subscription.plugin: QUEUED for subscription in subscriptions}
        is_stored = any(each.inbox.policy.durable for each in subscriptions)
        buffers = (subscription.admission.buffer_bytes for subscription in subscriptions)
        largest = max(buffers, default=BUFFER_BYTES)
        paths = () if is_tapped else tuple(each.path for each in subscriptions)
        only = paths[0] if len(paths) == 1 else None
        return cls(subscriptions, MappingProxyType(fates), is_stored, largest, paths, only)


class Bus:
    """Routes events by their exact type.

    Args:
        subscriptions: the wishes of all plugins.
        types: event types to which nobody need listen.
    """

    def __init__(
        self, subscriptions: Iterable[Subscription] = (), types: Iterable[type[Event]] = ()
    ) -> None:
        self._routes: dict[type[Event], Route] = {}
        self.routes: Mapping[type[Event], Route] = self._routes
        self._taps: list[Tap] = []
        self.connect(subscriptions, types)
        self.fairness: Fairness = Fairness()
        self.undecided: list[Undecided] = []
        """Events that were offered and not decided about; `settle` waits for the decisions."""
        self.commit: Commit | None = None
        """The transaction in which events are stored that were offered; `settle` waits for it."""
        self.unrouted: Counter[str] = Counter()
        """Events that nobody listens to, by name."""

    @trio.lowlevel.enable_ki_protection
    def connect(
        self, subscriptions: Iterable[Subscription], types: Iterable[type[Event]] = ()
    ) -> None:
        """Route by these subscriptions from now on; `routes` stays the same mapping."""
        by_type: dict[type[Event], list[Subscription]] = {each: [] for each in types}
        for subscription in subscriptions:
            by_type.setdefault(subscription.event, []).append(subscription)
        self._route(by_type)

    def _route(self, by_type: Mapping[type[Event], Sequence[Subscription]]) -> None:
        is_tapped = bool(self._taps)
        routes = {each: Route.to(wishes, is_tapped=is_tapped) for each, wishes in by_type.items()}
        self._routes.clear()
        self._routes.update(routes)

    @contextmanager
    def tapped(self, tap: Tap) -> Generator[None]:
        """Show every event to `tap` before it is offered to the subscribers, within this block.

        The fast paths are closed meanwhile, so that an event that nobody looks at costs no more.

        Args:
            tap: it must neither wait nor raise.
        """
        self._taps.append(tap)
        self._route({each: route.subscriptions for each, route in self._routes.items()})
        try:
            yield
        finally:
            self._taps.remove(tap)
            self._route({each: route.subscriptions for each, route in self._routes.items()})

    def listens(self, event: type[Event]) -> bool:
        """Whether anybody listens to events of this type."""
        return event in self.routes and bool(self.routes[event].subscriptions)

    def room(self, event: type[Event]) -> float:
        """The number of events of this type that find room if they are offered together.

        An inbox that does not make a publisher wait, and is all but full, counts as if empty.
        """
        return min(map(_room, self.routes[event].subscriptions), default=math.inf)

    def room_bytes(self, event: type[Event]) -> float:
        """The bytes of memory that events of this type find room for together."""
        return min(map(_room_bytes, self.routes[event].subscriptions), default=math.inf)

    def buffer_bytes(self, event: type[Event]) -> int:
        """The bytes of memory that an event of this type may take, so that anybody can have it."""
        return self.routes[event].buffer_bytes

    async def publish(self, deliveries: Sequence[Delivery[Event]]) -> list[Outcome]:
        """Offer the events, in order, to every subscriber, each of which decides alone.

        A subscriber with room has an event at once, or as soon as it is stored: events that are
        offered in one call are stored in one transaction. For the others the publisher waits, at
        most as long as the longest `block_for` among them.
        """
        fairness = self.fairness
        if fairness.streak >= QUANTUM or not deliveries:
            await fairness.before_publish()
        routes = self.routes
        outcomes = [self.offer(each, routes[type(each.event)]) for each in deliveries]
        if self.commit is not None or self.undecided or fairness.owes_turn:
            await self.settle()
        return outcomes

    @trio.lowlevel.enable_ki_protection
    def offer(self, delivery: Delivery[Event], route: Route) -> Outcome:
        """Offer an event to its subscribers.

        `settle` is to follow where anything is `undecided`, or there is a `commit` to wait for, or
        the fairness owes a turn.
        """
        self.fairness.streak += 1
        if not delivery.is_plain or not route.paths:
            only = route.only
            if only is None or len(only.ready) >= only.room:
                return self._offer_with_care(delivery, route, 0)
            # As there, where no reader is to be woken.
            decision = route.subscriptions[0].admission.offer(delivery)
            if decision is QUEUED:
                return Outcome(delivery, route.all_queued)
            return self._offer_others(delivery, route, route.subscriptions[0], decision, None)
        for path in route.paths:
            # As `Admission.offer`, without its call: most events and most inboxes are plain.
            ready = path.ready
            if len(ready) >= path.room:
                return self._offer_with_care(delivery, route, route.paths.index(path))
            ready.append(delivery)
            path.counts.accepted += 1
        return Outcome(delivery, route.all_queued)

    def _offer_with_care(self, delivery: Delivery[Event], route: Route, first: int) -> Outcome:
        """Offer an event to the subscribers from `first` on, some of which are to be minded."""
        for tap in self._taps:
            tap(delivery)
        fairness, is_plain = self.fairness, delivery.is_plain
        writing: Writing | None = None
        for subscription in route.subscriptions[first:]:
            path = subscription.path
            waiting = len(path.ready)
            if waiting >= path.room:
                if is_plain and path.is_open and waiting < path.buffer:
                    fairness.woke_reader(delivery.published)
                elif writing is None:
                    fairness.note(delivery.published)
            decision = subscription.admission.offer(delivery)
            if type(decision) is Writing:
                writing = decision
            elif decision is not QUEUED:
                return self._offer_others(delivery, route, subscription, decision, writing)
        if writing is not None:
            # As if it were stored; the store says so where it cannot be.
            writing.fates = dict(route.all_queued)
            self.commit = writing.commit
            return Outcome(delivery, writing.fates)
        if not route.subscriptions:
            fairness.note(delivery.published)
            self.unrouted[delivery.event.__event_name__] += 1
        return Outcome(delivery, route.all_queued)

    def _offer_others(
        self,
        delivery: Delivery[Event],
        route: Route,
        subscription: Subscription,
        decision: Fate | Refusal | Writing | PendingOffer | None,
        writing: Writing | None,
    ) -> Outcome:
        """Go on with the subscribers after one that has not simply taken an event in."""
        fates, refusals = route.all_queued.copy(), NO_REFUSALS
        rest = iter(route.subscriptions[route.subscriptions.index(subscription) + 1 :])
        while True:
            if isinstance(decision, Fate):
                fates[subscription.plugin] = decision
            elif isinstance(decision, Refusal):
                fates[subscription.plugin] = Fate.UNACCEPTABLE
                refusals = {**refusals, subscription.plugin: decision}
            elif isinstance(decision, Writing):
                writing = decision
            else:
                self.undecided.append(Undecided(delivery, subscription, decision, fates))
            if (following := next(rest, None)) is None:
                break
            subscription = following
            decision = subscription.admission.offer(delivery)
        if writing is not None:
            writing.fates, self.commit = fates, writing.commit
        return Outcome(delivery, fates, refusals)

    @trio.lowlevel.enable_ki_protection
    async def settle(self) -> None:
        """Wait for the decisions, or let the readers have their turn that were woken."""
        commit, self.commit = self.commit, None
        if self.undecided:
            await self._settle_undecided(commit)
        elif commit is not None:
            self.fairness.owes_turn = False
            if not commit.is_over:
                await commit.over()
            self.fairness.has_waited()
        else:
            await self.fairness.after_publish()

    @trio.lowlevel.enable_ki_protection
    async def _settle_undecided(self, commit: Commit | None) -> None:
        undecided, self.undecided = self.undecided, []
        self.fairness.owes_turn = False
        await _decide(undecided, [] if commit is None else [commit])
        if commit is not None or any(one.has_waited for one in undecided):
            self.fairness.has_waited()

    @trio.lowlevel.enable_ki_protection
    def publish_nowait(self, delivery: Delivery[Event]) -> None:
        """Publish without waiting: `block` has no time, so that `on_full` decides."""
        for tap in self._taps:
            tap(delivery)
        for subscription in self.routes[type(delivery.event)].subscriptions:
            if subscription.admission.offer(delivery) is None:
                policy = subscription.policy
                overflow = policy.on_full if policy.overflow == "block" else policy.overflow
                subscription.admission.overflow(delivery, overflow)


def _room(subscription: Subscription) -> float:
    room, policy = subscription.admission.room, subscription.policy
    if policy.overflow == "block":
        return room
    # A plugin that keeps up frees more than that at each turn; a plugin that lags behind loses
    # events all the same, and the others need not have them one by one.
    buffer = math.inf if policy.buffer is None else policy.buffer
    return room if room * 32 > buffer else buffer


def _room_bytes(subscription: Subscription) -> float:
    admission = subscription.admission
    if subscription.policy.overflow == "block":
        return admission.room_bytes
    return admission.buffer_bytes


@trio.lowlevel.enable_ki_protection
async def _decide(undecided: Sequence[Undecided], commits: list[Commit]) -> None:
    """Wait for the decisions, and for the end of the transactions."""
    pending = [(one, one.offer) for one in undecided if one.offer is not None]
    if len(pending) < len(undecided):
        full = [one for one in undecided if one.offer is None]
        pending.extend(await _wait_for_room(full, commits))
    for one, offer in pending:  # No policy limits this wait: the disk answers, or fails.
        await offer.wait()
        assert offer.fate is not None
        one.decided(offer.fate)
    for commit in commits:
        if not commit.is_over:
            await commit.over()


async def _wait_for_room(
    full: list[Undecided], commits: list[Commit]
) -> list[tuple[Undecided, PendingOffer]]:
    """Wait at full inboxes, each as long as its policy says.

    Returns:
        The offers whose events are being stored, and are decided about when that is done. Events
        that were let in without an offer are in one of the `commits`, to which theirs are added.
    """
    now = trio.current_time()
    limited: list[tuple[float, Undecided, PendingOffer]] = []
    being_stored: list[tuple[Undecided, PendingOffer]] = []

    def take(one: Undecided, decision: Fate | Writing | PendingOffer) -> None:
        if isinstance(decision, PendingOffer):
            being_stored.append((one, decision))
        else:
            one.taken(decision, commits)

    try:
        for one in full:
            policy, admission = one.subscription.policy, one.subscription.admission
            if policy.overflow != "block":
                take(one, admission.overflow(one.delivery, policy.overflow))
            elif not admission.may_wait(one.delivery):
                take(one, admission.overflow(one.delivery, policy.on_full))
            else:
                limited.append((now + policy.block_for, one, admission.queue_up(one.delivery)))
        # The publisher stands in all the queues by now. To wait at one after the other, the most
        # impatient first, takes no longer, and lets each policy decide at its own time.
        for until, one, offer in sorted(limited, key=itemgetter(0)):
            if offer.is_waiting:
                with trio.move_on_at(until):
                    await offer.wait()
            if offer.is_waiting:
                admission = one.subscription.admission
                admission.withdraw(offer)
                take(one, admission.overflow(one.delivery, one.subscription.policy.on_full))
            else:
                take(one, offer)
    finally:
        for _, one, offer in limited:
            one.subscription.admission.withdraw(offer)
    return being_stored
