"""From one publisher to every subscriber of the event's type.

Owns the subscriptions, and what a publisher waits for.
Never knows what an inbox does with an event, nor what the subscribers are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
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

    async def publish(self, delivery: Delivery[Event]) -> Outcome:
        """Offer the event to every subscriber, each of whom decides alone.

        Those with room have it at once. For the others the publisher waits, at most as long as
        the longest `block_for` among them.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        event = delivery.event
        subscriptions = self._subscriptions.get(type(event), ())
        if not subscriptions:
            self.unrouted[event.__event_name__] += 1
        fates: dict[str, Fate] = {}
        full: list[Subscription] = []
        for subscription in subscriptions:
            fate = subscription.inbox.offer(delivery)
            if fate is None:
                full.append(subscription)
            else:
                fates[subscription.plugin] = fate
        if full:
            fates.update(await _overflow(delivery, full))
        self._streak += 1
        if self._streak >= BURST:  # Everyone else's turn: once in a while, not for each event.
            self._streak = 0
            await trio.lowlevel.cancel_shielded_checkpoint()
        return Outcome(delivery.id, event.__event_name__, fates)

    def publish_nowait(self, delivery: Delivery[Event]) -> None:
        """As `publish`, for who cannot wait: `block` has no time, so that `on_full` decides."""
        for subscription in self._subscriptions.get(type(delivery.event), ()):
            if subscription.inbox.offer(delivery) is None:
                policy = subscription.policy
                overflow = policy.on_full if policy.overflow == "block" else policy.overflow
                subscription.inbox.overflow(delivery, overflow)


async def _overflow(delivery: Delivery[Event], full: list[Subscription]) -> dict[str, Fate]:
    fates: dict[str, Fate] = {}
    waiting: list[tuple[Subscription, Admission, float]] = []
    now = trio.current_time()
    with ExitStack() as queues:
        for subscription in full:
            policy, inbox = subscription.policy, subscription.inbox
            if policy.overflow == "block":
                admission = inbox.queue_up(delivery)
                queues.callback(inbox.withdraw, admission)
                waiting.append((subscription, admission, now + policy.block_for))
            else:
                fates[subscription.plugin] = inbox.overflow(delivery, policy.overflow)
        # It stands in all the queues by now: to wait at one after the other, the most impatient
        # first, takes no longer, and lets each policy decide at its own time.
        for subscription, admission, until in sorted(waiting, key=itemgetter(2)):
            with trio.move_on_at(until):
                await admission.decided.wait()
            if admission.fate is None:
                subscription.inbox.withdraw(admission)
                admission.fate = subscription.inbox.overflow(delivery, subscription.policy.on_full)
            fates[subscription.plugin] = admission.fate
    return fates
