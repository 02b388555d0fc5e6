"""The metrics that a scraper reads."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx
import pytest
import trio
from prometheus_client import Metric, parser
from prometheus_client.openmetrics import parser as openmetrics_parser
from trio.testing import MockClock

from trivet import (
    DeliverySettings,
    Event,
    EventPlugin,
    InboxStatistics,
    Runtime,
    StoreSettings,
    SupervisionSettings,
    route,
)
from trivet._web import _metrics
from trivet.testing import client, open_plugins, serving

from ...contrib.programs import needs

Labels = frozenset[tuple[str, str]]


class Poured(Event):
    cups: int = 1


class Spilled(Event):
    pass


class Teapot(EventPlugin[Poured]):
    may_go_on: trio.Event | None = None

    async def handle_event(self, event: Poured) -> None:
        if event.cups == 0:
            raise ValueError("no cup")
        if event.cups > 1:
            await trio.sleep_forever()


class Kettle(EventPlugin[Poured]):
    async def handle_event(self, event: Poured) -> None:
        pass

    @route("/kettles/<int:number>")
    async def kettle(self, number: int) -> dict[str, int]:
        return {"number": number}


class Critical(Kettle):
    supervision = SupervisionSettings(critical=True)


class Durable(EventPlugin[Poured]):
    delivery = DeliverySettings(durable=True)

    async def handle_event(self, event: Poured) -> None:
        pass


def nothing_installed(name: str) -> None:
    """`find_spec` where nothing is installed."""


async def scraped(runtime: Runtime) -> Mapping[tuple[str, Labels], float]:
    """The value of each series."""
    answer = await client(runtime).get("/metrics")
    assert answer.status_code == 200
    return values(await answer.get_data(as_text=True))


def values(text: str) -> Mapping[tuple[str, Labels], float]:
    """The value of each series in a text."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in parser.text_string_to_metric_families(text)
        for sample in family.samples
    }


def of(name: str, **labels: str) -> tuple[str, Labels]:
    """The key of one series."""
    return name, frozenset(labels.items())


async def test_the_counters_of_an_inbox(autojump_clock: MockClock) -> None:
    """Each event is counted by its fate, and those inside by their state."""
    async with open_plugins(Teapot, event_types=[Spilled]) as runtime:
        await runtime.publish(Poured(1), wait=True)
        await runtime.publish(Poured(0), wait=True)
        await runtime.publish(Spilled())
        for _ in range(3):
            await runtime.publish(Poured(2))
        await trio.testing.wait_all_tasks_blocked()
        found = await scraped(runtime)
        assert found[of("trivet_inbox_accepted_events_total", plugin="teapot")] == 5
        fates = {
            fate: found[of("trivet_inbox_ended_events_total", plugin="teapot", fate=fate)]
            for fate in ("handled", "failed", "expired", "rejected")
        }
        assert fates == {"handled": 1, "failed": 1, "expired": 0, "rejected": 0}
        states = {
            state: found[of("trivet_inbox_events", plugin="teapot", state=state)]
            for state in ("queued", "in_flight", "backing_off")
        }
        assert states == {"queued": 2, "in_flight": 1, "backing_off": 0}
        assert found[of("trivet_unrouted_events_total", event="spilled")] == 1


async def test_every_counter_of_an_inbox_is_a_metric() -> None:
    """Each number of `InboxStatistics` changes a series: none is left out."""
    zero = dict.fromkeys(InboxStatistics.__annotations__, 0)
    async with open_plugins(Teapot) as runtime:
        for name in zero:
            statistics = InboxStatistics(**{**zero, name: 7})
            runtime.statistics = lambda found=statistics: {"teapot": found}  # type: ignore[method-assign,misc]
            found = await scraped(runtime)
            own = {key for key, value in found.items() if "inbox" in key[0] and value == 7}
            assert len(own) == 1, name


