"""Events to a webhook and points to InfluxDB, beside bare httpx that sends the same.

    python tests/bench/bench_http_sinks.py [--quick]

A receiver that reads each request and answers 204 is a process of its own, on asyncio. Bare httpx
posts what the sink posts, one request after the other over one connection, and has it encoded, too;
it waits for each answer, and does nothing else. Monitoring points are compressed.
"""

from __future__ import annotations

import gzip
import subprocess
import sys
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from time import perf_counter

import httpx
import msgspec
import structlog
import trio
from pairs import QUICK, Table, in_trio, pairs

from trivet import Event, MonitoringEvent, MonitoringPoint
from trivet.testing import open_plugins
from trivet_contrib.influx import Influx
from trivet_contrib.influx._lines import to_lines
from trivet_contrib.webhook import Webhook

ONE_BY_ONE = 300 if QUICK else 2_000
IN_BATCHES = 5_000 if QUICK else 50_000
"""Events in one round."""
TOGETHER = 100
"""Events in a batch, and lines in a request."""
AIM = "≥ 0.7"
BEGAN = datetime(2026, 1, 31, tzinfo=UTC)

Value = str | int | float | bool

RECEIVER = r"""
import asyncio, re

async def answer(reader, writer):
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(re.search(rb"(?i)content-length: *(\d+)", head)[1]))
            writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
    except asyncio.IncompleteReadError:
        writer.close()

async def main():
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

asyncio.run(main())
"""


class Order(Event):
    """An event of about 250 bytes of JSON."""

    order_id: str
    note: str


def order(number: int) -> Order:
    """The order with a number."""
    return Order(f"o-{number:06}", "x" * 215)


def monitoring(number: int) -> MonitoringEvent:
    """A point like that of a request to Trivet."""
    tags: dict[str, Value] = {"route": "POST:/6/orders", "service": "shop", "status_code": 200}
    time = BEGAN + timedelta(microseconds=100 * number)
    return MonitoringEvent([MonitoringPoint("requests", time, tags, {"execution_time": 0.025})])


@contextmanager
def receiver() -> Generator[str]:
    """Start the receiver, and yield its URL."""
    command = [sys.executable, "-c", RECEIVER]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}/"
    finally:
        process.kill()
        process.wait()


def document(number: int) -> dict[str, object]:
    """A CloudEvent, as the webhook makes it."""
    facts = {"specversion": "1.0", "id": f"shop-{number}", "source": "shop", "type": "order"}
    about = {"time": "2026-01-31T12:00:00.123456Z", "datacontenttype": "application/json"}
    return {**facts, **about, "data": order(number)}


def batches(events: int) -> Iterable[range]:
    """The numbers of events, batch by batch."""
    return (range(first, first + TOGETHER) for first in range(0, events, TOGETHER))


async def bare_webhook(url: str, events: int, *, batched: bool) -> float:
    """Events a second."""
    async with httpx.AsyncClient(trust_env=False) as client:
        began = perf_counter()
        kind = "cloudevents-batch" if batched else "cloudevents"
        headers = {"Content-Type": f"application/{kind}+json"}
        bodies: Iterable[bytes] = (msgspec.json.encode(document(each)) for each in range(events))
        if batched:
            bodies = (msgspec.json.encode([*map(document, each)]) for each in batches(events))
        for body in bodies:
            answer = await client.post(url, content=body, headers=headers)
            assert answer.status_code == 204
        return events / (perf_counter() - began)


async def bare_influx(url: str, events: int) -> float:
    """Events a second."""
    async with httpx.AsyncClient(trust_env=False) as client:
        began = perf_counter()
        headers = {"Content-Type": "text/plain; charset=utf-8", "Content-Encoding": "gzip"}
        for numbers in batches(events):
            lines = to_lines([point for each in numbers for point in monitoring(each).points], {})
            body = gzip.compress(lines, 1, mtime=0)
            answer = await client.post(f"{url}write", content=body, headers=headers)
            assert answer.status_code == 204
        return events / (perf_counter() - began)


async def trivet(
    plugin: type[Webhook | Influx],
    settings: dict[str, object],
    make: Callable[[int], Event],
    events: int,
    together: int = TOGETHER,
) -> float:
    """Events a second, from the first publish to the last answer."""
    delivery = {"overflow": "block", "block_for": 60, "batch_size": together}
    table = {plugin.name: {**settings, "delivery": delivery}}
    async with open_plugins(plugin, event_types=[Order], settings=table) as runtime:
        began = perf_counter()
        for number in range(events):
            await runtime.publish(make(number))
        while runtime.statistics()[plugin.name].handled < events:
            await trio.sleep(0.0005)
        return events / (perf_counter() - began)


def main() -> None:
    """Measure, and print the table."""
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    table = Table("sinks by http", "events/s")

    def row(
        what: str, ours: Callable[[], float], bare: Callable[[], float], aim: str = AIM
    ) -> None:
        rate, ratio = pairs(ours, bare)
        table.row(what, rate.median, "bare httpx", ratio, aim)

    with receiver() as url:
        for together, events in ((1, ONE_BY_ONE), (TOGETHER, IN_BATCHES)):
            settings = {"url": url, "allowed_networks": ["127.0.0.0/8"]}
            bare = in_trio(partial(bare_webhook, batched=together > 1), url, events)
            what = f"webhook, {f'{TOGETHER} at once' if together > 1 else 'one by one'}"
            aim = "≥ 0.75" if together > 1 else AIM
            row(what, in_trio(trivet, Webhook, settings, order, events, together), bare, aim)
        to_influx = {"url": url, "database": "shop"}
        ours = in_trio(trivet, Influx, to_influx, monitoring, IN_BATCHES)
        row(f"influx, {TOGETHER} at once", ours, in_trio(bare_influx, url, IN_BATCHES))


if __name__ == "__main__":
    main()
