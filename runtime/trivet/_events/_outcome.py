"""The outcome of publishing an event: one fate for each subscriber.

Owns the outcome and the refusals in it.
Never knows how a fate comes about.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from ._delivery import Delivery
from ._event import Event
from ._fates import GOOD, SEVERITY, Fate


class Refusal(msgspec.Struct, frozen=True):
    """The reason why a subscriber can never accept an event, however much room it has.

    A source stores such a message among its dead letters. Over HTTP the answer is 413 for an event
    that is too large, and 400 for any other reason.

    >>> str(Refusal("JSON has no such number: nan", "$.total"))
    'JSON has no such number: nan at $.total'
    """

    reason: str
    """The reason, in one line."""
    path: str = "$"
    """The place in the payload, whose root is `$`."""
    is_too_large: bool = False
    """Whether a smaller event of this type would be accepted."""

    def __str__(self) -> str:
        return self.reason if self.path == "$" else f"{self.reason} at {self.path}"


NO_REFUSALS: Mapping[str, Refusal] = MappingProxyType({})
NO_ERRORS: Mapping[str, Exception] = MappingProxyType({})


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """The fates of one published event, subscriber by subscriber.

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
    """The reasons, for each subscriber whose fate is `unacceptable`; publishing the event again is
    useless to these."""
    errors: Mapping[str, Exception] = NO_ERRORS
    """The exception that the handler raised at the last attempt, for each subscriber that has not
    handled the event. Only a publisher that waits for the event's end is told."""

    @property
    def id(self) -> str:
        """The event's id. A publisher that may repeat an event gives the id when it publishes."""
        return self.delivery.id

    @property
    def event(self) -> str:
        """The event type's name."""
        return self.delivery.event.__event_name__

    @property
    def accepted(self) -> bool:
        """Whether at least one subscriber accepted the event."""
        return any(fate.accepted for fate in self.fates.values())

    @property
    def unrouted(self) -> bool:
        """Whether no plugin listens to this type of event."""
        return not self.fates

    @property
    def worst(self) -> Fate | None:
        """The worst of the fates; None where there is no subscriber."""
        return max(self.fates.values(), key=SEVERITY.__getitem__, default=None)


class FailedOutcome(Outcome, frozen=True, gc=True):
    """An outcome with errors, whose frames may hold it: the garbage collector has to see that."""


def ended(outcome: Outcome, fates: Mapping[str, Fate], errors: Mapping[str, Exception]) -> Outcome:
    """The outcome of an event of which nothing more becomes.

    Args:
        outcome: what it was when the event had been offered.
        fates: the last fate at each subscriber.
        errors: the exception of the last failed attempt, by subscriber.
    """
    errors = {name: error for name, error in errors.items() if fates.get(name) not in GOOD}
    kind = FailedOutcome if errors else Outcome
    return kind(outcome.delivery, dict(fates), outcome.refusals, errors or NO_ERRORS)