async def test_the_status_of_a_plugin() -> None:
    """The status that a plugin has is 1, each other one is 0."""
    async with open_plugins(Teapot) as runtime:
        found = await scraped(runtime)
        statuses = {
            dict(labels)["trivet_plugin_status"]
            for (name, labels), value in found.items()
            if name == "trivet_plugin_status" and value == 1
        }
        assert statuses == {"running"}
        assert found[of("trivet_plugin_up", plugin="teapot")] == 1


async def test_a_program_that_is_not_ready() -> None:
    """The service is ready as long as `/readyz` says so."""
    async with open_plugins(Critical) as runtime:
        assert (await scraped(runtime))[of("trivet_ready")] == 1
        runtime.get(Critical).degrade("no tea")
        assert (await scraped(runtime))[of("trivet_ready")] == 0


async def test_the_oldest_event(autojump_clock: MockClock) -> None:
    """The oldest event has the moment at which it was published; an empty inbox has no oldest."""
    oldest = of("trivet_inbox_oldest_event_timestamp_seconds", plugin="teapot")
    async with open_plugins(Teapot) as runtime:
        assert oldest not in await scraped(runtime)
        first = await runtime.publish(Poured(2))
        await runtime.publish(Poured(3))
        await trio.testing.wait_all_tasks_blocked()
        found = await scraped(runtime)
        assert found[oldest] == pytest.approx(first.delivery.published, abs=1e-3)


async def test_the_latencies_of_events(autojump_clock: MockClock) -> None:
    """The histograms count an attempt in each bucket that is long enough for it."""
    async with open_plugins(Teapot) as runtime:
        await runtime.publish(Poured(2))
        await trio.sleep(3.0)
        await runtime.publish(Poured(1))
        runtime.restart("teapot")
        await trio.sleep(60.0)
        found = await scraped(runtime)
        labels = {"plugin": "teapot", "event": "poured"}
        attempts = "trivet_event_attempt_seconds"
        assert found[of(f"{attempts}_bucket", **labels, le="2.0")] == 0
        assert found[of(f"{attempts}_bucket", **labels, le="4.0")] == 1
        assert found[of(f"{attempts}_count", **labels)] >= 1
        assert found[of("trivet_event_wait_seconds_count", **labels)] >= 1


async def test_requests_by_route_and_class() -> None:
    """A request counts for the template of its route, whichever way it is answered."""
    async with open_plugins(Kettle) as runtime, serving(runtime) as url:
        async with httpx.AsyncClient(base_url=url) as http:
            for path in ("/kettles/1", "/kettles/2", "/kettles/none", "/nothing"):
                await http.get(path)
            for _ in range(2):
                await http.post("/events/poured", json={"cups": 0})
            await http.post("/events/poured", json={"cups": "many"})
            found = values((await http.get("/metrics")).text)
    name = "trivet_http_request_seconds_count"
    kettles = {"method": "GET", "route": "/kettles/{number}"}
    assert found[of(name, **kettles, status="2xx")] == 2
    events = {"method": "POST", "route": "/events/{name}"}
    assert found[of(name, **events, status="2xx")] == 2
    assert found[of(name, **events, status="4xx")] == 1
    assert found[of(name, method="GET", route="unmatched", status="4xx")] == 2
    assert found[of("trivet_http_errors_total", **events, error_code="invalid_event")] == 1


async def test_connections_and_their_bytes() -> None:
    """Connections count while they are open, and their bytes after that too."""
    async with open_plugins(Kettle) as runtime, serving(runtime) as url:
        for _ in range(2):
            async with httpx.AsyncClient(base_url=url) as http:
                await http.post("/events/poured", json={"cups": 0}, headers={"X-Long": "x" * 1000})
        async with httpx.AsyncClient(base_url=url) as http:
            found = values((await http.get("/metrics")).text)
    assert found[of("trivet_http_connections")] >= 1
    assert found[of("trivet_http_open_requests")] == 1
    assert found[of("trivet_http_refused_connections_total")] == 0
    assert found[of("trivet_http_received_bytes_total")] > 2000
    assert found[of("trivet_http_sent_bytes_total")] > 200


