"""`python -m tests.fuzz`: ask a service anything, for ten minutes, and its server beside h11.

Owns the visits and the verdict: no hang, no leak, no traceback, no 500, and nothing accepted that
h11 refuses.
"""

from __future__ import annotations

import argparse
import random
import re
import socket
import struct
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import attrs
import trio

from trivet import ConfigurationError, load_settings

from .framing import conversation
from .inputs import Visit, settings_file, visit
from .oracle import differences
from .service import Service

AT_ONCE = 48
CONVERSATIONS = 5
"""Conversations beside h11 for each visit."""
BATCH = 96
"""Visits between two looks at the log."""
ANSWERED_WITHIN = 30.0
"""Seconds in which a probe is answered meanwhile."""
PATIENCE = 10.0
"""Seconds that a visit reads, however much comes."""
SILENCE = 0.5
"""Seconds without an answer after which a client leaves."""
GROWTH = 96.0
"""Megabytes that may be taken between the first batches and the end."""

_STATUS = re.compile(rb"(?:\A|\n|\})HTTP/1\.1 (\d{3})")
_NAMED = (
    b"too_many_connections",
    b"store_unavailable",
    b"plugin_unavailable",
    b"stopping",
    b"event_",
)


@attrs.define
class Report:
    """Counts and faults of a run."""

    visits: int = 0
    requests: int = 0
    conversations: int = 0
    statuses: Counter[int] = attrs.field(factory=Counter[int])
    faults: list[str] = attrs.field(factory=list[str])


async def pay(port: int, planned: Visit) -> bytes:
    """Do what the visit plans, and return the answers."""
    answer = bytearray()
    with trio.socket.socket() as client, suppress(OSError):  # What was said before an end counts.
        if planned.ending == "does not read":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await client.connect(("127.0.0.1", port))
        for number, piece in enumerate(planned.pieces):
            await _send(client, piece)
            if planned.is_websocket and not number:
                await _receive(client, answer)
        if planned.ending == "half closes":
            client.shutdown(socket.SHUT_WR)
        elif planned.ending == "resets":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if planned.ending in ("reads", "half closes"):
            with trio.move_on_after(PATIENCE):  # A stream of events has no end.
                while len(answer) < 2_000_000 and await _receive(client, answer):
                    if not planned.is_websocket and _count(answer) >= planned.requests:
                        break
    return bytes(answer)


def _count(answer: bytearray) -> int:
    """The number of responses in what has come."""
    return len(_STATUS.findall(answer))


async def _receive(client: trio.socket.SocketType, answer: bytearray) -> bool:
    """Receive a piece, if one comes in time."""
    data = b""
    with trio.move_on_after(SILENCE):
        data = await client.recv(65536)
    answer += data
    return bool(data)


async def _send(client: trio.socket.SocketType, piece: bytes) -> None:
    """Send as much of a piece as the service takes."""
    with trio.move_on_after(SILENCE):
        while piece:
            piece = piece[await client.send(piece) :]


def judge(report: Report, name: str, planned: Visit, answer: bytes) -> None:
    """Count an answer, and report one that must never be given."""
    report.visits += 1
    report.requests += planned.requests
    if planned.is_websocket:
        answer = answer[:12]  # What follows is the client's own.
    for status in map(int, _STATUS.findall(answer)):
        report.statuses[status] += 1
        is_named = status == 503 and any(code in answer for code in _NAMED)
        if status >= 500 and status not in (501, 505, 504, 507) and not is_named:
            report.faults.append(f"{name}: answered {status}: {answer[-300:]!r}")


async def probe(port: int) -> None:
    """Send an ordinary request, and require its answer."""
    with trio.fail_after(ANSWERED_WITHIN):
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(
                b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            )
            answer = b""
            while data := await stream.receive_some():
                answer += data
            assert answer.startswith(b"HTTP/1.1 200"), answer


