"""Publishing with spans: each event that is published begins one, and carries it on.

Owns which span an event follows from: that of its publisher's `traceparent`, or else that of the
task, or else that of the event or the request that the task is handling.
Never knows how a span is made.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from typing import Unpack

import trio
from msgspec.structs import replace

from .._events._delivery import Delivery, Facts, Origin, current_origin
from .._events._event import Event
from .._events._outcome import Outcome
from .._events._tracing import Tracing
from ._publisher import Publisher


class TracedPublishing:
    """The two ways of publishing, with spans.

    Args:
        publisher: publishes.
        tracing: makes the spans.
    """

    def __init__(self, publisher: Publisher, tracing: Tracing) -> None:
        self._publish = publisher.publish
        self._publish_many = publisher.publish_many
        self._tracing = tracing

    @trio.lowlevel.enable_ki_protection
    async def publish(
        self, event: Event, *, wait: bool = False, id: str | None = None, **facts: Unpack[Facts]
    ) -> Outcome:
        """See `Publisher.publish`."""
        given = facts.get("traceparent")
        name = getattr(event, "__event_name__", "")  # The publisher says what is no event.
        traceparent, span = self._tracing.publishing(
            name, given or current_origin().traceparent, is_given=given is not None
        )
        facts["traceparent"] = traceparent
        if span is None:
            return await self._publish(event, wait=wait, id=id, **facts)
        try:
            return await self._publish(event, wait=wait, id=id, **facts)
        finally:
            span.end()

    async def publish_many(
        self, deliveries: Iterable[Delivery[Event]], *, wait: bool = False
    ) -> list[Outcome]:
        """See `Publisher.publish_many`."""
        origin = current_origin().traceparent
        with ExitStack() as spans:
            sent: list[Delivery[Event]] = []
            for each in deliveries:
                if type(each) is not Delivery:  # The publisher says what is wrong.
                    sent.append(each)
                    continue
                given = each.traceparent
                traceparent, span = self._tracing.publishing(
                    each.event.__event_name__, given or origin, is_given=given is not None
                )
                if span is not None:
                    spans.callback(span.end)
                sent.append(replace(each, origin=Origin(each.request_id, traceparent)))
            return await self._publish_many(sent, wait=wait)
