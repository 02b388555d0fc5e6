"""NATS JetStream in and out, beside the bare client that does the same.

    python tests/bench/bench_nats.py [--quick]

A nats-server of its own, with JetStream's files in a temporary directory. Each event is a
CloudEvent in binary mode with about 250 bytes of data, or those data alone as plain JSON. The bare
client is nats-py as its users have it: on asyncio's own loop, in a process that has never imported
trio-asyncio, which would make that loop slower. It fetches, decodes and counts 256 messages at a
time, and acknowledges them as the source does: all at once, waiting for the server's answer to the
last; or it encodes and publishes 256 at a time, with an id of its own for each, and waits for all
their acknowledgements. It does nothing else: it has no inbox, and tries nothing again. "The runtime
alone" is what a source cannot be faster than: events that have an id and are answered for,
published from memory and handled, beside the same bare client.

The last row is by how much the peak memory of a program of its own, a source with a slow
subscriber, is above what it was at its start, while a backlog of a million messages (20 000 with
`--quick`) waits in NATS.
"""

# pyright: reportUnknownMemberType=false
# nats-py has keywords without types.

from __future__ import annotations

import asyncio
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from time import perf_counter, sleep

import msgspec
import nats
import structlog
import trio
from nats.js import JetStreamContext
from nats.js.api import ConsumerConfig, PubAck, StreamConfig
from pairs import QUICK, Table, in_trio, pairs

from trivet import Delivery, Event, EventPlugin, Receipt
from trivet.testing import open_plugins
from trivet_contrib.nats import NatsSink, NatsSource

EVENTS = 4_000 if QUICK else 40_000
BACKLOG = 20_000 if QUICK else 1_000_000
TOGETHER = 256
NOTE = "x" * 215
AIM = "≥ 0.7"
GROWTH, READ, FILL = "--growth", "--read", "--fill"
"""The arguments of processes of their own."""

Headers = dict[str, str]
Form = Callable[[int], tuple[bytes, Headers | None]]
"""A message's body and headers."""
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


def plain(number: int) -> tuple[bytes, Headers | None]:
    """Plain JSON."""
    return msgspec.json.encode(order(number)), None


def cloud_event(number: int) -> tuple[bytes, Headers | None]:
    """A CloudEvent in binary mode, as the sink makes it."""
    attributes = {"specversion": "1.0", "id": f"o-{number}", "source": "shop", "type": "order"}
    headers = {f"ce-{name}": each for name, each in attributes.items()}
    headers |= {"content-type": "application/json", "ce-datacontenttype": "application/json"}
    return plain(number)[0], {**headers, "ce-time": "2026-01-31T12:00:00.123456+00:00"}


FORMS: dict[str, Form] = {"json": plain, "binary": cloud_event}


