"""Events that come by HTTP: `POST /events/{name}`, and what every publisher is told.

Owns the decoding of a payload, publishing in order, and the answer that a fate earns.
Never knows CloudEvents; `_cloudevents` hands over here what it has taken apart.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import trio
from quart import request
from quart.typing import ResponseReturnValue
from quart_trio import QuartTrio
from werkzeug.exceptions import RequestEntityTooLarge

from .._envelope import Delivery, Outcome, Receipt
from .._errors import EventDecodeError, nearest
from .._events import Event, EventTypes, PluginStatusEvent
from .._fates import SEVERITY, Fate
from .._runtime import Runtime
from ._problems import ProblemError, stopping

WAIT_AT_MOST = 30.0
"""Seconds that `?wait=true` waits for the handlers of one request's events, all in all."""
RETRY_WHEN_REFUSED = 1.0
"""Seconds after which a publisher may find room: the default `block_for`."""

ERRORS = {
    Fate.EXPIRED: ("event_expired", "its deadline was over before a plugin got it"),
    Fate.DROPPED: ("event_dropped", "a full inbox dropped it"),
    Fate.ABANDONED: ("event_abandoned", "a plugin stopped for good before it was handled"),
    Fate.FAILED: ("handler_failed", "a handler failed; the service's log says why"),
    Fate.REJECTED: ("not_accepted", "an inbox that is full or closed refused it"),
}
"""The error code and its detail for the fate that makes an answer an error."""
RETRY_WORTHWHILE = frozenset({Fate.DROPPED, Fate.REJECTED})


def add_ingest(app: QuartTrio, runtime: Runtime) -> None:
    """Serve `POST /events/{name}`."""

    @app.post("/events/<name>")
    async def publish_by_name(name: str) -> ResponseReturnValue:
        """Publish one event, which is the JSON in the body."""
        wait = wait_wanted()
        require_type(runtime.events, name)
        if not is_json(request.mimetype) or request.mimetype.startswith("application/cloudevents"):
            raise ProblemError(
                "unsupported_media_type",
                f"send {name} as application/json, or a CloudEvent to /events; "
                f"this is {request.mimetype or 'without Content-Type'}",
            )
        delivery = Delivery(event=decode(runtime.events, name, await read_body(), at="$"))
        (outcome,) = await publish(runtime, [delivery], wait=wait)
        return answer(runtime, [outcome], waited=wait, batch=False)


def wait_wanted() -> bool:
    """What the query says about `wait`."""
    wait = request.args.get("wait", "false")
    if wait not in ("true", "false"):
        raise ProblemError("invalid_query", f"wait is true or false, not {wait!r}")
    return wait == "true"


async def read_body() -> bytes:
    """The request's body."""
    try:
        return await request.get_data(cache=False, as_text=False, parse_form_data=False)
    except RequestEntityTooLarge:
        limit = request.max_content_length
        detail = f"the body may have {limit} bytes"
        raise ProblemError("body_too_large", detail, {"limit": limit}) from None


def is_json(media_type: str) -> bool:
    """Whether this is JSON, by its name.

    >>> is_json("application/json"), is_json("application/vnd.api+json"), is_json("text/plain")
    (True, True, False)
    """
    return media_type == "application/json" or media_type.endswith("+json")


def require_type(types: EventTypes, name: str, *, at: str | None = None) -> None:
    """Refuse a name that no event type has, or that is not for publishers outside.

    `at` says where in the document it stands.
    """
    if types.get(name) is PluginStatusEvent:  # From outside it would be a forgery.
        where = {} if at is None else {"path": at}
        raise ProblemError("forbidden", f"{name} comes from the supervision only", where)
    if types.get(name) is None:
        known = sorted(types)
        detail = f"no event type is named {name!r}; {nearest(name, known)}"
        facts = {"known": known} if at is None else {"known": known, "path": at}
        raise ProblemError("unknown_event", detail, facts)


