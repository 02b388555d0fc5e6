"""The cost of 300 hostile clients for the others: response times with and without them.

    python tests/bench/bench_hostile.py [--quick]

`trivet serve` is a process of its own, and so are the hostile clients, which come again when they
were ended: a fifth of them each send a head byte by byte, send a body byte by byte, ask for much
and never read, ask and shut down their sending side, or leave in the midst of a request, each of
them about once a second. The others ask for a plugin's route and send events at a steady pace, over
16 connections. A request counts from the moment at which it was due, if the answer before it was
late; otherwise from the moment at which it was sent, since a late start is not the service's. With
and without take turns, and the quartiles of the ratios are the range.
"""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from functools import partial
from statistics import quantiles

import trio
from pairs import QUICK, Table, in_trio, pairs
from servers import ANSWERING, LINE, Server, trivet

HOSTILE = 300
CONNECTIONS, EACH_SECOND = 16, 160
SECONDS = 2.0 if QUICK else 5.0
"""How long the others ask in one round."""
AGAIN = 1.0
"""Seconds between two steps of a hostile client."""

GET = b"GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n"
LARGE = GET.replace(b"/hello", b"/large")
POST = b"POST /events/ordered HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
EVENT = POST + b"Content-Length: %d\r\n\r\n" % len(LINE) + LINE


async def hostile(port: int, number: int) -> None:
    """One client, which comes again when it was cut off."""
    ways = (_drip, _drip, _never_read, _half_close, _leave)
    begin = (b"GET / HTTP/1.1\r\n", EVENT[:-200], LARGE, GET, EVENT[:-100])
    while True:
        with suppress(OSError, trio.BrokenResourceError):
            client = trio.socket.socket()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            async with trio.SocketStream(client) as stream:
                await client.connect(("127.0.0.1", port))
                await stream.send_all(begin[number % 5])
                await ways[number % 5](stream)
        await trio.sleep(AGAIN)


async def _drip(stream: trio.SocketStream) -> None:
    while True:
        await trio.sleep(AGAIN)
        await stream.send_all(b"a")


async def _never_read(stream: trio.SocketStream) -> None:
    await stream.receive_some(1)
    while True:
        await trio.sleep(AGAIN)
        await stream.send_all(b"GET")  # Until the service has ended it.


async def _half_close(stream: trio.SocketStream) -> None:
    await stream.send_eof()
    await trio.sleep(AGAIN)


async def _leave(stream: trio.SocketStream) -> None:
    await trio.sleep(AGAIN / 2)


async def besiege(port: int) -> None:
    """Start all hostile clients within a second, and report when they are there."""
    async with trio.open_nursery() as nursery:
        for number in range(HOSTILE):
            nursery.start_soon(hostile, port, number)
            await trio.sleep(AGAIN / HOSTILE)
        sys.stdout.write("besieged\n")
        sys.stdout.flush()


@contextmanager
def besieged(server: Server) -> Generator[None]:
    """Run the hostile clients in a process of their own."""
    command = [sys.executable, __file__, "--besiege", str(server.port)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "besieged\n"
        yield
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


async def ask(port: int) -> list[float]:
    """Ask at a steady pace; seconds until each whole answer."""
    took: list[float] = []
    begun = trio.current_time() + 0.1

    async def one(number: int) -> None:
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            for count in range(int(SECONDS * EACH_SECOND / CONNECTIONS)):
                due = begun + (count * CONNECTIONS + number) / EACH_SECOND
                was_late = trio.current_time() > due
                await trio.sleep_until(due)
                counts_from = due if was_late else trio.current_time()
                await stream.send_all(EVENT if count % 2 else GET)
                answer = b""
                while not answer.endswith((b"}\n", b"hello")):
                    answer += await stream.receive_some()
                took.append(trio.current_time() - counts_from)

    async with trio.open_nursery() as nursery:
        for number in range(CONNECTIONS):
            nursery.start_soon(one, number)
    return took


def p99(server: Server, *, is_besieged: bool) -> float:
    """The 99th percentile of the seconds."""
    if not is_besieged:
        return quantiles(in_trio(ask, server.port)(), n=100)[98]
    with besieged(server):
        return quantiles(in_trio(ask, server.port)(), n=100)[98]


def main() -> None:
    """Measure, and print the table."""
    with trivet(ANSWERING / "plugins", "shop") as server:
        table = Table("hostile clients", "ms")
        rounds = 3 if QUICK else 9
        figure, ratio = pairs(
            partial(p99, server, is_besieged=True), partial(p99, server, is_besieged=False), rounds
        )
        what = f"p99 of the others, with {HOSTILE} hostile clients"
        table.row(what, figure.median * 1e3, "without them", ratio, "≤ 2")


if __name__ == "__main__":
    if "--besiege" in sys.argv:
        trio.run(besiege, int(sys.argv[-1]))
    else:
        main()
