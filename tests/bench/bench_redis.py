"""Redis Streams in and out, beside the bare client that does the same.

    python tests/bench/bench_redis.py [--quick]

A redis-server of its own, with its append-only file, in a temporary directory. Each event is a
CloudEvent in binary mode with about 250 bytes of data, or those data alone as plain JSON. The bare
client reads, decodes, counts and acknowledges 256 entries at a time, or encodes and adds 256 at a
time in one pipeline, and does nothing else: it has no inbox, and tries nothing again. "The runtime
alone" is what a source cannot be faster than: events that have an id and are answered for,
published from memory and handled, beside the same bare client. The source may have two such lots in
hand, so that Redis prepares the next while one is handled; the cyclic garbage collector leaves what
is there at the start alone, as in `trivet serve`.

The last row is by how much the peak memory of a program of its own, a source with a slow
subscriber, is above what it was at its start, while a backlog of a million entries (20 000 with
`--quick`) waits in Redis.
"""

from __future__ import annotations

import gc
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from itertools import count
from pathlib import Path
from time import perf_counter, sleep
from typing import cast

import coredis
import msgspec
import structlog
import trio
from pairs import QUICK, Table, in_trio, pairs

from trivet import Delivery, Event, EventPlugin, Receipt
from trivet.testing import open_plugins
from trivet_contrib.redis import RedisSink, RedisSource

EVENTS = 4_000 if QUICK else 40_000
BACKLOG = 20_000 if QUICK else 1_000_000
TOGETHER = 256
NOTE = "x" * 215
AIM = "≥ 0.7"
GROWTH = "--growth"
"""The argument of a process for the last row."""

Form = Callable[[int], dict[str, str | bytes]]
"""The fields of an entry."""
_numbers = count(1)


class Order(Event):
    """An event of about 250 bytes of JSON."""

    order_id: str
    note: str


class Counter(EventPlugin[Order]):
    """Handles as little as the bare client does."""

    def __init__(self, app: object) -> None:
        self.handled = 0
        self.began = 0.0
        self.wanted = EVENTS
        self.pause = False
        self.done = trio.Event()

    async def handle_event(self, event: Order) -> None:
        """Count the event."""
        if self.pause:
            await trio.sleep(0.001)
        if not self.handled:
            self.began = perf_counter()
        self.handled += 1
        if self.handled >= self.wanted:
            self.done.set()


def order(number: int) -> Order:
    """The order with a number."""
    return Order(f"o-{number:06}", NOTE)


def plain(number: int) -> dict[str, str | bytes]:
    """Plain JSON."""
    return {"data": msgspec.json.encode(order(number))}


def cloud_event(number: int) -> dict[str, str | bytes]:
    """A CloudEvent in binary mode, as the sink makes it."""
    attributes = {"specversion": "1.0", "id": f"o-{number}", "source": "shop", "type": "order"}
    headers: dict[str, str | bytes] = {f"ce-{name}": each for name, each in attributes.items()}
    headers |= {"content-type": "application/json", "ce-time": "2026-01-31T12:00:00.123456+00:00"}
    return {**headers, **plain(number)}


