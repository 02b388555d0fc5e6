"""Traces by OpenTelemetry: the spans of requests, of publishing, of waits and of attempts.

Owns the spans, and the way from a `traceparent` to one and back.
Never knows who exports them: that is OpenTelemetry's SDK, which the operator sets up. This module
is imported only where `[traces]` is enabled.

The first span of a trace decides whether it is sampled. What follows from a trace that is not, in
this program or in another one, has no spans, and costs a look at its `traceparent`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from random import Random
from time import time_ns
from traceback import format_exception
from typing import Protocol, TypeVar

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
)

from .._faults._containment import summary
from .._faults._masking import mask, mask_beginning
from ._delivery import Delivery, delivery_of_task
from ._event import Event

E = TypeVar("E", bound=Event)

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")
_SAMPLED = frozenset(f"{flags:02x}" for flags in range(1, 256, 2))
_SPAN_BITS = (1 << 64) - 1
_random = Random()
os.register_at_fork(after_in_child=_random.seed)
LINKS = 128
"""Links that a span of a batch has, at most: what OpenTelemetry's SDK keeps by default."""


class TracedRequest(Protocol):
    """A request, as far as its span tells of it."""

    method: str
    traceparent: str | None

    @property
    def final_status(self) -> int:
        """The status of a request that has ended."""
        ...

    @property
    def route(self) -> str:
        """The method and the template of the path, with a colon between them."""
        ...


class Deliveries(Protocol):
    """Events that are handled together, as a `Batch` is."""

    @property
    def deliveries(self) -> Sequence[Delivery[Event]]:
        """The events in their envelopes."""
        ...


B = TypeVar("B", bound=Deliveries)


class Tracing:
    """The spans of one program.

    Args:
        sample: the share of the traces that begin here and are made, from 0 to 1. OpenTelemetry's
            own sampler decides about these, which takes some 10 µs for each.
    """

    def __init__(self, sample: float) -> None:
        self._tracer = trace.get_tracer("trivet", version("trivet"))
        self._sample = sample

    def beginning(self, traceparent: str | None) -> str | None:
        """The trace context of something that follows from another, or begins a trace.

        Args:
            traceparent: that of the other; None, or no trace context, for a trace that begins.

        Returns:
            The same; or, for a trace that begins and is not to be made, a new one that says so; or
            None where a span is to begin the trace.
        """
        if traceparent is not None and _TRACEPARENT.fullmatch(traceparent):
            return traceparent
        if self._sample >= 1.0 or _random.random() < self._sample:
            return None
        bits = _random.getrandbits(192) | 1 << 64 | 1  # An id of zeros is none.
        return f"00-{bits >> 64:032x}-{bits & _SPAN_BITS:016x}-00"

    # What comes in.

    @contextmanager
    def request(self, context: TracedRequest) -> Generator[None]:
        """A span around a request, which is the task's from then on.

        Args:
            context: the request, whose `traceparent` becomes that of the span.
        """
        traceparent = context.traceparent = self.beginning(context.traceparent)
        if traceparent is not None and not is_sampled(traceparent):
            yield
            return
        with self._lasting(
            context.method,
            context=_context_of(traceparent),
            kind=SpanKind.SERVER,
            attributes={"http.request.method": context.method},
        ) as span:
            context.traceparent = _traceparent_of(span.get_span_context()) or traceparent
            try:
                yield
            finally:
                if span.is_recording():
                    method, _, template = context.route.partition(":")
                    status = context.final_status
                    span.update_name(f"{method} {template}")
                    span.set_attribute("http.route", template)
                    span.set_attribute("http.response.status_code", status)
                    if status >= 500:
                        span.set_status(Status(StatusCode.ERROR))

    def publishing(
        self, event: str, parent: str | None, *, is_given: bool
    ) -> tuple[str | None, Span | None]:
        """Begin to publish an event.

        Args:
            event: the name of its type.
            parent: the `traceparent` that the event follows from.
            is_given: whether the event itself has it, so that the task's own span does not count.

        Returns:
            The `traceparent` of the event, and the span that is to be ended, if there is one.
        """
        if not is_given:
            parent = _traceparent_of(trace.get_current_span().get_span_context()) or parent
        parent = self.beginning(parent)
        if parent is not None and not is_sampled(parent):
            return parent, None
        span = self._tracer.start_span(
            f"publish {event}",
            context=_context_of(parent),
            kind=SpanKind.PRODUCER,
            attributes=_facts("send", event),
        )
        return _traceparent_of(span.get_span_context()) or parent, span

    # What plugins do with it.

    def each(
        self, plugin: str, handle: Callable[[E], Awaitable[None]]
    ) -> Callable[[E], Awaitable[None]]:
        """A handler, with a span for each attempt, and one for the wait before the first."""

        async def handle_it(event: E) -> None:
            """Handle an event."""
            delivery = delivery_of_task.get()
            if delivery is None or not is_sampled(delivery.traceparent):
                await handle(event)
                return
            self._waited(plugin, delivery)
            with self._lasting(
                f"handle {plugin}",
                context=_context_of(delivery.traceparent),
                kind=SpanKind.CONSUMER,
                attributes=_facts("process", event.__event_name__)
                | {"messaging.message.id": delivery.id, "trivet.attempt": delivery.attempt},
            ):
                await handle(event)

        return handle_it

    def batches(
        self, plugin: str, handle: Callable[[B], Awaitable[None]]
    ) -> Callable[[B], Awaitable[None]]:
        """A handler of batches: its span is in the trace of one event, and linked to the others."""

        async def handle_them(batch: B) -> None:
            """Handle a batch."""
            sampled = [each for each in batch.deliveries if is_sampled(each.traceparent)]
            if not sampled:
                await handle(batch)
                return
            for each in sampled:
                self._waited(plugin, each)
            with self._lasting(
                f"handle {plugin}",
                context=_context_of(sampled[0].traceparent),
                kind=SpanKind.CONSUMER,
                attributes=_facts("process", sampled[0].event.__event_name__)
                | {"messaging.batch.message_count": len(batch.deliveries)},
                links=[
                    Link(context)
                    for each in sampled[1 : LINKS + 1]
                    if (context := _span_context_of(each.traceparent)) is not None
                ],
            ):
                await handle(batch)

        return handle_them

    @contextmanager
    def _lasting(
        self,
        name: str,
        *,
        context: Context,
        kind: SpanKind,
        attributes: Mapping[str, str | int],
        links: Sequence[Link] = (),
    ) -> Generator[Span]:
        """Make a span that is the task's until the block ends, and has the exception that ends it.

        OpenTelemetry would write down the exception itself, with the secrets in its texts.
        """
        span = self._tracer.start_span(name, context, kind, attributes, links)
        with trace.use_span(
            span, end_on_exit=True, record_exception=False, set_status_on_exception=False
        ):
            try:
                yield span
            except Exception as error:
                if span.is_recording():
                    _record(span, error)
                raise

    def _waited(self, plugin: str, delivery: Delivery[Event]) -> None:
        """Make the span of the wait in the inbox, which ends now."""
        if delivery.attempt > 1:
            return
        span = self._tracer.start_span(
            f"wait {plugin}",
            context=_context_of(delivery.traceparent),
            attributes=_facts("receive", delivery.event.__event_name__),
            start_time=min(int(delivery.published * 1e9), time_ns()),
        )
        span.end()


