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
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from itertools import count
from time import perf_counter, sleep

import msgspec
import nats
import structlog
import trio
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
from nats.js import JetStreamContext
from nats.js.api import ConsumerConfig, PubAck, StreamConfig
from pairs import QUICK, in_trio

from trivet.testing import open_plugins
from trivet_contrib.nats import NatsSink, NatsSource

EVENTS = 4_000 if QUICK else 40_000
READ, FILL = "--read", "--fill"
"""The arguments of processes of their own."""

Headers = dict[str, str]
Form = Callable[[int], tuple[bytes, Headers | None]]
"""A message's body and headers."""
_numbers = count(1)


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
    settings: Tables = {"nats_source": table, "counter": {"wanted": EVENTS}}
    async with open_plugins(NatsSource, Counter, settings=settings) as runtime:
        counter = runtime.get(Counter)
        await counter.done.wait()
        on_asyncio = runtime.get(NatsSource).run_on_asyncio
        await on_asyncio(until_acknowledged, url, stream, consumer)
        return EVENTS / (perf_counter() - counter.began)


async def send_trivet(url: str, format: str) -> float:
    """Events a second, by the sink."""
    table = {"url": url, "stream": f"sent-{next(_numbers)}", "create": True, "format": format}
    return await send_through(NatsSink, EVENTS, **table)


def read_bare(url: str, stream: str) -> float:
    """Call `read` in a process that has done nothing else."""
    return in_own_process(__file__, READ, url, stream, f"bare-{next(_numbers)}")


def send_bare(url: str, form: str) -> float:
    """Call `fill` in a process that has done nothing else."""
    return in_own_process(__file__, FILL, url, f"sent-{next(_numbers)}", form, EVENTS)


def main() -> None:
    """Measure, and print the table."""
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    table = BrokerTable("nats jetstream", "events/s")
    with nats_server() as url:
        for name in FORMS:
            in_own_process(__file__, FILL, url, name, name, EVENTS)
            ours = in_trio(read_trivet, url, name)
            table.add(f"source, {name}", ours, partial(read_bare, url, name))
        table.add(
            "the runtime alone",
            in_trio(publish_trivet, EVENTS),
            partial(read_bare, url, "json"),
            "",
        )
        for name in FORMS:
            ours = in_trio(send_trivet, url, name)
            table.add(f"sink, {name}", ours, partial(send_bare, url, name))
        in_own_process(__file__, FILL, url, "backlog", "json", BACKLOG)
        table.add_growth(in_own_process(__file__, GROWTH, url, "backlog"))


def one_of_several(what: str, url: str, stream: str, *args: str) -> float:
    """Print the figure that `in_own_process` asks for."""
    if what == GROWTH:
        structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
        table = {"url": url, "stream": stream, "consumer": "slow", "create": True}
        return trio.run(partial(growth, NatsSource, **table))
    if what == READ:
        return asyncio.run(read(url, stream, args[0]))
    return asyncio.run(fill(url, stream, FORMS[args[0]], int(args[1])))


if __name__ == "__main__":
    if sys.argv[1:2] in ([GROWTH], [READ], [FILL]):
        sys.stdout.write(f"{one_of_several(*sys.argv[1:])}")
    else:
        main()
