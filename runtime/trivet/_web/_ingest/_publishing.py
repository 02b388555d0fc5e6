"""What a publisher over HTTP waits for, and what it is told of its events.

Owns the publishing of what a request has brought, and the answer that each fate earns.
Never knows the form in which events came.
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
from .._problems import ProblemError, stopping
from ._front import Answer

WAIT_AT_MOST = 30.0
"""Seconds that `?wait=true` waits for the handlers of the events that are published together."""
RETRY_WHEN_REFUSED = 1.0
"""Seconds after which a publisher may find room: the default `block_for`."""
RETRY_WHEN_STORE_FAILS = 5.0
"""Seconds after which the store may work again, which somebody has to see to."""

ERRORS = {
    Fate.EXPIRED: ("event_expired", "its deadline was over before it was handled"),
    Fate.DROPPED: ("event_dropped", "a full inbox dropped it"),
    Fate.ABANDONED: ("event_abandoned", "a plugin stopped for good before it was handled"),
    Fate.DEAD_LETTERED: ("dead_lettered", "a plugin gave it up; it is among the dead letters"),
    Fate.FAILED: ("handler_failed", "a handler failed; the service's log says why"),
}
"""The error code and its detail for the end that makes an answer an error."""


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
    with trio.move_on_after(WAIT_AT_MOST):
        for receipt in receipts:
            await receipt.ended()
    return [
        replace(outcome, fates=dict(receipt.fates))
        for outcome, receipt in zip(outcomes, receipts, strict=True)
    ]


def judge(
    outcomes: Sequence[Outcome], *, waited: bool, durable: Collection[str] = ()
) -> Fate | None:
    """The fate that makes the answer an error; None where it is none, or too early to say.

    What a durable subscriber has refused is an error in any case: that one must arrive. For the
    others each decides alone, and one that has accepted is enough for who does not wait.

    >>> class OrderPlaced(Event):
    ...     order_id: str
    >>> delivery = Delivery.of(OrderPlaced("o-1"))
    >>> mixed = Outcome(delivery, {"billing": Fate.QUEUED, "audit": Fate.REJECTED})
    >>> judge([mixed], waited=False)
    >>> judge([mixed], waited=False, durable={"audit"})
    <Fate.REJECTED: 'rejected'>
    >>> failed = Outcome(delivery, {"billing": Fate.HANDLED, "audit": Fate.FAILED})
    >>> judge([failed], waited=True)
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
    """The fate that is an error for who has waited; None while anything can still become good."""
    worst = max(fates, key=SEVERITY.__getitem__, default=Fate.HANDLED)
    return None if worst in GOOD or any(fate.alive for fate in fates) else worst


def _first_refusal(fates: Collection[Fate]) -> Fate:
    """What a publisher is told first: one who only has no room now may have the event later."""
    return Fate.REJECTED if Fate.REJECTED in fates else Fate.UNACCEPTABLE


def is_done(fates: Collection[Fate], *, waited: bool) -> bool:
    """Whether all that was asked for is done, so that the answer is 200."""
    return waited and bool(fates) and GOOD.issuperset(fates)


def answer(runtime: Runtime, outcomes: Sequence[Outcome], *, waited: bool, batch: bool) -> Answer:
    """Tell the publisher what became of its one event, or of its batch.

    Raises:
        ProblemError: for an event without a happy end, with all the fates in it.
    """
    documents = [_document(outcome) for outcome in outcomes]
    fate = judge(outcomes, waited=waited, durable=runtime.durable)
    if fate is None:
        done = is_done(fates_of(outcomes), waited=waited)
        return (documents if batch else documents[0]), 200 if done else 202
    facts: dict[str, object] = {"outcomes": documents} if batch else documents[0]
    raise problem(runtime, fate, facts, outcomes)


def problem(
    runtime: Runtime, fate: Fate, facts: Mapping[str, object], outcomes: Iterable[Outcome] = ()
) -> ProblemError:
    """What a publisher is told to whose events this has happened.

    Args:
        runtime: the program.
        fate: what `judge` says.
        facts: what became of the events.
        outcomes: those among which are the ones that were refused.
    """
    if fate is Fate.REJECTED:
        return _refusal(runtime, refusing(outcomes), facts)
    if fate is Fate.UNACCEPTABLE:
        return _final_refusal(outcomes, facts)
    error_code, detail = ERRORS[fate]
    retry_after = RETRY_WHEN_REFUSED if fate is Fate.DROPPED else None
    return ProblemError(error_code, detail, facts, retry_after=retry_after)


def _refusal(
    runtime: Runtime, refused_by: Collection[str], facts: Mapping[str, object]
) -> ProblemError:
    trouble = None if runtime.store is None else runtime.store.trouble
    if runtime.stopping.is_set():
        return stopping(facts)
    if trouble is not None and not runtime.durable.isdisjoint(refused_by):
        from ..._store._store import is_full  # noqa: PLC0415 - where there is a store, only

        return ProblemError(
            "store_full" if is_full(trouble) else "store_unavailable",
            f"it cannot be stored: {trouble.reason}",
            facts,
            retry_after=RETRY_WHEN_STORE_FAILS,
        )
    if all(runtime.hosts[plugin].is_out for plugin in refused_by):  # To try again is no use.
        return ProblemError("plugin_unavailable", "who listens to this has given up", facts)
    detail = "an inbox that is full or closed refused it"
    return ProblemError("not_accepted", detail, facts, retry_after=RETRY_WHEN_REFUSED)


def _final_refusal(outcomes: Iterable[Outcome], facts: Mapping[str, object]) -> ProblemError:
    """What can be told of an event that nobody is to send again."""
    found = [(each.event, why) for each in outcomes for why in each.refusals.values()]
    if not found:
        return ProblemError("unacceptable_event", "an event can never be taken in", facts)
    # One that is too large says more than that: others of its kind are not.
    name, why = next((each for each in found if not each[1].is_too_large), found[0])
    code = "event_too_large" if why.is_too_large else "unacceptable_event"
    return ProblemError(code, f"{name}: {why}", {**facts, "path": why.path})


def refusing(outcomes: Iterable[Outcome]) -> set[str]:
    """The plugins that have refused one of these."""
    return {plugin for plugin, fate in _refusals(outcomes) if fate is Fate.REJECTED}


def _refusals(outcomes: Iterable[Outcome]) -> list[tuple[str, Fate]]:
    return [each for outcome in outcomes for each in outcome.fates.items() if each[1] in REFUSED]


def fates_of(outcomes: Iterable[Outcome]) -> list[Fate]:
    """All of them."""
    return [fate for outcome in outcomes for fate in outcome.fates.values()]


def _document(outcome: Outcome) -> dict[str, object]:
    fates = dict(outcome.fates)
    document: dict[str, object] = {"id": outcome.id, "event": outcome.event, "fates": fates}
    if outcome.refusals:
        document["refusals"] = {name: str(why) for name, why in outcome.refusals.items()}
    return document | {"unrouted": True} if outcome.unrouted else document