@contextmanager
def redis_server() -> Generator[str]:
    """Start a server, and yield its URL."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port: int = bound.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="trivet-redis-") as directory:
        options = ["--port", str(port), "--dir", directory, "--appendonly", "yes", "--save", ""]
        server = subprocess.Popen(["redis-server", *options], stdout=subprocess.DEVNULL)
        try:
            while True:
                with socket.socket() as asked:
                    if asked.connect_ex(("127.0.0.1", port)) == 0:
                        break
                sleep(0.01)
            yield f"redis://127.0.0.1:{port}"
        finally:
            server.kill()
            server.wait()


@asynccontextmanager
async def client(url: str) -> AsyncGenerator[coredis.Redis[bytes]]:
    """The bare client."""
    async with coredis.Redis.from_url(url, verify_version=False) as made:
        yield made


async def fill(url: str, stream: str, form: Form, entries: int) -> None:
    """Put entries into a stream."""
    async with client(url) as redis:
        for first in range(0, entries, TOGETHER):
            async with redis.pipeline(transaction=False) as pipeline:
                for number in range(first, min(first + TOGETHER, entries)):
                    pipeline.xadd(stream, form(number))


async def read_bare(url: str, stream: str) -> float:
    """Entries a second, by the bare client."""
    decoder, group = msgspec.json.Decoder(Order), f"bare-{next(_numbers)}"
    async with client(url) as redis:
        await redis.xgroup_create(stream, group, identifier="0")
        began, handled = perf_counter(), 0
        while handled < EVENTS:
            answer = await redis.xreadgroup(group, "me", {stream: ">"}, count=TOGETHER, block=1000)
            entries = next(iter((answer or {}).values()))
            for entry in entries:
                fields = cast("dict[bytes, bytes]", entry.field_values)
                decoder.decode(fields[b"data"])
                handled += 1
            await redis.xack(stream, group, [entry.identifier for entry in entries])
        return EVENTS / (perf_counter() - began)


async def read_trivet(url: str, stream: str) -> float:
    """Entries a second, from the first that is handled until all are acknowledged."""
    group = f"trivet-{next(_numbers)}"
    table = {
        "url": url,
        "stream": stream,
        "group": group,
        "event": "order",
        "prefetch": 2 * TOGETHER,
    }
    async with open_plugins(RedisSource, Counter, settings={"redis_source": table}) as runtime:
        counter = runtime.get(Counter)
        async with client(url) as redis:
            await counter.done.wait()
            while (await redis.xpending(stream, group)).pending:  # type: ignore[union-attr]
                await trio.lowlevel.checkpoint()
            return EVENTS / (perf_counter() - counter.began)


async def send_bare(url: str, form: Form) -> float:
    """Events a second, by the bare client."""
    async with client(url) as redis:
        await redis.delete(["sent"])
        began = perf_counter()
        for first in range(0, EVENTS, TOGETHER):
            async with redis.pipeline(transaction=False) as pipeline:
                for number in range(first, min(first + TOGETHER, EVENTS)):
                    pipeline.xadd("sent", form(number))
        return EVENTS / (perf_counter() - began)


async def send_trivet(url: str, format: str) -> float:
    """Events a second, from the first that is published until Redis has all of them."""
    async with client(url) as redis:
        await redis.delete(["sent"])
    table = {"url": url, "stream": "sent", "create": True, "max_length": 0, "format": format}
    sink = {"redis_sink": {**table, "delivery": {"block_for": 60, "events": ["order"]}}}
    async with open_plugins(RedisSink, event_types=[Order], settings=sink) as runtime:
        began = perf_counter()
        for number in range(EVENTS):
            await runtime.publish(order(number))
        while runtime.statistics()["redis_sink"].handled < EVENTS:
            await trio.sleep(0.0005)
        return EVENTS / (perf_counter() - began)


async def publish_trivet() -> float:
    """Events a second with an id and an awaited end, without Redis."""
    async with open_plugins(Counter) as runtime:
        counter, began = runtime.get(Counter), perf_counter()
        for first in range(0, EVENTS, TOGETHER):
            numbers = range(first, min(first + TOGETHER, EVENTS))
            await runtime.publish_many(
                [Delivery.of(order(each), id=str(each), receipt=Receipt()) for each in numbers]
            )
        await counter.done.wait()
        return EVENTS / (perf_counter() - began)


async def growth(url: str, stream: str) -> float:
    """Growth of this process's peak memory with a backlog, in MiB."""
    before = memory("VmRSS")
    table = {"url": url, "stream": stream, "group": "slow", "event": "order"}
    async with open_plugins(RedisSource, Counter, settings={"redis_source": table}) as runtime:
        counter = runtime.get(Counter)
        counter.pause, counter.wanted = True, 500 if QUICK else 5_000
        await counter.done.wait()
        runtime.hurry()
    return memory("VmHWM") - before


def growth_of_its_own(url: str, stream: str) -> float:
    """Call `growth` in a process that has done nothing else."""
    command = [sys.executable, __file__, GROWTH, url, stream]
    command += ["--quick"] if QUICK else []
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def memory(what: str) -> float:
    """A figure of this process's status, in MiB, by its name there."""
    found = re.search(rf"{what}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


def main() -> None:
    """Measure, and print the table."""
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    gc.freeze()
    table = Table("redis streams", "events/s")

    def row(
        what: str, ours: Callable[[], float], bare: Callable[[], float], aim: str = AIM
    ) -> None:
        rate, ratio = pairs(ours, bare)
        table.row(what, rate.median, "the bare client", ratio, aim)

    with redis_server() as url:
        forms: dict[str, Form] = {"json": plain, "binary": cloud_event}
        for name, form in forms.items():
            trio.run(fill, url, name, form, EVENTS)
            row(f"source, {name}", in_trio(read_trivet, url, name), in_trio(read_bare, url, name))
        row("the runtime alone", in_trio(publish_trivet), in_trio(read_bare, url, "json"), "")
        for name, form in forms.items():
            row(f"sink, {name}", in_trio(send_trivet, url, name), in_trio(send_bare, url, form))
        trio.run(fill, url, "backlog", plain, BACKLOG)
        grown = growth_of_its_own(url, "backlog")
        table.row(f"MiB before a backlog of {BACKLOG:,}", grown, "", None, "≤ 64")


if __name__ == "__main__":
    if GROWTH in sys.argv:
        structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
        sys.stdout.write(f"{trio.run(growth, sys.argv[2], sys.argv[3])}")
    else:
        main()
