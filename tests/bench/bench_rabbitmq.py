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
from brokers import (
    BACKLOG,
    GROWTH,
    TOGETHER,
    BrokerTable,
    Counter,
    Order,
    Tables,
    growth,
    in_own_process,
    order,
    publish_trivet,
    send_through,
)
from pairs import QUICK, in_trio
from pamqp.common import FieldTable

from trivet.testing import open_plugins
from trivet_contrib.rabbitmq import RabbitmqSink, RabbitmqSource

EVENTS = 4_000 if QUICK else 20_000
READ, FILL = "--read", "--fill"
"""The arguments of processes of their own."""
QUORUM: FieldTable = {"x-queue-type": "quorum"}
SCRIPT = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
"""Debian's; the one on the PATH becomes another user, who has nothing in a temporary directory."""

Form = Callable[[int], aio_pika.Message]
_numbers = count(1)


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
    settings: Tables = {"rabbitmq_source": table, "counter": {"wanted": EVENTS}}
    async with open_plugins(RabbitmqSource, Counter, settings=settings) as runtime:
        counter = runtime.get(Counter)
        await counter.done.wait()
        return EVENTS / (perf_counter() - counter.began)


def filled(measure: Callable[[str, str], float], url: str, form: str) -> float:
    """Measure with a queue full of messages in this form."""
    queue = f"{form}-{next(_numbers)}"
    in_own_process(__file__, FILL, url, queue, form, EVENTS)
    return measure(url, queue)


async def send_trivet(url: str, format: str) -> float:
    """Events a second, by the sink."""
    table = {"url": url, "queue": f"sent-{next(_numbers)}", "create": True, "format": format}
    return await send_through(RabbitmqSink, EVENTS, **table)


def read_bare(url: str, queue: str) -> float:
    """Call `read` in a process that has done nothing else."""
    return in_own_process(__file__, READ, url, queue)


def read_here(url: str, queue: str) -> float:
    """Call `read_trivet` in a run of Trio of its own."""
    return trio.run(read_trivet, url, queue)


def send_bare(url: str, form: str) -> float:
    """Call `fill` in a process that has done nothing else."""
    return in_own_process(__file__, FILL, url, f"sent-{next(_numbers)}", form, EVENTS)


def main() -> None:
    """Measure, and print the table."""
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    table = BrokerTable("rabbitmq", "events/s")
    with rabbitmq_server() as url:
        for name in FORMS:
            bare = partial(filled, read_bare, url, name)
            table.add(f"source, {name}", partial(filled, read_here, url, name), bare)
        bare = partial(filled, read_bare, url, "json")
        table.add("the runtime alone", in_trio(publish_trivet, EVENTS), bare, "")
        for name in FORMS:
            ours = in_trio(send_trivet, url, name)
            table.add(f"sink, {name}", ours, partial(send_bare, url, name))
        in_own_process(__file__, FILL, url, "backlog", "json", BACKLOG)
        table.add_growth(in_own_process(__file__, GROWTH, url, "backlog"))


def one_of_several(what: str, url: str, queue: str, *args: str) -> float:
    """Print the figure that `in_own_process` asks for."""
    if what == GROWTH:
        structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
        table = {"url": url, "queue": queue, "create": True}
        return trio.run(partial(growth, RabbitmqSource, **table))
    if what == READ:
        return asyncio.run(read(url, queue))
    return asyncio.run(fill(url, queue, FORMS[args[0]], int(args[1])))


if __name__ == "__main__":
    if sys.argv[1:2] in ([GROWTH], [READ], [FILL]):
        sys.stdout.write(f"{one_of_several(*sys.argv[1:])}")
    else:
        main()
