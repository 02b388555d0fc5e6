"""Random programs, one after the other in one process.

Each round draws a graph of needs, and the acts of its plugins at every step of their lives; a
driver publishes, gives orders to plugins and ends the round in one of several ways. Most rounds run
in virtual time; some in real time, with a server, sockets, threads and child processes. Nothing may
be left afterwards: no task, thread, descriptor or child, and no memory.

    python tests/runtime/soak.py --seconds 600 --seed 1

prints its progress, and the seed that repeats a round that failed.
"""

from __future__ import annotations

import argparse
import gc
import logging
import random
import socket
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import closing, suppress
from functools import partial
from itertools import count
from pathlib import Path
from typing import ClassVar

import attrs
import httpx
import psutil
import structlog
import trio
from trio.testing import MockClock

from trivet import (
    BackgroundPlugin,
    DeliverySettings,
    Event,
    EventPlugin,
    OrderRefusedError,
    PermanentError,
    Plugin,
    Runtime,
    ShutdownSettings,
    SourcePlugin,
    StartupSettings,
    Status,
    SupervisionSettings,
    TrivetError,
    open_runtime,
    route,
)
from trivet import Settings as ProgramSettings
from trivet._supervision import _orders
from trivet.testing import serving

Step = Callable[[], Awaitable[None]]


class Tick(Event):
    number: int = 0


class Chaos:
    """A mix-in that makes plugins of all kinds crash, hang and end at random."""

    dice: ClassVar[random.Random]
    unit: ClassVar[float] = 1.0
    """Seconds of one act."""
    real: ClassVar[bool] = False
    """Whether time, threads and processes are real."""

    async def initialize(self) -> None:
        assert isinstance(self, Plugin)
        if self.chance(0.3):
            await self.enter(closing(socket.socket()))
        if self.chance(0.2):
            nursery = await self.enter(trio.open_nursery())
            nursery.start_soon(self.live_and_fail)
        if self.chance(0.1):
            self.degrade("a bad start")
        await self.something([self.nothing] * 8 + [self.wait, self.fail, self.hang])

    async def close(self) -> None:
        await self.something([self.nothing] * 6 + [self.wait, self.fail, self.hang])

    async def run(self) -> None:
        assert isinstance(self, Plugin)
        while self.chance(0.9):
            await self.something([self.wait] * 6 + [self.fail, self.say])
            if self.real:
                await self.something([self.nothing, self.in_a_thread, self.in_a_process])

    async def live_and_fail(self) -> None:
        await trio.sleep(self.unit * self.dice.expovariate(0.02))
        await self.fail()

    async def something(self, things: Sequence[Step]) -> None:
        await self.dice.choice(things)()

    async def nothing(self) -> None:
        pass

    async def wait(self) -> None:
        await trio.sleep(self.unit * self.dice.expovariate(1.0))

    async def hang(self) -> None:
        await trio.sleep_forever()

    async def fail(self) -> None:
        kinds = [ValueError, SystemExit, PermanentError, MemoryError, trio.BrokenResourceError]
        raise self.dice.choices(kinds, [8, 1, 1, 1, 1])[0]

    async def say(self) -> None:
        assert isinstance(self, Plugin)
        if self.chance(0.5):
            self.degrade("so so")
        else:
            self.recover()
        with suppress(trio.TooSlowError):
            await self.app.publish(Tick())

    async def in_a_thread(self) -> None:
        await trio.to_thread.run_sync(time.sleep, 0.001)

    async def in_a_process(self) -> None:
        with trio.move_on_after(0.02):
            await trio.run_process(["sleep", "60"])

    def chance(self, probability: float) -> bool:
        return self.dice.random() < probability


class Base(Chaos, BackgroundPlugin):
    @route("/base")
    async def answer(self) -> str:
        await self.something([self.nothing, self.wait, self.fail])
        return "here"


class Second(Chaos, BackgroundPlugin):
    supervision = SupervisionSettings(restart="permanent")


class Third(Chaos, BackgroundPlugin):
    supervision = SupervisionSettings(restart="temporary")


class Fourth(Chaos, BackgroundPlugin):
    pass


