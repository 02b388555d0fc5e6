"""Traces: which spans there are, and how they follow from one another."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trio
from opentelemetry import trace
from opentelemetry.trace import StatusCode
from trio.testing import MockClock, wait_all_tasks_blocked

from trivet import (
    Batch,
    BatchPlugin,
    ConfigurationError,
    Delivery,
    DeliverySettings,
    Event,
    EventPlugin,
    Secret,
    StoreSettings,
    TraceSettings,
    current_delivery,
    route,
)
from trivet._events._tracing import is_sampled
from trivet._supervision import _orders
from trivet.testing import client, open_plugins

from ..spans import collected, is_child, trace_of

ON = TraceSettings(enabled=True)
SAMPLED = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
NOT_SAMPLED = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"
TRACE = 0x4BF92F3577B34DA6A3CE929D0E0E4736


class Placed(Event):
    number: int = 0


class Billed(Event):
    pass


class Billing(EventPlugin[Placed]):
    async def handle_event(self, event: Placed) -> None:
        await self.app.publish(Billed())


class Archive(EventPlugin[Billed]):
    async def handle_event(self, event: Billed) -> None:
        self.traceparent = current_delivery().traceparent


class Shaky(EventPlugin[Placed]):
    delivery = DeliverySettings(retry=True)

    async def handle_event(self, event: Placed) -> None:
        if current_delivery().attempt == 1:
            raise ValueError("no network")


class Leaking(EventPlugin[Placed]):
    key: Secret = Secret("open-sesame")

    async def handle_event(self, event: Placed) -> None:
        self.fail()

    @route("/leak")
    async def leak(self) -> None:
        self.fail()

    def fail(self) -> None:
        raise ValueError(f"no door opens by {self.key.reveal()}") from KeyError(self.key.reveal())


class LeakingInBatches(BatchPlugin[Placed]):
    key: Secret = Secret("open-sesame")

    async def handle_batch(self, events: Batch[Placed]) -> None:
        raise ExceptionGroup(
            self.key.reveal(), [ValueError(f"no door opens by {self.key.reveal()}")]
        )


class InBatches(BatchPlugin[Placed]):
    delivery = DeliverySettings(batch_size=3, batch_age=5.0)

    async def handle_batch(self, events: Batch[Placed]) -> None:
        await self.app.publish(Billed())


class Durable(EventPlugin[Placed]):
    delivery = DeliverySettings(durable=True)

    async def handle_event(self, event: Placed) -> None:
        pass


class Desk(EventPlugin[Placed]):
    async def handle_event(self, event: Placed) -> None:
        pass

    @route("/orders/<int:number>")
    async def order(self, number: int) -> dict[str, int]:
        await self.app.publish(Placed(number))
        return {"number": number}

    @route("/broken")
    async def broken(self) -> None:
        raise ValueError("broken")


async def test_what_a_handler_publishes_follows_from_its_span() -> None:
    """The publishing, the wait and the handling of an event are spans, and so are what follows."""
    with collected() as spans:
        async with open_plugins(Billing, Archive, traces=ON) as runtime:
            await runtime.publish(Placed())
            await wait_all_tasks_blocked()
    first = ["publish placed", "wait billing", "handle billing"]
    assert spans.names == sorted([*first, "publish billed", "wait archive", "handle archive"])
    assert is_child(spans.the("wait billing"), spans.the("publish placed"))
    assert is_child(spans.the("handle billing"), spans.the("publish placed"))
    assert is_child(spans.the("publish billed"), spans.the("handle billing"))
    assert is_child(spans.the("handle archive"), spans.the("publish billed"))
    assert len({trace_of(span) for span in spans.all}) == 1


async def test_each_attempt_is_a_span(autojump_clock: MockClock) -> None:
    """A failed attempt is a span with its error; the wait in the queue is before the first only."""
    with collected() as spans:
        async with open_plugins(Shaky, traces=ON) as runtime:
            await runtime.publish(Placed(), wait=True)
    first, second = spans.named("handle shaky")
    assert first.status.status_code is StatusCode.ERROR
    assert first.events[0].name == "exception"
    assert second.status.status_code is StatusCode.UNSET
    assert [(each.attributes or {})["trivet.attempt"] for each in (first, second)] == [1, 2]
    assert len(spans.named("wait shaky")) == 1


async def test_a_span_has_no_secrets() -> None:
    """The error of a span has its type, its text and its traceback, and each secret is masked."""
    with collected() as spans:
        async with open_plugins(Leaking, LeakingInBatches, traces=ON) as runtime:
            await runtime.publish(Placed())
            await client(runtime).get("/leak")
            await wait_all_tasks_blocked()
    handled, batch = spans.the("handle leaking"), spans.the("handle leaking_in_batches")
    for span in (handled, batch):
        assert span.status.status_code is StatusCode.ERROR
        assert span.status.description == "ValueError: no door opens by ***"
    (event,) = handled.events
    facts: Any = event.attributes
    assert event.name == "exception"
    assert facts["exception.type"] == "builtins.ValueError"
    assert facts["exception.message"] == "no door opens by ***"
    assert "KeyError: '***'" in facts["exception.stacktrace"]
    assert "in handle_event" in facts["exception.stacktrace"]
    assert len(batch.events) == 1
    assert "open-sesame" not in "".join(str(span.to_json()) for span in spans.all)


async def test_a_batch_is_linked_to_its_events(autojump_clock: MockClock) -> None:
    """The span of a batch follows from the first event, and is linked to the others."""
    with collected() as spans:
        async with open_plugins(InBatches, event_types=[Billed], traces=ON) as runtime:
            for number in range(3):
                await runtime.publish(Placed(number))
            await wait_all_tasks_blocked()
    handled, published = spans.the("handle in_batches"), spans.named("publish placed")
    assert is_child(handled, published[0])
    linked = {link.context.trace_id for link in handled.links}
    assert linked == {trace_of(each) for each in published[1:]}
    assert is_child(spans.the("publish billed"), handled)


@pytest.mark.parametrize("path", ["/orders/7", "/events/placed"])
async def test_a_request_begins_where_its_client_has_stood(path: str) -> None:
    """The span of a request follows from the client's, and what it publishes from the request's."""
    headers = {"traceparent": SAMPLED}
    with collected() as spans:
        async with open_plugins(Desk, traces=ON) as runtime:
            http = client(runtime)
            if path == "/events/placed":
                await http.post(path, json={"number": 7}, headers=headers)
            else:
                await http.get(path, headers=headers)
            await wait_all_tasks_blocked()
    name = {"/orders/7": "GET /orders/{number}", "/events/placed": "POST /events/{name}"}[path]
    assert is_child(spans.the("publish placed"), spans.the(name))
    assert is_child(spans.the("handle desk"), spans.the("publish placed"))
    assert {trace_of(span) for span in spans.all} == {TRACE}


async def test_the_status_of_a_request() -> None:
    """A response above 499 is an error of the span; the status is known in any case."""
    with collected() as spans:
        async with open_plugins(Desk, traces=ON) as runtime:
            await client(runtime).get("/broken")
            await client(runtime).get("/nothing")
    broken, nothing = spans.the("GET /broken"), spans.the("GET unmatched")
    assert broken.status.status_code is StatusCode.ERROR
    assert (broken.attributes or {})["http.response.status_code"] == 500
    assert nothing.status.status_code is StatusCode.UNSET
    assert (nothing.attributes or {})["http.response.status_code"] == 404


@pytest.mark.parametrize("sampled", [True, False])
async def test_what_is_not_sampled_has_no_spans(sampled: bool) -> None:
    """The flag of a `traceparent` decides, whatever is sampled here, and goes on as it came."""
    with collected(sampled=sampled) as spans:
        async with open_plugins(Billing, Archive, traces=ON) as runtime:
            await runtime.publish(Placed(), traceparent=NOT_SAMPLED)
            await wait_all_tasks_blocked()
            assert spans.names == []
            assert runtime.get(Archive).traceparent == NOT_SAMPLED
            await runtime.publish(Placed(), traceparent=SAMPLED)
            await wait_all_tasks_blocked()
            assert len(spans.all) == 6


async def test_a_trace_that_is_not_sampled_stays_so() -> None:
    """The first span of a trace decides for those that follow."""
    with collected(sampled=False) as spans:
        async with open_plugins(Billing, Archive, traces=ON) as runtime:
            await runtime.publish(Placed())
            await wait_all_tasks_blocked()
            carried = runtime.get(Archive).traceparent
    assert spans.names == []
    assert carried is not None
    assert not is_sampled(carried)


@pytest.mark.parametrize("path", ["/orders/7", "/nothing"])
async def test_a_share_of_the_traces(path: str) -> None:
    """A share of the traces that begin here is made; those from elsewhere are as they came."""
    none = TraceSettings(enabled=True, sample=0.0)
    with collected() as spans:
        async with open_plugins(Desk, traces=none) as runtime:
            http = client(runtime)
            await http.get(path)
            await runtime.publish(Placed())
            await wait_all_tasks_blocked()
            assert spans.names == []
            await http.get(path, headers={"traceparent": SAMPLED})
            await wait_all_tasks_blocked()
    assert {trace_of(span) for span in spans.all} == {TRACE}


async def test_a_trace_that_is_not_made_says_so() -> None:
    """An event whose trace is not made tells other programs so, by a valid trace context."""
    none = TraceSettings(enabled=True, sample=0.0)
    async with open_plugins(Archive, traces=none) as runtime:
        seen: set[str | None] = set()
        for _ in range(2):
            await runtime.publish(Billed())
            await wait_all_tasks_blocked()
            seen.add(runtime.get(Archive).traceparent)
    assert len(seen) == 2
    assert all(re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-00", each or "") for each in seen)


async def test_several_events_at_once_are_spans_of_their_own() -> None:
    """Events that are published together do not follow from one another."""
    with collected() as spans:
        async with open_plugins(Archive, traces=ON) as runtime:
            events = [Delivery.of(Billed()), Delivery.of(Billed(), traceparent=SAMPLED)]
            await runtime.publish_many(events, wait=True)
    traces = {trace_of(span) for span in spans.named("publish billed")}
    assert len(traces) == 2
    assert TRACE in traces
    assert {trace_of(span) for span in spans.named("handle archive")} == traces


async def test_a_trace_outlives_the_program(tmp_path: Path) -> None:
    """The trace of a durable event goes on in the next run of the program."""
    store = StoreSettings(path=tmp_path / "trivet.db")
    with collected() as spans:
        async with open_plugins(Durable, traces=ON, store=store) as runtime:
            _orders.pause(runtime.host("durable"))
            await runtime.publish(Placed(), traceparent=SAMPLED)
        async with open_plugins(Durable, traces=ON, store=store):
            with trio.fail_after(10):
                while not spans.named("handle durable"):
                    await trio.sleep(0.01)
    assert trace_of(spans.the("handle durable")) == TRACE
    assert is_child(spans.the("handle durable"), spans.the("publish placed"))


@pytest.mark.parametrize("traceparent", ["nonsense", "ff-" + SAMPLED[3:], SAMPLED[:-1], ""])
async def test_a_traceparent_that_is_none(traceparent: str) -> None:
    """A text that is no trace context begins a new trace."""
    with collected() as spans:
        async with open_plugins(Archive, traces=ON) as runtime:
            await runtime.publish(Billed(), traceparent=traceparent)
            await wait_all_tasks_blocked()
    assert trace_of(spans.the("publish billed")) not in (0, TRACE)


async def test_without_an_sdk_events_carry_on_what_they_have() -> None:
    """An event has the `traceparent` of its publisher, or none, where nobody samples."""
    trace.get_tracer_provider()
    async with open_plugins(Archive, traces=ON) as runtime:
        for traceparent in (SAMPLED, None):
            await runtime.publish(Billed(), traceparent=traceparent)
            await wait_all_tasks_blocked()
            assert runtime.get(Archive).traceparent == traceparent


async def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that is to make spans, and cannot, says what to install."""
    monkeypatch.setitem(sys.modules, "trivet._events._tracing", None)
    with pytest.raises(ConfigurationError, match=r"trivet\[otel\]"):
        async with open_plugins(Archive, traces=ON):
            pass


def test_traces_that_are_off_import_nothing() -> None:
    """Without `[traces]` a program that runs has no part of OpenTelemetry in memory."""
    program = """
import sys, trio
from trivet import Event, EventPlugin, open_runtime
class Placed(Event):
    pass
class Billing(EventPlugin[Placed]):
    async def handle_event(self, event):
        pass
async def main():
    async with open_runtime(plugins=[Billing]) as runtime:
        await runtime.publish(Placed(), wait=True)
trio.run(main)
sys.exit(any(name.partition(".")[0] == "opentelemetry" for name in sys.modules))
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
