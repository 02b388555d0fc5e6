"""Events that come by HTTP: one by one, and as a stream of any length in bounded memory.

    python tests/bench/bench_ingest.py [--quick]

Each row is a `trivet serve` of its own, with one plugin, in memory or durable, that does nothing
with its events of about 250 bytes. A client in this process sends them over one connection. The
stream is 1 GB, a tenth of that where it is durable (with `--quick` 32 MB, and a tenth). What
counts of its memory is how far the program's peak is above what it had when it was ready.
"""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

QUICK = "--quick" in sys.argv
STREAM = 32_000_000 if QUICK else 1_000_000_000
"""Bytes."""
SINGLES = 300 if QUICK else 900
"""Requests; after a thousand hypercorn closes a connection."""
LINE = b'{"order_id":"o-123456","note":"' + b"x" * 215 + b'"}\n'

PLUGIN = """
from trivet import DeliverySettings, Event, EventPlugin


class Ordered(Event):
    order_id: str
    note: str


class Taker(EventPlugin[Ordered]):
    delivery = DeliverySettings(durable={durable}, block_for=60.0)

    async def handle_event(self, event: Ordered) -> None:
        pass
"""


@contextmanager
def served(*, durable: bool) -> Generator[tuple[int, int]]:
    """A program; its port, and the process that has the memory."""
    with TemporaryDirectory() as directory:
        plugins = Path(directory) / "plugins"
        plugins.mkdir()
        (plugins / "taker.py").write_text(PLUGIN.format(durable=durable))
        (Path(directory) / "trivet.toml").write_text('active_plugins = ["taker"]\n')
        command = [str(Path(sys.executable).parent / "trivet"), "serve", "--bind", "127.0.0.1:0"]
        process = subprocess.Popen(command, cwd=directory, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        try:
            port = 0
            while not port:
                line = process.stderr.readline()
                found = re.search(r"http://127\.0\.0\.1:(\d+)", line)
                port = int(found[1]) if found else 0
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
            yield port, int(children.split()[0])
        finally:
            process.terminate()
            process.stderr.read()
            process.wait()


def memory(process: int, what: str) -> float:
    """MiB, by a name in the process's status."""
    status = Path(f"/proc/{process}/status").read_text()
    found = re.search(rf"{what}:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) / 1024


def more(connection: socket.socket) -> bytes:
    """What comes next; something does."""
    received = connection.recv(65536)
    assert received, "the connection was closed before the answer was whole"
    return received


def answer(connection: socket.socket) -> bytes:
    """The next answer, whole."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += more(connection)
    head, _, body = received.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head.lower())
    assert length is not None, head
    while len(body) < int(length[1]):
        body += more(connection)
    assert b" 202 " in head.split(b"\r\n")[0], head + body
    return body


def one_by_one(port: int) -> float:
    """Events a second, each in a request of its own."""
    body = LINE.strip()
    head = (
        b"POST /events/ordered HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n" % len(body)
    )
    with closing(socket.create_connection(("127.0.0.1", port))) as connection:
        began = perf_counter()
        for _ in range(SINGLES):
            connection.sendall(head + body)
            answer(connection)
        return SINGLES / (perf_counter() - began)


def stream(port: int, size: int) -> float:
    """Events a second, as one stream of so many bytes."""
    chunk = LINE * 256
    chunks = size // len(chunk)
    head = (
        b"POST /events/ordered HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Type: application/x-ndjson\r\nContent-Length: %d\r\n\r\n" % (chunks * len(chunk))
    )
    with closing(socket.create_connection(("127.0.0.1", port))) as connection:
        began = perf_counter()
        connection.sendall(head)
        for _ in range(chunks):
            connection.sendall(chunk)
        body = answer(connection)
        took = perf_counter() - began
    lines = chunks * 256
    assert b'"lines":%d' % lines in body.replace(b" ", b""), body
    return lines / took


def main() -> None:
    """Measure, and print the table."""
    write = sys.stdout.write
    write("| ingest | events/s | ratio | peak memory above the start |\n|---|---|---|---|\n")
    for durable in (False, True):
        where, size = ("durable", STREAM // 10) if durable else ("in memory", STREAM)
        with served(durable=durable) as (port, _):
            single = one_by_one(port)
        write(f"| JSON, one by one, {where} | {single:,.0f} | 1 | |\n")
        with served(durable=durable) as (port, process):
            before = memory(process, "VmRSS")
            rate = stream(port, size)
            above = memory(process, "VmHWM") - before
        write(f"| NDJSON, {size / 1e6:,.0f} MB, {where} | {rate:,.0f} ")
        write(f"| {rate / single:.1f} | {above:.1f} MiB |\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