async def test_connections_that_were_refused() -> None:
    """A connection beyond the limit counts as refused."""
    async with open_plugins(Kettle, max_connections=1) as runtime, serving(runtime) as url:
        async with httpx.AsyncClient(base_url=url) as first:
            await first.get("/kettles/1")
            async with httpx.AsyncClient(base_url=url) as second:
                assert (await second.get("/kettles/1")).status_code == 503
            found = values((await first.get("/metrics")).text)
    assert found[of("trivet_http_refused_connections_total")] == 1


async def test_the_writing_of_the_store(tmp_path: Path) -> None:
    """A transaction that was written counts; nothing waits when all is written."""
    async with open_plugins(Durable, store=StoreSettings(path=tmp_path / "trivet.db")) as runtime:
        await runtime.publish(Poured(0), wait=True)
        store = runtime.store
        assert store is not None
        while store.waiting:
            await trio.lowlevel.checkpoint()
        found = await scraped(runtime)
        assert found[of("trivet_store_commits_total")] >= 1
        assert found[of("trivet_store_waiting")] == 0


async def test_a_scraper_that_knows_openmetrics() -> None:
    """A scraper that accepts OpenMetrics gets it, and its media type."""
    accept = {"Accept": "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"}
    async with open_plugins(Teapot) as runtime:
        answer = await client(runtime).get("/metrics", headers=accept)
        assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
        text = await answer.get_data(as_text=True)
        found: Iterator[Metric] = openmetrics_parser.text_string_to_metric_families(text)  # type: ignore[no-untyped-call]  # pyright: ignore[reportUnknownMemberType]
        names = {family.name for family in found}
        assert {"trivet_plugin_restarts", "trivet"} <= names


async def test_the_trace_of_a_duration() -> None:
    """A bucket has the trace of its last duration, if that is sampled, in OpenMetrics."""
    accept = {"Accept": "application/openmetrics-text;version=1.0.0"}
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
    async with open_plugins(Kettle) as runtime:
        http = client(runtime)
        for traceparent in ("nonsense", f"00-{trace_id[::-1]}-00f067aa0ba902b7-00"):
            await http.get("/kettles/1", headers={"traceparent": traceparent})
        text = await (await http.get("/metrics", headers=accept)).get_data(as_text=True)
        assert "trace_id" not in text
        traceparent = f"00-{trace_id}-00f067aa0ba902b7-01"
        await http.get("/kettles/1", headers={"traceparent": traceparent})
        await runtime.publish(Poured(0), wait=True, traceparent=traceparent)
        text = await (await http.get("/metrics", headers=accept)).get_data(as_text=True)
        plain = await (await http.get("/metrics")).get_data(as_text=True)
    assert "trace_id" not in plain
    found: Iterator[Metric] = openmetrics_parser.text_string_to_metric_families(text)  # type: ignore[no-untyped-call]  # pyright: ignore[reportUnknownMemberType]
    with_trace = {
        sample.name: sample.exemplar.labels
        for family in found
        for sample in family.samples
        if sample.exemplar is not None
    }
    assert with_trace == {
        "trivet_http_request_seconds_bucket": {"trace_id": trace_id},
        "trivet_event_attempt_seconds_bucket": {"trace_id": trace_id},
    }


async def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scrape without prometheus-client is answered by what to install."""
    monkeypatch.setattr(_metrics, "find_spec", nothing_installed)
    async with open_plugins(Teapot) as runtime:
        answer = await client(runtime).get("/metrics")
        assert answer.status_code == 501
        problem = await answer.get_json()
        assert problem["error_code"] == "not_installed"
        assert "trivet[metrics]" in problem["detail"]


@pytest.mark.process
@needs("promtool")
async def test_prometheus_finds_no_fault() -> None:
    """Prometheus' own tool accepts the names, the types and the descriptions."""
    promtool = shutil.which("promtool")
    assert promtool is not None
    async with open_plugins(Teapot, event_types=[Spilled]) as runtime, serving(runtime) as url:
        await runtime.publish(Spilled())
        async with httpx.AsyncClient() as http:
            text = (await http.get(f"{url}/metrics")).content
    check = [promtool, "check", "metrics"]
    done = await trio.run_process(check, stdin=text, capture_stderr=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