def _record(span: Span, error: Exception) -> None:
    """Make an exception the status and an event of a span, without secrets.

    The names are those of OpenTelemetry's semantic conventions.
    """
    kind, said = type(error), summary(error)
    span.set_status(Status(StatusCode.ERROR, said))
    span.add_event(
        "exception",
        {
            "exception.type": mask(f"{kind.__module__}.{kind.__qualname__}"),
            "exception.message": said.removeprefix(f"{kind.__name__}: "),
            "exception.stacktrace": mask_beginning("".join(format_exception(error))),
        },
    )


def _facts(operation: str, event: str) -> dict[str, str | int]:
    return {
        "messaging.system": "trivet",
        "messaging.operation.type": operation,
        "messaging.destination.name": event,
    }


def is_sampled(traceparent: str | None) -> bool:
    """Whether a W3C trace context, if there is one, has its flag "sampled".

    >>> is_sampled("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
    True
    >>> is_sampled("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00")
    False
    >>> is_sampled(None), is_sampled("nonsense")
    (False, False)
    """
    if traceparent is None or traceparent[53:55] not in _SAMPLED:
        return False
    return _TRACEPARENT.fullmatch(traceparent) is not None


def _traceparent_of(context: SpanContext) -> str | None:
    """The W3C trace context of a span; None for that of no span."""
    if not context.is_valid:
        return None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def _span_context_of(traceparent: str | None) -> SpanContext | None:
    """The span that a W3C trace context names; None where it is none."""
    found = None if traceparent is None else _TRACEPARENT.fullmatch(traceparent)
    if found is None:
        return None
    trace_id, span_id, flags = found.groups()
    return SpanContext(int(trace_id, 16), int(span_id, 16), True, TraceFlags(int(flags, 16)))


def _context_of(traceparent: str | None) -> Context:
    """The context whose span a W3C trace context names; that of a new trace where it is none."""
    found = _span_context_of(traceparent)
    return (
        Context()
        if found is None
        else trace.set_span_in_context(NonRecordingSpan(found), Context())
    )
