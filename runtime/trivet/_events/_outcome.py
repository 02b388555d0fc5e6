"""What a publisher is told about its event: one fate for each subscriber.

Owns the outcome and the refusals in it.
Never knows how a fate comes about.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from ._delivery import Delivery
from ._event import Event
from ._fates import SEVERITY, Fate


class Refusal(msgspec.Struct, frozen=True):
    """Why a subscriber can never take an event in: what waits for room would wait for ever.

    A source puts such a message to its dead letters; over HTTP the answer is 413 for what is too
    large, and 400 for anything else.

    >>> str(Refusal("JSON has no such number: nan", "$.total"))
    'JSON has no such number: nan at $.total'
    """

    reason: str
    """What is wrong, in one line."""
    path: str = "$"
    """Where in the payload, `$` being its root."""
    is_too_large: bool = False
    """Whether a smaller event of its kind could be taken in."""

    def __str__(self) -> str:
        return self.reason if self.path == "$" else f"{self.reason} at {self.path}"


NO_REFUSALS: Mapping[str, Refusal] = MappingProxyType({})


class Outcome(msgspec.Struct, frozen=True):
    """What became of one published event, subscriber by subscriber.

    >>> class OrderPlaced(Event):
    ...     order_id: str
    >>> delivery = Delivery.of(OrderPlaced("o-1"), id="1")
    >>> outcome = Outcome(delivery, {"billing": Fate.QUEUED, "audit": Fate.REJECTED})
    >>> outcome.id, outcome.event, outcome.accepted, outcome.unrouted, outcome.worst
    ('1', 'order_placed', True, False, <Fate.REJECTED: 'rejected'>)
    """

    delivery: Delivery[Event]
    """The event in its envelope."""
    fates: Mapping[str, Fate]
    """One fate per subscriber, by the plugin's name."""
    refusals: Mapping[str, Refusal] = NO_REFUSALS
    """Why, for each subscriber whose fate is `unacceptable`; to publish the event again is of no
    use to these."""

    @property
    def id(self) -> str:
        """The event's id. Who may have to repeat an event gives it one before it is published."""
        return self.delivery.id

    @property
    def event(self) -> str:
        """The event type's name."""
        return self.delivery.event.__event_name__

    @property
    def accepted(self) -> bool:
        """Whether at least one subscriber took the event in."""
        return any(fate.accepted for fate in self.fates.values())

    @property
    def unrouted(self) -> bool:
        """Whether nobody listens to this type of event."""
        return not self.fates

    @property
    def worst(self) -> Fate | None:
        """The worst of the fates; None where there is no subscriber."""
        return max(self.fates.values(), key=SEVERITY.__getitem__, default=None)
