"""Receives the events that a service's handler generated, and publishes them as a sending event.

Shows a route with a variable, validation of a body, and the outcome that a publisher gets.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import attrs
import msgspec
from quart import abort, request
from quart.typing import ResponseReturnValue

from trivet import BackgroundPlugin, Outcome, SendingEvent, current_origin, route


@attrs.frozen
class Generated:
    """The body of a request."""

    events: list[dict[str, Any]]


class Handlers(BackgroundPlugin):
    """`POST /handlers/<handler_id>/events` with `{"events": [{…}, …]}`."""

    @route("/handlers/<handler_id>/events", methods=["POST"])
    async def publish(self, handler_id: str) -> ResponseReturnValue:
        """Publish the events that one request to a handler generated; answer with their fates."""
        begun = datetime.now(UTC)
        origin = current_origin()
        generated = decode(await request.get_data())
        event = SendingEvent(
            events=generated.events,
            handler_id=handler_id,
            account_id=origin.account_id or "none",
            request_id=origin.request_id or "none",
            create_event_time=begun,
            end_event_time=datetime.now(UTC),
        )
        return report(await self.app.publish(event))


def decode(body: bytes | str) -> Generated:
    """Validate the body; an error's text has the path of the wrong value, such as `$.events[0]`."""
    try:
        return msgspec.json.decode(body, type=Generated)
    except (ValueError, RecursionError) as error:  # malformed, not UTF-8, or nested too deeply
        abort(400, str(error))


def report(outcome: Outcome) -> ResponseReturnValue:
    """202 with the fates; 429 if there are subscribers and every one of them refused."""
    fates = {plugin: fate.value for plugin, fate in outcome.fates.items()}
    document = {"id": outcome.id, "fates": fates}
    if outcome.accepted or outcome.unrouted:
        return document, 202
    return document, 429, {"Retry-After": "1"}