class Handler(Chaos, EventPlugin[Tick]):
    delivery = DeliverySettings(buffer=5, block_for=0.1, concurrency=3, time_limit=3.0)

    async def run(self) -> None:
        await EventPlugin[Tick].run(self)

    async def handle_event(self, event: Tick) -> None:
        await self.something([self.nothing] * 6 + [self.wait, self.fail])


class Reader(Chaos, EventPlugin[Tick]):
    delivery = DeliverySettings(buffer=3, overflow="drop_oldest")

    async def run(self) -> None:
        async for _ in self.inbox:
            await self.something([self.nothing] * 6 + [self.wait, self.fail])
            if self.chance(0.05):
                return


class Deaf(Chaos, EventPlugin[Tick]):
    delivery = DeliverySettings(buffer=3, overflow="reject")


class Source(Chaos, SourcePlugin):
    async def run(self) -> None:
        while True:
            await self.app.publish(Tick())
            await self.something([self.wait] * 9 + [self.fail])


TIERS: list[list[type[Plugin]]] = [
    [Base, Second, Third, Fourth],
    [Handler, Reader, Deaf],
    [Source],
]


@attrs.frozen
class Left:
    """A process's resources, apart from memory."""

    threads: int
    descriptors: int
    children: int

    @classmethod
    def now(cls) -> Left:
        """Count; Trio's idle worker threads, which live for ten seconds, are not counted."""
        threads = [each for each in threading.enumerate() if "Trio thread" not in each.name]
        process = psutil.Process()
        return cls(
            len(threads), len(list(Path("/proc/self/fd").iterdir())), len(process.children())
        )


def draw(
    dice: random.Random, settings: ProgramSettings
) -> tuple[ProgramSettings, list[type[Plugin]]]:
    """Draw a program: its plugins, their needs and their supervision."""
    chosen: list[type[Plugin]] = []
    tables: dict[str, dict[str, object]] = {}
    for tier in TIERS:
        for plugin in dice.sample(tier, dice.randint(0 if chosen else 1, len(tier))):
            plugin.needs = tuple(each for each in chosen if dice.random() < 0.3)
            chosen.append(plugin)
            tables[plugin.name] = {
                "supervision": {
                    "on_start_failure": dice.choice(["retry", "retry", "retry", "fail"]),
                    "critical": dice.random() < 0.05,
                    "max_restarts": dice.choice([0, 1, 5, 100]),
                    "backoff_initial": 0.1 * Chaos.unit,
                }
            }
    return attrs.evolve(settings, plugins=tables), chosen


def check_running(runtime: Runtime) -> None:
    """Check the invariants of every instant."""
    for host in runtime.hosts.values():
        if host.is_up:
            needs = {need.status for need in host.needs.needed}
            assert needs <= {Status.RUNNING, Status.DEGRADED, Status.STOPPING}, needs
    for name, counts in runtime.statistics().items():
        fates = attrs.asdict(counts)
        accepted, rejected = fates.pop("accepted"), fates.pop("rejected")
        assert rejected >= 0
        assert fates.pop("unacceptable") == 0
        assert fates.pop("bytes") >= 0
        assert 0 <= fates.pop("timed_out") <= fates["failed"]
        assert accepted == sum(fates.values()), (name, counts)


def check_ended(runtime: Runtime) -> None:
    """Check the invariants after the end."""
    assert runtime.plan is not None
    late = trio.current_time() - runtime.plan.begun - runtime.plan.settings.budget
    assert late < (1.0 if Chaos.real else 1e-6), f"the stop was {late:.3f} s late"
    for host in runtime.hosts.values():
        assert host.ended.is_set()
        assert host.status in (Status.STOPPED, Status.FAILED)
    for counts in runtime.statistics().values():
        assert counts.queued == counts.in_flight == 0
    check_running(runtime)


def give_order(dice: random.Random, runtime: Runtime) -> None:
    """Give a plugin an order, as an operator does."""
    host, limits = dice.choice(list(runtime.hosts.values())), runtime.program.settings.shutdown
    orders: list[Callable[[], object]] = [
        partial(_orders.restart, host),
        partial(_orders.disable, host, limits),
        partial(_orders.enable, host),
        partial(_orders.pause, host),
        partial(_orders.resume, host),
    ]
    with suppress(OrderRefusedError):
        dice.choice(orders)()