@contextmanager
def nats_server() -> Generator[str]:
    """Start a server, and yield its URL."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port: int = bound.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="trivet-nats-") as directory:
        options = ["-a", "127.0.0.1", "-p", str(port), "-js", "-sd", directory]
        server = subprocess.Popen(["nats-server", *options], stderr=subprocess.DEVNULL)
        try:
            while True:
                with socket.socket() as asked:
                    if asked.connect_ex(("127.0.0.1", port)) == 0:
                        break
                sleep(0.01)
            yield f"nats://127.0.0.1:{port}"
        finally:
            server.kill()
            server.wait()


@asynccontextmanager
async def client(url: str) -> AsyncGenerator[JetStreamContext]:
    """The bare client."""
    async with await nats.connect(url) as connection:
        yield connection.jetstream()


async def send(js: JetStreamContext, stream: str, form: Form, numbers: Sequence[int]) -> None:
    """Publish, and wait for the acknowledgements."""
    sent: list[asyncio.Future[PubAck]] = []
    for number in numbers:
        body, headers = form(number)
        known = {**(headers or {}), "Nats-Msg-Id": f"shop%20{number}"}
        sent.append(await js.publish_async(stream, body, stream=stream, headers=known))
    await asyncio.gather(*sent)


async def fill(url: str, stream: str, form: Form, entries: int) -> float:
    """Fill by the bare client; messages a second."""
    async with client(url) as js:
        await js.add_stream(StreamConfig(name=stream, subjects=[stream]))
        began = perf_counter()
        for first in range(0, entries, TOGETHER):
            await send(js, stream, form, range(first, min(first + TOGETHER, entries)))
        return entries / (perf_counter() - began)


async def read(url: str, stream: str, consumer: str) -> float:
    """Messages a second, by the bare client."""
    decoder, handled = msgspec.json.Decoder(Order), 0
    async with client(url) as js:
        await js.add_consumer(stream, ConsumerConfig(durable_name=consumer))
        subscription = await js.pull_subscribe_bind(durable=consumer, stream=stream)
        began = perf_counter()
        while handled < EVENTS:
            messages = await subscription.fetch(TOGETHER)
            for message in messages:
                decoder.decode(message.data)
                handled += 1
            for message in messages[:-1]:
                await message.ack()
            await messages[-1].ack_sync()
        return EVENTS / (perf_counter() - began)


async def until_acknowledged(url: str, stream: str, consumer: str) -> None:
    """Wait until a consumer has nothing in flight."""
    async with client(url) as js:
        while (await js.consumer_info(stream, consumer)).num_ack_pending:
            pass


async def read_trivet(url: str, stream: str) -> float:
    """Messages a second, from the first that is handled until all are acknowledged."""
    consumer = f"trivet-{next(_numbers)}"
    table = {"url": url, "stream": stream, "consumer": consumer, "create": True, "event": "order"}
    async with open_plugins(NatsSource, Counter, settings={"nats_source": table}) as runtime:
        counter = runtime.get(Counter)
        await counter.done.wait()
        on_asyncio = runtime.get(NatsSource).run_on_asyncio
        await on_asyncio(until_acknowledged, url, stream, consumer)
        return EVENTS / (perf_counter() - counter.began)


async def send_trivet(url: str, format: str) -> float:
    """Events a second, from the first that is published until NATS has all of them."""
    table = {"url": url, "stream": f"sent-{next(_numbers)}", "create": True, "format": format}
    sink = {"nats_sink": {**table, "delivery": {"block_for": 60, "events": ["order"]}}}
    async with open_plugins(NatsSink, event_types=[Order], settings=sink) as runtime:
        began = perf_counter()
        for number in range(EVENTS):
            await runtime.publish(order(number))
        while runtime.statistics()["nats_sink"].handled < EVENTS:
            await trio.sleep(0.0005)
        return EVENTS / (perf_counter() - began)


async def publish_trivet() -> float:
    """Events a second with an id and an awaited end, without NATS."""
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
    table = {"url": url, "stream": stream, "consumer": "slow", "create": True, "event": "order"}
    async with open_plugins(NatsSource, Counter, settings={"nats_source": table}) as runtime:
        counter = runtime.get(Counter)
        counter.pause, counter.wanted = True, 500 if QUICK else 5_000
        await counter.done.wait()
        runtime.hurry()
    return memory("VmHWM") - before


def read_bare(url: str, stream: str) -> float:
    """Call `read` in a process that has done nothing else."""
    return of_its_own(READ, url, stream, f"bare-{next(_numbers)}")


def send_bare(url: str, form: str) -> float:
    """Call `fill` in a process that has done nothing else."""
    return of_its_own(FILL, url, f"sent-{next(_numbers)}", form, EVENTS)


def of_its_own(*args: object) -> float:
    """The figure that another process of this script prints."""
    command = [sys.executable, __file__, *map(str, args), *(["--quick"] if QUICK else [])]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def memory(what: str) -> float:
    """A figure of this process's status, in MiB, by its name there."""
    found = re.search(rf"{what}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


def main() -> None:
    """Measure, and print the table."""
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    table = Table("nats jetstream", "events/s")

    def row(
        what: str, ours: Callable[[], float], beside: Callable[[], float], aim: str = AIM
    ) -> None:
        rate, ratio = pairs(ours, beside)
        table.row(what, rate.median, "the bare client", ratio, aim)

    with nats_server() as url:
        for name in FORMS:
            of_its_own(FILL, url, name, name, EVENTS)
            ours = in_trio(read_trivet, url, name)
            row(f"source, {name}", ours, partial(read_bare, url, name))
        row("the runtime alone", in_trio(publish_trivet), partial(read_bare, url, "json"), "")
        for name in FORMS:
            ours = in_trio(send_trivet, url, name)
            row(f"sink, {name}", ours, partial(send_bare, url, name))
        of_its_own(FILL, url, "backlog", "json", BACKLOG)
        grown = of_its_own(GROWTH, url, "backlog")
        table.row(f"MiB before a backlog of {BACKLOG:,}", grown, "", None, "≤ 64")


def one_of_several(what: str, url: str, stream: str, *args: str) -> float:
    """Print the figure that `of_its_own` asks for."""
    if what == GROWTH:
        structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
        return trio.run(growth, url, stream)
    if what == READ:
        return asyncio.run(read(url, stream, args[0]))
    return asyncio.run(fill(url, stream, FORMS[args[0]], int(args[1])))


if __name__ == "__main__":
    if sys.argv[1:2] in ([GROWTH], [READ], [FILL]):
        sys.stdout.write(f"{one_of_several(*sys.argv[1:])}")
    else:
        main()
