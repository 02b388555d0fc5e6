"""Fan-out in one process: Trivet beside other libraries, on the same work.

    python tests/bench/bench_peers.py [--quick]

Each event is built in the loop, each handler is async and counts it, and the clock stops when the
last handler has run. Trivet is in its default settings (inboxes of 1000) but for the stall watch,
which has its own benchmark; the others run on asyncio's own loop. The words
about each library are its behaviour with a slow subscriber, as `bench_memory.py` shows. A library
that keeps nothing, and only calls the handlers one after the other, has less to do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from time import perf_counter

import structlog
import trio
from pairs import QUICK, Measure, Table, pairs
from peers import (
    Handler,
    Peer,
    Ping,
    Work,
    asyncio_queue,
    blinker,
    faststream,
    litestar_channels,
    litestar_emitter,
    pyee,
    trivet,
)

from trivet import DeliverySettings, Settings, StallSettings

EVENTS = 6_000 if QUICK else 50_000
"""In one round, divided by the number of subscribers."""
TURN = 64
"""About as many as Trivet takes before it lets others run."""
LIMIT = 60.0
"""Seconds for one round: who loses an event would not end."""

PEERS: list[tuple[str, Peer, int, str]] = [
    ("asyncio.Queue(64) (waits, for ever)", partial(asyncio_queue, size=64), 1, "≥ 1"),
    ("litestar channels (drop)", partial(litestar_channels, backlog=1000), 1, "≥ 1"),
    ("litestar SimpleEventEmitter (no bound)", litestar_emitter, 10, "≥ 1"),
    ("pyee (no bound)", pyee, 4, "≥ 1"),
    ("FastStream TestNatsBroker (calls)", faststream, 20, "≥ 1"),
    ("blinker send_async (calls)", blinker, 1, ""),
]
"""Name, what it does, and by how much to divide its number of events."""


class Race(Work):
    """The time from the first event to the last handler."""

    def __init__(self, subscribers: int, events: int) -> None:
        super().__init__([self._handler() for _ in range(subscribers)], TURN)
        self._count = events
        self._ran = 0
        self._began = 0.0
        self.rate = 0.0
        """Events a second."""

    def _handler(self) -> Handler:
        async def handle(event: object) -> None:
            self._ran += 1

        return handle

    def events(self) -> Iterator[Ping]:
        """A number of events."""
        self._began = perf_counter()
        for number in range(self._count):
            yield Ping(number)

    async def end(self, next_turn: Callable[[], Awaitable[None]]) -> None:
        """Wait for the last handler."""
        while self._ran < self._count * len(self.handlers):
            await next_turn()
        self.rate = self._count / (perf_counter() - self._began)


def of_trivet(subscribers: int) -> Measure:
    """Events a second through Trivet."""

    async def run(race: Race) -> None:
        settings = Settings(stalls=StallSettings(enabled=False))
        with trio.fail_after(LIMIT):
            await trivet(race, settings, DeliverySettings())

    def measure() -> float:
        race = Race(subscribers, EVENTS // subscribers)
        trio.run(run, race)
        return race.rate

    return measure


def of(peer: Peer, subscribers: int, events: int) -> Measure:
    """Events a second through another library."""

    async def run(race: Race) -> None:
        async with asyncio.timeout(LIMIT):
            await peer(race)

    def measure() -> float:
        race = Race(subscribers, events)
        asyncio.run(run(race))
        return race.rate

    return measure


def main() -> None:
    """Measure, and print the table."""
    table = Table("fan-out beside peers", "events/s")
    for subscribers in (1, 4, 16):
        for name, peer, slower, aim in PEERS:
            theirs = of(peer, subscribers, EVENTS // subscribers // slower)
            rate, ratio = pairs(of_trivet(subscribers), theirs)
            table.row(f"Trivet to {subscribers}", rate.median, name, ratio, aim)


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
    main()