async def batch(service: Service, report: Report, seed: int, numbers: range) -> None:
    """Pay some visits, several at once, and look at the log."""
    limit = trio.CapacityLimiter(AT_ONCE)

    async def one(number: int) -> None:
        async with limit:
            planned = visit(seed, number)
            answer = await pay(service.port, planned)
            judge(report, f"--seed {seed} --first {number} --visits 1", planned, answer)

    async with trio.open_nursery() as nursery:
        for number in numbers:
            nursery.start_soon(one, number)
    where = f"--seed {seed} --first {numbers.start} --visits {len(numbers)}"
    try:
        await probe(service.port)
    except trio.TooSlowError:
        report.faults.append(f"{where}: no answer within {ANSWERED_WITHIN:g} s")
    report.faults += [f"{where}: {line}" for line in service.complaints()]


def read_settings(directory: Path, report: Report, seed: int, number: int) -> None:
    """Read a settings file: it must be right, or raise a `ConfigurationError`."""
    file = directory / "fuzz.toml"
    file.write_bytes(settings_file(seed, number))
    try:
        load_settings(file, {})
    except ConfigurationError:
        return
    except Exception as error:
        report.faults.append(f"settings, --seed {seed} --first {number}: {error!r}")


async def compare(report: Report, seed: int, number: int) -> None:
    """Hold some conversations with the server alone, and compare it with h11."""
    for at in range(number * CONVERSATIONS, (number + 1) * CONVERSATIONS):
        where = f"beside h11, --seed {seed} --first {number} --visits 1"
        report.faults += [
            f"{where}: {fault}" for fault in await differences(conversation(seed, at))
        ]


async def run(seed: int, first: int, visits: int | None, seconds: float) -> Report:
    """Pay visits until the time is over or a fault is found."""
    report = Report()
    with tempfile.TemporaryDirectory() as named, Service(Path(named)) as service:
        settings = Path(named) / "settings"
        settings.mkdir()
        until = time.monotonic() + seconds
        number, last = first, None if visits is None else first + visits
        before: tuple[int, float] | None = None
        while not report.faults and time.monotonic() < until and number != last:
            end = number + BATCH if last is None else min(last, number + BATCH)
            await batch(service, report, seed, range(number, end))
            for at in range(number, end):
                await compare(report, seed, at)
            for at in range(number, end, 8):
                read_settings(settings, report, seed, at)
            number = end
            if before is None and number - first >= 8 * BATCH:
                before = service.descriptors, service.megabytes
        if not report.faults:
            await _look_at_the_end(service, report, before)
    return report


async def _look_at_the_end(
    service: Service, report: Report, before: tuple[int, float] | None
) -> None:
    """Check that the service has kept nothing, and that it stops."""
    with trio.move_on_after(60):
        while service.descriptors > 40:  # Its own; the clients' go within the limits.
            await trio.sleep(0.2)
    if service.descriptors > 40:
        report.faults.append(f"{service.descriptors} descriptors are left")
    if before is not None and service.megabytes - before[1] > GROWTH:
        report.faults.append(f"{before[1]:.0f} megabytes became {service.megabytes:.0f}")
    code = await trio.to_thread.run_sync(service.stop)
    if code != 0:
        report.faults.append(f"the stop ended with {code}")
    report.faults += service.complaints()


def tell(line: str) -> None:
    """Write a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> None:
    """Fuzz, and print the seed with which to repeat the run."""
    parser = argparse.ArgumentParser(prog="tests.fuzz")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--first", type=int, default=0, help="number of the first visit")
    parser.add_argument(
        "--visits", type=int, help="how many; otherwise as many as there is time for"
    )
    parser.add_argument("--seconds", type=float, default=600.0)
    asked = parser.parse_args()
    tell(f"--seed {asked.seed}")
    report = trio.run(run, asked.seed, asked.first, asked.visits, asked.seconds)
    answers = dict(sorted(report.statuses.items()))
    tell(f"{report.visits} visits, {report.requests} requests; answers: {answers}")
    tell(f"{report.conversations} conversations beside h11")
    for fault in report.faults[:20]:
        tell(fault)
    raise SystemExit(bool(report.faults))


if __name__ == "__main__":
    main()
