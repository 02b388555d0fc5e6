"""RabbitMQ's quorum queues in and out, beside the bare client that does the same.

    python tests/bench/bench_rabbitmq.py [--quick]

A rabbitmq-server of its own, on one node, with its files in a temporary directory. Each event is a
CloudEvent in binary mode with about 250 bytes of data, or those data alone as plain JSON. The bare
client is aio-pika as its users have it: on asyncio's own loop, in a process that has never imported
trio-asyncio, which would make that loop slower. It has a consumer with the source's prefetch, and
decodes, counts and acknowledges 128 messages at a time, in one frame; or it encodes and publishes
256 persistent messages at a time, mandatory, and waits for all their confirms. It does no more:
it has no inbox, and tries nothing again. Both are measured until the last message is handled.
"The runtime alone" is what a source cannot be faster than: events that have an id and are answered
for, published from memory and handled, beside the same bare client.

The last row is by how much the peak memory of a program of its own, a source with a slow
subscriber, is above what it was at its start, while a backlog of a million messages (20 000 with
`--quick`) waits in RabbitMQ.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
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

import aio_pika
import msgspec
import structlog
import trio
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, DeliveryMode
from pairs import QUICK, Table, in_trio, pairs
from pamqp.common import FieldTable

from trivet import Delivery, Event, EventPlugin, Receipt
from trivet.testing import open_plugins
from trivet_contrib.rabbitmq import RabbitmqSink, RabbitmqSource

EVENTS = 4_000 if QUICK else 20_000
BACKLOG = 20_000 if QUICK else 1_000_000
TOGETHER = 256
NOTE = "x" * 215
AIM = "≥ 0.7"
GROWTH, READ, FILL = "--growth", "--read", "--fill"
"""The arguments of processes of their own."""
QUORUM: FieldTable = {"x-queue-type": "quorum"}
SCRIPT = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
"""Debian's; the one on the PATH becomes another user, who has nothing in a temporary directory."""

Form = Callable[[int], aio_pika.Message]
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


def plain(number: int) -> aio_pika.Message:
    """Plain JSON."""
    return aio_pika.Message(
        msgspec.json.encode(order(number)),
        content_type="application/json",
        delivery_mode=DeliveryMode.PERSISTENT,
        message_id=f"o-{number}",
    )


def cloud_event(number: int) -> aio_pika.Message:
    """A CloudEvent in binary mode, as the sink makes it."""
    attributes = {"specversion": "1.0", "id": f"o-{number}", "source": "shop", "type": "order"}
    message = plain(number)
    message.headers.update({f"cloudEvents:{name}": each for name, each in attributes.items()})
    message.headers["cloudEvents:time"] = "2026-01-31T12:00:00.123456+00:00"
    return message


FORMS: dict[str, Form] = {"json": plain, "binary": cloud_event}


