"""Programs that share one consumer group, killed with SIGKILL at random, and held to account.

Some processes of `trivet serve` read one Redis stream. Each writes down, in a file that outlives
it, the number of every event that it has handled. While a producer adds events, one process after
the other is killed at a random moment, and started again; and once Redis stands still for longer
than its visibility. When it has nothing left in hand:

* every event was handled at least once;
* an event was handled more than once only where a process was killed, or Redis stood still: not
  more often than those that it befell have had in hand together;
* nothing is among the dead letters.

    python tests/contrib/replicas.py --events 20000 --replicas 3 --kills 10 --stopped 10 --seed 1
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from textwrap import dedent
from time import monotonic

import attrs
import coredis
import trio

SERVE = [str(Path(sys.executable).parent / "trivet"), "serve"]
STREAM, GROUP = "orders", "billing"
PREFETCH = 64
VISIBILITY = 2.0
"""Seconds."""
BATCH = 50
"""Events that are added at once."""

PLUGIN = '''
    import os

    import trio

    from trivet import Event, EventPlugin


    class Order(Event):
        number: int


    class Billing(EventPlugin[Order]):
        """Writes down what it has handled, in one write, which a kill cannot cut in two."""

        async def initialize(self) -> None:
            self.file = os.open("handled", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

        async def handle_event(self, event: Order) -> None:
            await trio.sleep(0.003)
            os.write(self.file, b"%d\\n" % event.number)
'''

SETTINGS = """
    service = "replica"
    active_plugins = ["billing", "redis_source"]
    bind = "127.0.0.1:0"

    [stalls]
    enabled = false

    [plugins.redis_source]
    url = "{url}"
    stream = "{stream}"
    group = "{group}"
    event = "order"
    prefetch = {prefetch}
    visibility = {visibility}
"""


@attrs.frozen
class Orders:
    """What is to be done."""

    events: int
    replicas: int
    kills: int
    stopped: float
    """Seconds for which Redis stands still, once; 0 for not at all."""
    seed: int


@attrs.define
class Replica:
    """One process of `trivet serve`, in a directory of its own, in all its lives."""

    directory: Path
    process: subprocess.Popen[bytes] | None = None
    begins: int = 0
    """Where in the log this life begins."""

    def prepare(self, url: str) -> None:
        """Write its plugin and its settings."""
        (self.directory / "plugins").mkdir(parents=True)
        (self.directory / "plugins" / "billing.py").write_text(dedent(PLUGIN))
        settings = SETTINGS.format(
            url=url, stream=STREAM, group=GROUP, prefetch=PREFETCH, visibility=VISIBILITY
        )
        (self.directory / "trivet.toml").write_text(dedent(settings))

    def start(self) -> None:
        """Start it, without the parent that would start it again by itself."""
        with (self.directory / "log").open("ab") as log:
            self.begins = log.tell()
            self.process = subprocess.Popen(
                [*SERVE, "--no-parent"], cwd=self.directory, stderr=log, stdout=log
            )

    @property
    def is_serving(self) -> bool:
        """Whether it has said so, in this life."""
        return b" serving " in (self.directory / "log").read_bytes()[self.begins :]

    def end(self, number: signal.Signals) -> int:
        """End it so; returns its exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait()

    def handled(self) -> list[int]:
        """What it has handled, in all its lives."""
        file = self.directory / "handled"
        return [int(line) for line in file.read_text().split()] if file.exists() else []


@attrs.frozen
class Found:
    """What has become of the events."""

    lost: int
    twice: int
    dead: int
    shares: list[int]
    """How many each replica has handled."""
    befallen: int
    """How often a replica was killed, or could not reach Redis for a while."""
    seconds: float

    def faults(self) -> list[str]:
        """What must not be."""
        found = [f"{self.lost} events were lost"] if self.lost else []
        if self.twice > self.befallen * PREFETCH:
            found.append(f"{self.twice} were handled again, more than were in hand")
        if self.dead:
            found.append(f"{self.dead} are dead letters")
        if not all(self.shares):
            found.append("a replica has had nothing to do")
        return found


def start_redis(directory: Path, stack: ExitStack) -> subprocess.Popen[bytes]:
    """A server with its append-only file; it ends with the stack."""
    path = directory / "redis.sock"
    options = ["--port", "0", "--unixsocket", str(path), "--dir", str(directory)]
    command = ["redis-server", *options, "--appendonly", "yes", "--save", ""]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    stack.callback(server.wait)
    stack.callback(server.kill)
    return server


