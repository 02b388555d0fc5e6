"""`GET /-/plugins/{name}/inbox`: the events that a plugin has before it, for an operator.

Owns the query, and the form of the document.
Never knows how events wait: that is the inbox's.
"""

from __future__ import annotations

import math

from .._delivery._bounded import BoundedInbox
from .._delivery._looks import Inside
from .._events._delivery import utc_now
from .._events._fates import Fate
from .._runtime import Runtime
from ._admin import host_of
from ._envelopes import describe_envelope, describe_payload
from ._fast_path import EndpointRequest, EndpointResponse, Endpoints
from ._problems import ProblemError

SHOWN = 50
"""Events in one response, unless the request says `limit`."""
LARGEST_LIMIT = 200


def add_inboxes(fast_path: Endpoints, runtime: Runtime) -> None:
    """Serve `/-/plugins/{name}/inbox`, for an operator with a token for `admin`."""

    async def inbox(request: EndpointRequest) -> EndpointResponse:
        """The oldest events of one plugin that are in memory, the oldest first.

        Each has its envelope, and one that has failed its last error and when it is tried again.
        A payload is in it only for the event whose `id` is the `payload` of the query. `not_shown`
        is the number of the others, of which `on_disk` are in the store alone.
        """
        host, limit = host_of(runtime, request), _limit(request)
        found = runtime.hosting.inboxes.get(host.name)
        if found is None:
            raise ProblemError("unknown_plugin", f"{host.name!r} listens to no events")
        return _document(found, limit, request.query("payload")), 200

    fast_path.add("GET", "/-/plugins/<name>/inbox", "admin", inbox)


def _document(inbox: BoundedInbox, limit: int, shown_payload: str | None) -> dict[str, object]:
    counts, looked = inbox.statistics(), inbox.look(limit)
    inside = counts.queued + counts.in_flight + counts.backing_off
    return {
        "queued": counts.queued,
        "in_flight": counts.in_flight,
        "backing_off": counts.backing_off,
        "on_disk": inbox.on_disk,
        "not_shown": max(0, inside - len(looked)),
        "events": [
            _describe(each, inbox.policy.max_attempts)
            | (describe_payload(each.delivery.event) if each.delivery.id == shown_payload else {})
            for each in looked
        ],
    }


def _describe(each: Inside, max_attempts: int | None) -> dict[str, object]:
    delivery, failures = each.delivery, each.history.failures
    facts: dict[str, object] = {
        **describe_envelope(delivery),
        "fate": each.fate,
        "age": round(max(0.0, utc_now().timestamp() - delivery.published), 3),
        "max_attempts": max_attempts,
        "error": failures[-1].error if failures else None,
    }
    if each.lasted is not None:
        facts["lasted"] = round(each.lasted, 3)
    if each.fate is Fate.BACKING_OFF:
        waits = each.retry_in is not None and each.retry_in < math.inf
        facts["retry_in"] = round(each.retry_in or 0.0, 3) if waits else None
    return facts


def _limit(request: EndpointRequest) -> int:
    text = request.query("limit")
    if text is None:
        return SHOWN
    if text.isascii() and text.isdigit() and len(text) < 4 and 0 < int(text) <= LARGEST_LIMIT:
        return int(text)
    raise ProblemError("invalid_query", f"`limit` is a whole number from 1 to {LARGEST_LIMIT}")