def decode(types: EventTypes, name: str, payload: bytes, *, at: str) -> Event:
    """Decode a payload; `at` is its path in what the client has sent."""
    try:
        return types.decode(types[name], payload)
    except EventDecodeError as error:
        path = at + error.path.removeprefix("$")
        detail = f"{name}: {error.reason} at {path}"
        raise ProblemError("invalid_event", detail, {"path": path, "event": name}) from None


async def publish(
    runtime: Runtime, deliveries: Sequence[Delivery[Event]], *, wait: bool
) -> list[Outcome]:
    """Publish in order; then, if asked to, wait for the end of all of them."""
    if not wait:
        return await runtime.publish_many(deliveries)
    receipts = [Receipt() for _ in deliveries]
    waiting = [
        attrs.evolve(delivery, receipt=receipt)
        for delivery, receipt in zip(deliveries, receipts, strict=True)
    ]
    outcomes = await runtime.publish_many(waiting)
    with trio.move_on_after(WAIT_AT_MOST):
        for receipt in receipts:
            await receipt.ended()
    return [
        attrs.evolve(outcome, fates=dict(receipt.fates))
        for outcome, receipt in zip(outcomes, receipts, strict=True)
    ]


def judge(outcomes: Sequence[Outcome], *, waited: bool) -> Fate | None:
    """The fate that makes the answer an error; None where it is none, or too early to say.

    >>> mixed = Outcome("1", "order_placed", {"billing": Fate.QUEUED, "audit": Fate.REJECTED})
    >>> judge([mixed], waited=False)
    >>> failed = Outcome("2", "order_placed", {"billing": Fate.HANDLED, "audit": Fate.FAILED})
    >>> judge([failed], waited=True)
    <Fate.FAILED: 'failed'>
    """
    if not waited:
        some = any(outcome.accepted or outcome.unrouted for outcome in outcomes)
        return Fate.REJECTED if outcomes and not some else None
    fates = _fates(outcomes)
    worst = max(fates, key=SEVERITY.__getitem__, default=Fate.HANDLED)
    return None if worst is Fate.HANDLED or any(fate.alive for fate in fates) else worst


def answer(
    runtime: Runtime, outcomes: Sequence[Outcome], *, waited: bool, batch: bool
) -> ResponseReturnValue:
    """Tell the publisher what became of its one event, or of its batch.

    Raises:
        ProblemError: for an event without a happy end, with all the fates in it.
    """
    documents = [_document(outcome) for outcome in outcomes]
    fate = judge(outcomes, waited=waited)
    if fate is None:
        handled = waited and set(_fates(outcomes)) == {Fate.HANDLED}
        return (documents if batch else documents[0]), 200 if handled else 202
    facts: dict[str, object] = {"outcomes": documents} if batch else documents[0]
    if fate is Fate.REJECTED and runtime.stopping.is_set():
        raise stopping(facts)
    if fate is Fate.REJECTED and _all_gave_up(runtime, outcomes):
        raise ProblemError("plugin_unavailable", "who listens to this has given up", facts)
    error_code, detail = ERRORS[fate]
    retry_after = RETRY_WHEN_REFUSED if fate in RETRY_WORTHWHILE else None
    raise ProblemError(error_code, detail, facts, retry_after=retry_after)


def _all_gave_up(runtime: Runtime, outcomes: Sequence[Outcome]) -> bool:
    """Whether it is no use to try again: nobody who refused will ever accept."""
    refused = {
        plugin
        for outcome in outcomes
        for plugin, fate in outcome.fates.items()
        if fate is Fate.REJECTED
    }
    return all(runtime.hosts[plugin].is_out for plugin in refused)


def _fates(outcomes: Sequence[Outcome]) -> list[Fate]:
    return [fate for outcome in outcomes for fate in outcome.fates.values()]


def _document(outcome: Outcome) -> dict[str, object]:
    fates = {plugin: fate.value for plugin, fate in outcome.fates.items()}
    document: dict[str, object] = {"id": outcome.id, "event": outcome.event, "fates": fates}
    return document | {"unrouted": True} if outcome.unrouted else document