async def drive(dice: random.Random, runtime: Runtime, ask: Step | None) -> None:
    """Use the program for a while."""
    for _ in range(dice.randint(0, 60)):
        await trio.sleep(Chaos.unit * dice.expovariate(2.0))
        check_running(runtime)
        if dice.random() < 0.2:
            give_order(dice, runtime)
        await runtime.publish(Tick(), deadline=trio.current_time() + Chaos.unit)
        if ask is not None:
            await ask()


async def live(dice: random.Random, settings: ProgramSettings) -> None:
    """Live through one round: a program from its start to its end."""
    settings, plugins = draw(dice, settings)
    runtimes: list[Runtime] = []
    end = dice.choice(["leave", "raise", "cancel"])
    with trio.CancelScope() as scope:
        if dice.random() < 0.2:
            scope.deadline = trio.current_time() + Chaos.unit * dice.expovariate(1.0)
        try:
            async with open_runtime(settings, plugins=plugins, event_types=[Tick]) as runtime:
                runtimes.append(runtime)
                await use(dice, runtime)
                if end == "cancel":
                    scope.cancel()
                assert end != "raise", END
        except* TrivetError:
            pass  # The program did not start, or a critical plugin gave up.
        except* AssertionError as group:
            if END not in str(group.exceptions):
                raise
    for runtime in runtimes:
        check_ended(runtime)


async def use(dice: random.Random, runtime: Runtime) -> None:
    """Drive the program; in real time also over HTTP."""
    if not Chaos.real:
        await drive(dice, runtime, None)
        return
    async with serving(runtime) as url, httpx.AsyncClient(base_url=url) as client:

        async def ask() -> None:
            answer = await client.get("/base", timeout=60)
            assert answer.status_code in (200, 404, 500, 503), answer
            answer = await client.get("/livez", timeout=60)
            assert answer.status_code == 200, (answer, answer.text)

        await drive(dice, runtime, ask)


END = "the end of this round"

VIRTUAL = ProgramSettings(
    shutdown=ShutdownSettings(requests=1, drain=5, close=5), startup=StartupSettings(limit=20)
)
REAL = ProgramSettings(
    shutdown=ShutdownSettings(requests=0.2, drain=0.2, close=0.2),
    startup=StartupSettings(limit=0.2),
)


def soak(rounds: Iterable[int]) -> int:
    """Live through the rounds of these seeds, every tenth in real time; returns their number."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    done = 0
    for seed in rounds:
        Chaos.dice = dice = random.Random(seed)
        Chaos.real = seed % 10 == 0
        Chaos.unit = 0.01 if Chaos.real else 1.0
        try:
            if Chaos.real:
                trio.run(live, dice, REAL)
            else:
                trio.run(live, dice, VIRTUAL, clock=MockClock(autojump_threshold=0))
        except BaseException as error:
            error.add_note(f"in the round of seed {seed}")
            raise
        done += 1
    return done


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def objects() -> int:
    """The number of objects that are not garbage."""
    gc.collect()
    return len(gc.get_objects())


def main() -> None:
    """Soak, and compare each batch with the first, which makes many objects once and for all."""
    parser = argparse.ArgumentParser(description="Live through random programs.")
    parser.add_argument("--seed", type=int, default=0, help="of the first round")
    parser.add_argument("--batch", type=int, default=200, help="rounds between two looks")
    parser.add_argument("--batches", type=int, help="further batches; otherwise as many as …")
    parser.add_argument("--seconds", type=float, default=600.0, help="… begin within this time")
    options = parser.parse_args()
    until = time.monotonic() + options.seconds
    process = psutil.Process()
    seed = options.seed + soak(range(options.seed, options.seed + options.batch))
    before, base, memory = Left.now(), objects(), process.memory_info().rss
    say(f"after {options.batch} rounds: {before}, {base} objects, {memory / 2**20:.1f} MiB")
    for batch in count():
        if time.monotonic() > until if options.batches is None else batch == options.batches:
            break
        seed += soak(range(seed, seed + options.batch))
        growth = (process.memory_info().rss - memory) / 2**20
        say(f"up to seed {seed}: {objects() - base:+d} objects, {growth:+.1f} MiB")
        assert Left.now() == before, (before, Left.now())
        assert objects() <= base * 1.02, "objects were left"
        assert growth <= 8, "memory was not given back"


if __name__ == "__main__":
    main()