async def produce(client: coredis.Redis[bytes], orders: Orders) -> None:
    """Add all events, faster than they are handled."""
    for first in range(0, orders.events, BATCH):
        async with client.pipeline(transaction=False) as pipeline:
            for number in range(first, min(first + BATCH, orders.events)):
                pipeline.xadd(STREAM, {"data": b'{"number": %d}' % number})


async def kill(replicas: list[Replica], orders: Orders, dice: random.Random) -> None:
    """Kill one after the other, at random moments, and start it again."""
    takes = orders.events * 0.004 / orders.replicas
    for _ in range(orders.kills):
        await trio.sleep(dice.uniform(0, 2 * takes / (orders.kills + 1)))
        replica = dice.choice(replicas)
        replica.end(signal.SIGKILL)
        replica.start()


async def stand_still(redis: subprocess.Popen[bytes], orders: Orders, dice: random.Random) -> None:
    """Stop Redis at a random moment, and let it go on after a while."""
    if orders.stopped:
        await trio.sleep(dice.uniform(0, orders.events * 0.004 / orders.replicas))
        redis.send_signal(signal.SIGSTOP)
        await trio.sleep(orders.stopped)
        redis.send_signal(signal.SIGCONT)


async def all_serving(replicas: list[Replica]) -> None:
    """Wait until all of them are up."""
    while not all(replica.is_serving for replica in replicas):
        await trio.sleep(0.05)


async def nothing_left(client: coredis.Redis[bytes], events: int) -> None:
    """Wait until everything was read, and acknowledged."""
    while True:
        (group,) = await client.xinfo_groups(STREAM)
        if group[b"pending"] == 0 and group[b"entries-read"] == events:
            return
        await trio.sleep(0.05)


async def run(
    url: str, redis: subprocess.Popen[bytes], replicas: list[Replica], orders: Orders
) -> Found:
    """Do as ordered."""
    dice, began = random.Random(orders.seed), monotonic()
    async with coredis.Redis.from_url(url, verify_version=False) as client:
        await client.xgroup_create(STREAM, GROUP, identifier="0", mkstream=True)
        for replica in replicas:
            replica.start()
        await all_serving(replicas)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(produce, client, orders)
            nursery.start_soon(kill, replicas, orders, dice)
            nursery.start_soon(stand_still, redis, orders, dice)
        await nothing_left(client, orders.events)
        await all_serving(replicas)  # Who was started just now has not heard of signals yet.
        dead = await client.xlen(f"{STREAM}:dead")
        codes = [replica.end(signal.SIGTERM) for replica in replicas]
        assert codes == [0] * len(replicas), codes
    return account(replicas, orders, dead, monotonic() - began)


def account(replicas: list[Replica], orders: Orders, dead: int, seconds: float) -> Found:
    """Add up what the replicas have written down."""
    lists = [replica.handled() for replica in replicas]
    times = Counter(number for handled in lists for number in handled)
    return Found(
        lost=sum(number not in times for number in range(orders.events)),
        twice=sum(times.values()) - len(times),
        dead=dead,
        shares=[len(handled) for handled in lists],
        befallen=orders.kills + orders.replicas * bool(orders.stopped),
        seconds=seconds,
    )


def main() -> int:
    """Do as the arguments say; the exit code is 1 where something must not be."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--replicas", type=int, default=3)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--stopped", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    arguments = parser.parse_args()
    orders = Orders(**vars(arguments))
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="replicas-")))
        redis, path = start_redis(directory, stack), directory / "redis.sock"
        while not path.exists():
            trio.run(trio.sleep, 0.02)
        replicas = [Replica(directory / f"{number}") for number in range(orders.replicas)]
        for replica in replicas:
            replica.prepare(f"unix://{path}")
        try:
            found = trio.run(run, f"unix://{path}", redis, replicas, orders)
        finally:
            for replica in replicas:
                if replica.process is not None and replica.process.poll() is None:
                    replica.end(signal.SIGKILL)
    write = sys.stdout.write
    write(f"seed {orders.seed}: {orders.events} events, {orders.kills} kills, ")
    write(f"{orders.stopped:g} s without Redis, ")
    write(f"{found.seconds:.0f} s: {found.lost} lost, {found.twice} handled again, ")
    write(f"{found.dead} dead letters; shares {found.shares}\n")
    for fault in found.faults():
        write(f"FAULT: {fault}\n")
    return bool(found.faults())


if __name__ == "__main__":
    sys.exit(main())
