"""The cost of traces: durable events with `[traces]`, beside the same events without.

    python tests/bench/bench_traces.py [--quick]

Eight publishers wait for each of their events to be stored, and a plugin handles them. One trace in
a hundred is made, by OpenTelemetry's SDK, whose exporter drops the spans; in the second row each
trace is. In the third row the publisher's `traceparent` says that its trace is not sampled. What
counts is the processor's time.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import process_time

import structlog
import trio
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased
from pairs import QUICK, Table, in_trio, pairs

from trivet import (
    DeliverySettings,
    Event,
    EventPlugin,
    Settings,
    StoreSettings,
    TraceSettings,
    open_runtime,
)

EVENTS = 2_000 if QUICK else 10_000
"""In one round."""
PUBLISHERS = 8
NOT_SAMPLED = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"


class Ping(Event):
    """The event that is published."""

    number: int


class Sink(EventPlugin[Ping]):
    """Does nothing."""

    delivery = DeliverySettings(durable=True)

    async def handle_event(self, event: Ping) -> None:
        """Do nothing."""


class Nowhere(SpanExporter):
    """Drops the spans."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Drop them."""
        return SpanExportResult.SUCCESS


async def durable(is_traced: bool, share: float, traceparent: str | None) -> float:
    """Events a second of processor time, published and handled."""
    if is_traced:
        provider = TracerProvider(sampler=ParentBased(ALWAYS_ON))
        provider.add_span_processor(BatchSpanProcessor(Nowhere()))
        trace.get_tracer_provider = lambda: provider

    async def publish() -> None:
        for number in range(EVENTS // PUBLISHERS):
            if traceparent is None:
                await runtime.publish(Ping(number))
            else:
                await runtime.publish(Ping(number), traceparent=traceparent)

    with tempfile.TemporaryDirectory() as directory:
        settings = Settings(
            store=StoreSettings(path=Path(directory) / "trivet.sqlite3"),
            traces=TraceSettings(enabled=is_traced, sample=share),
        )
        async with open_runtime(settings, plugins=[Sink]) as runtime:
            began = process_time()
            async with trio.open_nursery() as nursery:
                for _ in range(PUBLISHERS):
                    nursery.start_soon(publish)
            await runtime.publish(Ping(0), wait=True)
            return EVENTS / (process_time() - began)


def main() -> None:
    """Measure, and print the table."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    table = Table("traces", "durable events/s")
    rows = [
        ("one trace in a hundred is made", 0.01, None, "≥ 0.9"),
        ("each trace is made", 1.0, None, ""),
        ("the publisher's trace is not sampled", 0.01, NOT_SAMPLED, ""),
    ]
    for what, share, traceparent, aim in rows:
        traced = in_trio(durable, True, share, traceparent)
        rate, ratio = pairs(traced, in_trio(durable, False, share, traceparent))
        table.row(what, rate.median, "without traces", ratio, aim)


if __name__ == "__main__":
    main()
