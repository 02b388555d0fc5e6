"""From one publisher to every subscriber of the event's type.

Owns the subscriptions, and what a publisher waits for.
Never knows what an inbox does with an event, nor what the subscribers are.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from operator import itemgetter

import attrs
import trio

from .._envelope import Delivery, Outcome
from .._events import Event
from .._fates import Fate
from .._inbox import BURST
from .._policies import DeliveryPolicy
from ._memory import Admission, MemoryInbox


@attrs.frozen(eq=False)
class Subscription:
    """One plugin's wish for one type of event."""

    plugin: str
    event: type[Event]
    inbox: MemoryInbox
    policy: DeliveryPolicy


@attrs.define(eq=False)
class _Undecided:
    """An event that a subscriber has not decided about."""

    delivery: Delivery[Event]
    subscription: Subscription
    admission: Admission | None
    """Its place before the inbox; None where there is no room, and it has none yet."""
    fates: dict[str, Fate]
    """Where the decision goes."""

    def decided(self, fate: Fate) -> None:
        """This is what has become of it."""
        self.fates[self.subscription.plugin] = fate


class Bus:
    """Routes events by their exact type."""

    def __init__(self, subscriptions: Iterable[Subscription] = ()) -> None:
        self._subscriptions: dict[type[Event], list[Subscription]] = {}
        for subscription in subscriptions:
            self._subscriptions.setdefault(subscription.event, []).append(subscription)
        self._streak = 0
        self.unrouted: Counter[str] = Counter()
        """Events that nobody listens to, by name."""

    def listens(self, event: type[Event]) -> bool:
        """Whether anybody listens to events of this type."""
        return event in self._subscriptions

    def room(self, event: type[Event]) -> float:
        """How many events of this type find room if they are offered together.

        An inbox that does not make a publisher wait, and is all but full, counts as if empty.
        """
        return min(map(_room, self._subscriptions.get(event, ())), default=math.inf)

    async def publish(self, deliveries: Sequence[Delivery[Event]]) -> list[Outcome]:
        """Offer the events, in order, to every subscriber, each of whom decides alone.

        Those with room have them at once, or as soon as they are stored: what is offered in one
        call is stored in one transaction. For the others the publisher waits, at most as long as
        the longest `block_for` among them.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        outcomes: list[Outcome] = []
        undecided: list[_Undecided] = []
        for delivery in deliveries:
            fates: dict[str, Fate] = {}
            name = delivery.event.__event_name__
            subscriptions = self._subscriptions.get(type(delivery.event), ())
            if not subscriptions:
                self.unrouted[name] += 1
            for subscription in subscriptions:
                fate = subscription.inbox.offer(delivery)
                if isinstance(fate, Fate):
                    fates[subscription.plugin] = fate
                else:
                    undecided.append(_Undecided(delivery, subscription, fate, fates))
            outcomes.append(Outcome(delivery.id, name, fates))
        if undecided:
            await _decide(undecided)
        self._streak += len(outcomes)
        if self._streak >= BURST:  # Everyone else's turn: once in a while, not for each event.
            self._streak = 0
            await trio.lowlevel.cancel_shielded_checkpoint()
        return outcomes

    def publish_nowait(self, delivery: Delivery[Event]) -> None:
        """As `publish`, for who cannot wait: `block` has no time, so that `on_full` decides."""
        for subscription in self._subscriptions.get(type(delivery.event), ()):
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


async def _decide(undecided: list[_Undecided]) -> None:
    """Wait for the decisions."""
    being_stored = [(one, one.admission) for one in undecided if one.admission is not None]
    if len(being_stored) < len(undecided):
        full = [one for one in undecided if one.admission is None]
        being_stored.extend(await _wait_for_room(full))
    for one, admission in being_stored:  # Which no policy limits: the disk answers, or fails.
        await admission.wait()
        assert admission.fate is not None
        one.decided(admission.fate)


async def _wait_for_room(full: list[_Undecided]) -> list[tuple[_Undecided, Admission]]:
    """Wait at full inboxes, each as long as its policy says; returns what is being stored then."""
    now = trio.current_time()
    limited: list[tuple[float, _Undecided, Admission]] = []
    being_stored: list[tuple[_Undecided, Admission]] = []

    def take(one: _Undecided, decision: Fate | Admission) -> None:
        if isinstance(decision, Fate):
            one.decided(decision)
        else:
            being_stored.append((one, decision))

    with ExitStack() as queues:
        for one in full:
            policy, inbox = one.subscription.policy, one.subscription.inbox
            if policy.overflow != "block":
                take(one, inbox.overflow(one.delivery, policy.overflow))
            else:
                admission = inbox.queue_up(one.delivery)
                queues.callback(inbox.withdraw, admission)
                limited.append((now + policy.block_for, one, admission))
        # It stands in all the queues by now: to wait at one after the other, the most impatient
        # first, takes no longer, and lets each policy decide at its own time.
        for until, one, admission in sorted(limited, key=itemgetter(0)):
            with trio.move_on_at(until):
                await admission.wait()
            if admission.fate is None and not admission.has_room:
                inbox = one.subscription.inbox
                inbox.withdraw(admission)
                take(one, inbox.overflow(one.delivery, one.subscription.policy.on_full))
            else:
                take(one, admission)
    return being_stored
