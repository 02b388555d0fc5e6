"""The publishing of a request's events, and the response that each fate earns.

Owns how long a publisher over HTTP waits, and the problem of each fate.
Never knows the form in which the events came.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import trio
from msgspec.structs import replace

from ..._events._delivery import Delivery, Receipt
from ..._events._event import Event
from ..._events._fates import GOOD, REFUSED, SEVERITY, Fate
from ..._events._outcome import Outcome
from ..._runtime import Runtime
from .._fast_path import EndpointResponse
from .._problems import ProblemError, stopping

MAX_WAIT = 30.0
"""Seconds that `?wait=true` waits for the handlers of the events that are published together."""
RETRY_WHEN_REFUSED = 1.0
"""Seconds after which a publisher may find room: the default of `block_for`."""
RETRY_WHEN_STORE_FAILS = 5.0
"""Seconds after which the store may work again, once an operator has seen to it."""

_QUEUED = Fate.QUEUED  # A member of an Enum takes long to look up.

ERRORS = {
    Fate.EXPIRED: ("event_expired", "the deadline was over before the event was handled"),
    Fate.DROPPED: ("event_dropped", "a full inbox dropped the event"),
    Fate.ABANDONED: ("event_abandoned", "a plugin stopped for good before it handled the event"),
    Fate.DEAD_LETTERED: (
        "dead_lettered",
        "a plugin gave the event up; it is among the dead letters",
    ),
    Fate.FAILED: ("handler_failed", "a handler failed; the service's log says why"),
}
"""The error code and the detail of each fate that makes a response an error."""


async def publish(
    runtime: Runtime, deliveries: Sequence[Delivery[Event]], *, wait: bool
) -> list[Outcome]:
    """Publish in order; then, if asked to, wait for the end of all of them."""
    if not wait:
        return await runtime.publish_many(deliveries)
    receipts = [Receipt() for _ in deliveries]
    waiting = [
        replace(delivery, receipt=receipt)
        for delivery, receipt in zip(deliveries, receipts, strict=True)
    ]
    outcomes = await runtime.publish_many(waiting)
    with trio.move_on_after(MAX_WAIT):
        for receipt in receipts:
            await receipt.ended()
    return [
        replace(outcome, fates=dict(receipt.fates))
        for outcome, receipt in zip(outcomes, receipts, strict=True)
    ]


def error_fate(
    outcomes: Sequence[Outcome], *, waited: bool, durable: Collection[str] = ()
) -> Fate | None:
    """The fate that makes the response an error; None where there is none, or none yet.

    The refusal of a durable subscriber is an error in any case: its events must arrive. Of the
    other subscribers one that has accepted is enough for a publisher that does not wait.

    >>> class OrderPlaced(Event):
    ...     order_id: str
    >>> delivery = Delivery.of(OrderPlaced("o-1"))
    >>> mixed = Outcome(delivery, {"billing": Fate.QUEUED, "audit": Fate.REJECTED})
    >>> error_fate([mixed], waited=False)
    >>> error_fate([mixed], waited=False, durable={"audit"})
    <Fate.REJECTED: 'rejected'>
    >>> failed = Outcome(delivery, {"billing": Fate.HANDLED, "audit": Fate.FAILED})
    >>> error_fate([failed], waited=True)
    <Fate.FAILED: 'failed'>
    """
    refused = _refusals(outcomes)
    by_durable = [fate for plugin, fate in refused if plugin in durable]
    if by_durable:
        return _first_refusal(by_durable)
    if waited:
        return worst_end(fates_of(outcomes))
    some = any(outcome.accepted or outcome.unrouted for outcome in outcomes)
    return None if some or not outcomes else _first_refusal([fate for _, fate in refused])


def worst_end(fates: Collection[Fate]) -> Fate | None:
    """The fate to tell a publisher that has waited: the worst, if it is an error and final."""
    worst = max(fates, key=SEVERITY.__getitem__, default=Fate.HANDLED)
    return None if worst in GOOD or any(fate.alive for fate in fates) else worst


def _first_refusal(fates: Collection[Fate]) -> Fate:
    """The refusal that a publisher is told: a full inbox may have room for the event later."""
    return Fate.REJECTED if Fate.REJECTED in fates else Fate.UNACCEPTABLE


def is_done(fates: Collection[Fate], *, waited: bool) -> bool:
    """Whether everything that the publisher asked for is done, so that the response is 200."""
    return waited and bool(fates) and GOOD.issuperset(fates)


def response_for(
    runtime: Runtime, outcomes: Sequence[Outcome], *, waited: bool, batch: bool
) -> EndpointResponse:
    """The response to the publisher of one event, or of a batch.

    Raises:
        ProblemError: an event has not ended well; the problem has all the fates.
    """
    documents = [_document(outcome) for outcome in outcomes]
    fates = fates_of(outcomes)
    if not waited and fates.count(_QUEUED) == len(fates):  # As below, for most requests.
        return (documents if batch else documents[0]), 202
    fate = error_fate(outcomes, waited=waited, durable=runtime.durable)
    if fate is None:
        done = is_done(fates, waited=waited)
        return (documents if batch else documents[0]), 200 if done else 202
    facts: dict[str, object] = {"outcomes": documents} if batch else documents[0]
    raise problem_for(runtime, fate, facts, outcomes)


def problem_for(
    runtime: Runtime, fate: Fate, facts: Mapping[str, object], outcomes: Iterable[Outcome] = ()
) -> ProblemError:
    """The problem of a publisher whose events have had this fate.

    Args:
        runtime: the program.
        fate: the one that `error_fate` has found.
        facts: the members of the document about the events.
        outcomes: the outcomes of the events, with those that were refused among them.
    """
    if fate is Fate.REJECTED:
        return _rejection_problem(runtime, refusing(outcomes), facts)
    if fate is Fate.UNACCEPTABLE:
        return _unacceptable_problem(outcomes, facts)
    error_code, detail = ERRORS[fate]
    retry_after = RETRY_WHEN_REFUSED if fate is Fate.DROPPED else None
    return ProblemError(error_code, detail, facts, retry_after=retry_after)


def _rejection_problem(
    runtime: Runtime, refused_by: Collection[str], facts: Mapping[str, object]
) -> ProblemError:
    trouble = None if runtime.store is None else runtime.store.trouble
    if runtime.stopping.is_set():
        return stopping(facts)
    if trouble is not None and not runtime.durable.isdisjoint(refused_by):
        from ..._store._store import is_full  # noqa: PLC0415 - only where there is a store

        return ProblemError(
            "store_full" if is_full(trouble) else "store_unavailable",
            f"the event cannot be stored: {trouble.reason}",
            facts,
            retry_after=RETRY_WHEN_STORE_FAILS,
        )
    if all(runtime.hosts[plugin].is_given_up for plugin in refused_by):  # To try again is useless.
        detail = "every plugin that refused the event has given up, or is disabled"
        return ProblemError("plugin_unavailable", detail, facts)
    detail = "an inbox that is full or closed refused the event"
    return ProblemError("not_accepted", detail, facts, retry_after=RETRY_WHEN_REFUSED)


def _unacceptable_problem(outcomes: Iterable[Outcome], facts: Mapping[str, object]) -> ProblemError:
    """The problem of an event that is not to be sent again."""
    found = [(each.event, why) for each in outcomes for why in each.refusals.values()]
    if not found:
        return ProblemError("unacceptable_event", "no inbox can ever take in the event", facts)
    # A reason other than the size comes first: it may concern every event of the type.
    name, why = next((each for each in found if not each[1].is_too_large), found[0])
    code = "event_too_large" if why.is_too_large else "unacceptable_event"
    return ProblemError(code, f"{name}: {why}", {**facts, "path": why.path})


def refusing(outcomes: Iterable[Outcome]) -> set[str]:
    """The plugins that have refused one of the events."""
    return {plugin for plugin, fate in _refusals(outcomes) if fate is Fate.REJECTED}


def _refusals(outcomes: Iterable[Outcome]) -> list[tuple[str, Fate]]:
    return [each for outcome in outcomes for each in outcome.fates.items() if each[1] in REFUSED]


def fates_of(outcomes: Iterable[Outcome]) -> list[Fate]:
    """The fates of all events, with all plugins."""
    return [fate for outcome in outcomes for fate in outcome.fates.values()]


def _document(outcome: Outcome) -> dict[str, object]:
    document = document_of(outcome.id, outcome.event, outcome.fates)
    if outcome.refusals:
        document["refusals"] = {name: str(why) for name, why in outcome.refusals.items()}
    return document


def document_of(id: str, event: str, fates: Mapping[str, Fate]) -> dict[str, object]:
    """The part of a response about one event.

    Args:
        id: the event's.
        event: the name of its type.
        fates: its fate with each plugin that listens.
    """
    document: dict[str, object] = {"id": id, "event": event, "fates": dict(fates)}
    return document if fates else document | {"unrouted": True}