def free_port() -> int:
    """A port at which no program listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port: int = bound.getsockname()[1]
        return port


@contextmanager
def rabbitmq_server() -> Generator[str]:
    """Start a server, and yield its URL."""
    port, mapper = free_port(), str(free_port())
    with tempfile.TemporaryDirectory(prefix="trivet-rabbitmq-") as directory:
        own = Path(directory)
        (own / "plugins").write_text("[].\n")
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": directory,
            "ERL_EPMD_PORT": mapper,
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"bench-{port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(port),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_CONF_ENV_FILE": str(own / "none.env"),
            "RABBITMQ_CONFIG_FILE": str(own / "none"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(own / "plugins"),
            "RABBITMQ_MNESIA_BASE": str(own / "mnesia"),
            "RABBITMQ_LOG_BASE": str(own / "log"),
            "RABBITMQ_PID_FILE": str(own / "pid"),
        }
        ports = subprocess.Popen(["epmd", "-address", "127.0.0.1", "-port", mapper])
        command = [str(SCRIPT) if SCRIPT.exists() else "rabbitmq-server"]
        with (own / "out").open("wb") as out:
            server = subprocess.Popen(
                command, env=environment, cwd=own, stdout=out, stderr=out, start_new_session=True
            )
        try:
            while b"completed with" not in (own / "out").read_bytes():
                sleep(0.05)
            yield f"amqp://127.0.0.1:{port}"
        finally:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()
            ports.kill()
            ports.wait()


@asynccontextmanager
async def client(url: str) -> AsyncGenerator[AbstractChannel]:
    """The bare client."""
    async with await aio_pika.connect(url) as connection:
        yield await connection.channel()


async def send(channel: AbstractChannel, queue: str, form: Form, numbers: Sequence[int]) -> None:
    """Publish, and wait for the confirms."""
    exchange = channel.default_exchange
    await asyncio.gather(*(exchange.publish(form(each), queue) for each in numbers))


async def fill(url: str, queue: str, form: Form, entries: int) -> float:
    """Fill by the bare client; messages a second."""
    async with client(url) as channel:
        await channel.declare_queue(queue, durable=True, arguments=QUORUM)
        began = perf_counter()
        for first in range(0, entries, TOGETHER):
            await send(channel, queue, form, range(first, min(first + TOGETHER, entries)))
        return entries / (perf_counter() - began)


async def read(url: str, name: str) -> float:
    """Messages a second, by the bare client, from the first that is handled to the last."""
    decoder, handled, began = msgspec.json.Decoder(Order), 0, 0.0
    done = asyncio.Event()

    async def handle(message: AbstractIncomingMessage) -> None:
        nonlocal handled, began
        if not handled:
            began = perf_counter()
        decoder.decode(message.body)
        handled += 1
        if handled % (TOGETHER // 2) == 0 or handled == EVENTS:
            await message.ack(multiple=True)
        if handled == EVENTS:
            done.set()

    async with client(url) as channel:
        await channel.set_qos(prefetch_count=TOGETHER)
        queue = await channel.get_queue(name)
        await queue.consume(handle)
        await done.wait()
        return EVENTS / (perf_counter() - began)


async def read_trivet(url: str, queue: str) -> float:
    """Messages a second, from the first that is handled to the last."""
    table = {"url": url, "queue": queue, "create": True, "event": "order"}
    settings = {"rabbitmq_source": table}
    async with open_plugins(RabbitmqSource, Counter, settings=settings) as runtime:
        counter = runtime.get(Counter)
        await counter.done.wait()
        return EVENTS / (perf_counter() - counter.began)


def filled(measure: Callable[[str, str], float], url: str, form: str) -> float:
    """Measure with a queue full of messages in this form."""
    queue = f"{form}-{next(_numbers)}"
    of_its_own(FILL, url, queue, form, EVENTS)
    return measure(url, queue)


async def send_trivet(url: str, format: str) -> float:
    """Events a second, from the first that is published until RabbitMQ has all of them."""
    table = {"url": url, "queue": f"sent-{next(_numbers)}", "create": True, "format": format}
    sink = {"rabbitmq_sink": {**table, "delivery": {"block_for": 60, "events": ["order"]}}}
    async with open_plugins(RabbitmqSink, event_types=[Order], settings=sink) as runtime:
        began = perf_counter()
        for number in range(EVENTS):
            await runtime.publish(order(number))
        while runtime.statistics()["rabbitmq_sink"].handled < EVENTS:
            await trio.sleep(0.0005)
        return EVENTS / (perf_counter() - began)


async def publish_trivet() -> float:
    """Events a second with an id and an awaited end, without RabbitMQ."""
    async with open_plugins(Counter) as runtime:
        counter, began = runtime.get(Counter), perf_counter()
        for first in range(0, EVENTS, TOGETHER):
            numbers = range(first, min(first + TOGETHER, EVENTS))
            await runtime.publish_many(
                [Delivery.of(order(each), id=str(each), receipt=Receipt()) for each in numbers]
            )
        await counter.done.wait()
        return EVENTS / (perf_counter() - began)


async def growth(url: str, queue: str) -> float:
    """Growth of this process's peak memory with a backlog, in MiB."""
    before = memory("VmRSS")
    table = {"url": url, "queue": queue, "create": True, "event": "order"}
    async with open_plugins(
        RabbitmqSource, Counter, settings={"rabbitmq_source": table}
    ) as runtime:
        counter = runtime.get(Counter)
        counter.pause, counter.wanted = True, 500 if QUICK else 5_000
        await counter.done.wait()
        runtime.hurry()
    return memory("VmHWM") - before


def read_bare(url: str, queue: str) -> float:
    """Call `read` in a process that has done nothing else."""
    return of_its_own(READ, url, queue)


def read_here(url: str, queue: str) -> float:
    """Call `read_trivet` in a run of Trio of its own."""
    return trio.run(read_trivet, url, queue)


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
    table = Table("rabbitmq", "events/s")

    def row(
        what: str, ours: Callable[[], float], beside: Callable[[], float], aim: str = AIM
    ) -> None:
        rate, ratio = pairs(ours, beside)
        table.row(what, rate.median, "the bare client", ratio, aim)

    with rabbitmq_server() as url:
        for name in FORMS:
            bare = partial(filled, read_bare, url, name)
            row(f"source, {name}", partial(filled, read_here, url, name), bare)
        bare = partial(filled, read_bare, url, "json")
        row("the runtime alone", in_trio(publish_trivet), bare, "")
        for name in FORMS:
            ours = in_trio(send_trivet, url, name)
            row(f"sink, {name}", ours, partial(send_bare, url, name))
        of_its_own(FILL, url, "backlog", "json", BACKLOG)
        grown = of_its_own(GROWTH, url, "backlog")
        table.row(f"MiB before a backlog of {BACKLOG:,}", grown, "", None, "≤ 64")


def one_of_several(what: str, url: str, queue: str, *args: str) -> float:
    """Print the figure that `of_its_own` asks for."""
    if what == GROWTH:
        structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
        return trio.run(growth, url, queue)
    if what == READ:
        return asyncio.run(read(url, queue))
    return asyncio.run(fill(url, queue, FORMS[args[0]], int(args[1])))


if __name__ == "__main__":
    if sys.argv[1:2] in ([GROWTH], [READ], [FILL]):
        sys.stdout.write(f"{one_of_several(*sys.argv[1:])}")
    else:
        main()
