"""HTTP: a plugin's route, and events that come one by one and together, under wrk.

    python tests/bench/bench_http.py [--quick]

Each server is a process of its own, asked by wrk over 16 connections, in turns with what it is
compared with; hypercorn closes a connection after a thousand requests, the others do not. `trivet
serve` runs with all that it does by default, and a plugin that takes the monitoring points of each
request. Bare is the same handler on QuartTrio and hypercorn's Trio worker. FastAPI runs on uvicorn
with uvloop and httptools, and puts a pydantic model into an asyncio queue; Starlette does without
the model. Batches come over 2 connections, which keep the server busy; events have about 250 bytes.
The rows per second of a processor are made of what the server's processes have used of one, which a
busy neighbour changes less than what took how long. Ratios are of seven pairs, or two for a rough
figure. Where the program is flooded, one plugin publishes as fast as it can to another.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from http.client import HTTPConnection
from secrets import token_hex

import attrs
from pairs import QUICK, Quartiles, Table, pairs
from servers import ANSWERING, LINE, Load, Server, require_wrk, script, stream, trivet, wrk

Put = Callable[[], Load]
"""Puts load on a server."""
BATCH = 100
PER_PROCESSOR = "requests or events per second of a processor"
ORDERED, NOTED = "/events/ordered", "/events/noted"
STREAM = 4_000_000 if QUICK else 16_000_000
"""Bytes."""


@attrs.frozen
class Compared:
    """One server beside another."""

    ratios: dict[str, Quartiles]
    """Ratios by the name of the figure."""
    medians: dict[str, float]


def compare(measure: Put, beside: Put) -> Compared:
    """Measure in turns, and take all figures from the same requests."""
    ours: list[Load] = []
    theirs: list[Load] = []

    def noted(loads: list[Load], put: Put) -> float:
        loads.append(put())
        return loads[-1].rate

    rounds = 2 if QUICK else None
    pairs(partial(noted, ours, measure), partial(noted, theirs, beside), rounds)
    del ours[0]  # The first time is never like the others.
    ratios: dict[str, Quartiles] = {}
    medians: dict[str, float] = {}
    for field in attrs.fields(Load):
        figures = [getattr(load, field.name) for load in ours]
        around = [getattr(load, field.name) for load in theirs]
        medians[field.name] = Quartiles.of(figures).median
        ratios[field.name] = Quartiles.of(
            [
                2 * figure / (before + after)
                for figure, before, after in zip(figures, around, around[1:], strict=False)
            ]
        )
    return Compared(ratios, medians)


@attrs.frozen
class Tables:
    """The tables, by the unit of their figures."""

    cpu: Table = attrs.field(factory=lambda: Table("HTTP by processor time", PER_PROCESSOR))
    rates: Table = attrs.field(factory=lambda: Table("HTTP by rate", "requests or events/s"))
    delays: Table = attrs.field(factory=lambda: Table("HTTP by delay", "ms"))

    def per_processor(self, what: str, found: Compared, beside: str, aim: str = "") -> None:
        """One server's processor time beside another's."""
        self.cpu.row(what, 1 / found.medians["cpu"], beside, found.ratios["cpu"].inverse(), aim)

    def per_second(self, what: str, found: Compared, beside: str, aim: str = "") -> None:
        """One server's rate beside another's."""
        self.rates.row(what, found.medians["rate"], beside, found.ratios["rate"], aim)

    def delay(self, what: str, found: Compared, beside: str, percentile: str, aim: str) -> None:
        """One server's delay beside another's."""
        figure, ratio = found.medians[percentile] * 1e3, found.ratios[percentile]
        self.delays.row(f"{what}, {percentile}", figure, beside, ratio, aim)


def route(tables: Tables, ours: Server, bare: Server) -> None:
    """A plugin's route, beside the bare one."""
    what, beside = "a plugin's route", "Quart-Trio on hypercorn"
    found = compare(partial(wrk, ours, "/hello"), partial(wrk, bare, "/hello"))
    tables.per_processor(what, found, beside)
    tables.per_second(what, found, beside, "≥ 0.97")
    tables.delay(what, found, beside, "p50", "≤ 1")
    tables.delay(what, found, beside, "p99", "≤ 1.03")


