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
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from itertools import count
from time import perf_counter, sleep
from typing import cast

import coredis
import msgspec
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
from pairs import QUICK, in_trio

from trivet.testing import open_plugins
from trivet_contrib.redis import RedisSink, RedisSource

EVENTS = 4_000 if QUICK else 40_000

Form = Callable[[int], dict[str, str | bytes]]
"""The fields of an entry."""
_numbers = count(1)


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
    settings: Tables = {"redis_source": table, "counter": {"wanted": EVENTS}}
    async with open_plugins(RedisSource, Counter, settings=settings) as runtime:
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
    """Events a second, by the sink."""
    async with client(url) as redis:
        await redis.delete(["sent"])
    table = {"url": url, "stream": "sent", "create": True, "max_length": 0, "format": format}
    return await send_through(RedisSink, EVENTS, **table)


def main() -> None:
    """Measure, and print the table."""
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    gc.freeze()
    table = BrokerTable("redis streams", "events/s")
    with redis_server() as url:
        forms: dict[str, Form] = {"json": plain, "binary": cloud_event}
        for name, form in forms.items():
            trio.run(fill, url, name, form, EVENTS)
            ours, bare = in_trio(read_trivet, url, name), in_trio(read_bare, url, name)
            table.add(f"source, {name}", ours, bare, "≥ 0.75")
        bare = in_trio(read_bare, url, "json")
        table.add("the runtime alone", in_trio(publish_trivet, EVENTS), bare, "")
        for name, form in forms.items():
            ours, bare = in_trio(send_trivet, url, name), in_trio(send_bare, url, form)
            table.add(f"sink, {name}", ours, bare)
        trio.run(fill, url, "backlog", plain, BACKLOG)
        table.add_growth(in_own_process(__file__, GROWTH, url, "backlog"))


if __name__ == "__main__":
    if GROWTH in sys.argv:
        structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
        table = {"url": sys.argv[2], "stream": sys.argv[3], "group": "slow"}
        slow = partial(growth, RedisSource, **table)
        sys.stdout.write(f"{trio.run(slow)}")
    else:
        main()