def beside_peers(tables: Tables, ours: Server, fastapi: Server, starlette: Server) -> None:
    """Single events, a plain route, and one that asks Quart, over few and many connections."""

    def put(server: Server, path: str, connections: int, numbered: str) -> Load:
        body = LINE.strip() if path == ORDERED else b""
        return wrk(server, path, body=body, connections=connections, numbered=numbered)

    for connections in (16,) if QUICK else (16, 64):
        for what, path, other, numbered, to_fastapi, to_starlette in (
            ("single JSON, monitored", ORDERED, ORDERED, "", "≥ 2.0", "≥ 1.0"),
            ("the same, each with another head", ORDERED, ORDERED, "traceparent", "≥ 2.0", "≥ 1.0"),
            ("a plain route", "/hello", "/hello", "", "≥ 1.7", "≥ 0.9"),
            ("a route that asks Quart", "/asks", "/hello", "", "≥ 0.55", ""),
        ):
            for name, peer, aim in (
                ("FastAPI on uvicorn", fastapi, to_fastapi),
                ("Starlette on uvicorn", starlette, to_starlette),
            ):
                found = compare(
                    partial(put, ours, path, connections, numbered),
                    partial(put, peer, other, connections, numbered),
                )
                tables.per_processor(f"{what}, c = {connections}", found, name, aim)


def one(server: Server, path: str = ORDERED) -> Load:
    """Single events as JSON."""
    return wrk(server, path, body=LINE.strip())


def batch(server: Server) -> Load:
    """Batches of CloudEvents; the figures are those of an event."""
    event = {"specversion": "1.0", "source": "bench", "type": "ordered", "data": json.loads(LINE)}
    # An event that has been there already would not be delivered again.
    events = [{**event, "id": f"{token_hex(4)}-@-{number}"} for number in range(BATCH)]
    body = json.dumps(events).encode()
    media_type = "application/cloudevents-batch+json"
    load = wrk(server, "/events", body=body, media_type=media_type, connections=2)
    return attrs.evolve(load, rate=load.rate * BATCH, cpu=load.cpu / BATCH)


def lines(server: Server, path: str = ORDERED) -> Load:
    """A stream of lines, over one connection, in which nobody waits for a single one."""
    before = server.cpu()
    rate = stream(server, path, STREAM)
    used = server.cpu() - before
    return Load(rate, used * len(LINE) / STREAM, math.nan, math.nan)


def ingest(tables: Tables, ours: Server, peer: Server) -> None:
    """Events together, beside one by one."""

    def row(what: str, measure: Put, beside: str, other: Put, aim: str = "") -> None:
        found = compare(measure, other)
        tables.per_processor(what, found, beside)
        tables.per_second(what, found, beside, aim)

    single, alone = partial(one, ours), partial(one, peer)
    together, streamed = partial(batch, ours), partial(lines, ours)
    row("CloudEvents, 100 together", together, "single JSON", single)
    row("NDJSON", streamed, "single JSON", single)
    if not QUICK:
        stored = partial(one, ours, NOTED)
        row("NDJSON, durable", partial(lines, ours, NOTED), "single JSON, durable", stored)
        row("CloudEvents, 100 together", together, "FastAPI on uvicorn, single", alone, "≥ 1")
        row("NDJSON", streamed, "FastAPI on uvicorn, single", alone, "≥ 1")


def flood(tables: Tables, ours: Server) -> None:
    """The route's answers while another plugin is flooded, and while it is not."""

    def flooded() -> Load:
        post(ours, "/flood/begin")
        try:
            return wrk(ours, "/hello")
        finally:
            post(ours, "/flood/end")

    found = compare(flooded, partial(wrk, ours, "/hello"))
    for percentile in ("p50", "p99"):
        what = "a plugin's route while another plugin is flooded"
        tables.delay(what, found, "no flood", percentile, "≤ 1.5")


def post(server: Server, path: str) -> None:
    """One request, without a body."""
    with closing(HTTPConnection("127.0.0.1", server.port)) as connection:
        connection.request("POST", path)
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()


def main() -> None:
    """Measure, and print the tables."""
    require_wrk()
    with ExitStack() as stack:
        ours = stack.enter_context(trivet(ANSWERING / "plugins", "shop", "ledger"))
        bare = stack.enter_context(script("bare"))
        peer = stack.enter_context(script("peer", "fastapi"))
        starlette = stack.enter_context(script("peer", "starlette"))
        tables = Tables()
        route(tables, ours, bare)
        beside_peers(tables, ours, peer, starlette)
        ingest(tables, ours, peer)
        flood(tables, ours)


if __name__ == "__main__":
    main()
