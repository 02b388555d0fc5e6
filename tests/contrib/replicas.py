"""Programs that share the messages of a broker, killed at random, and held to account.

Some processes of `trivet serve` read one stream, or one queue, of Redis, NATS or RabbitMQ. Each
process writes the number of every event that it has handled into a file. The processes are killed
with SIGKILL one after the other, at random moments, and started again. Once the broker hangs for
longer than its visibility. At the end no message is in flight, and then:

* every event was handled at least once;
* an event was handled more than once only if a process was killed, or the broker hung, and the
  repetitions are not more than the messages that were in flight at those moments;
* there are no dead letters.

    python -m tests.contrib.replicas redis --events 20000 --replicas 3 --kills 10 --stopped 10
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from textwrap import dedent
from time import monotonic

import attrs
import trio

from .nats_server import nats_server
from .rabbitmq_server import Node, rabbitmq_server
from .redis_server import redis_server
from .suite import Server, becomes, plain

SERVE = [str(Path(sys.executable).parent / "trivet"), "serve"]
PREFETCH = 64
VISIBILITY = 2.0
"""Seconds."""
BATCH = 500
"""Events that are sent together."""
QUIET = 60.0
"""Seconds without progress after which the missing events count as lost."""

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
    active_plugins = ["billing", "{source}"]
    bind = "127.0.0.1:0"

    [stalls]
    enabled = false

    [plugins.{source}]
    {settings}
"""


@attrs.frozen
class Orders:
    """The orders of one run."""

    broker: str
    events: int
    replicas: int
    kills: int
    stopped: float
    """Seconds for which the broker hangs, once; 0 for not at all."""
    seed: int


@attrs.define
class Replica:
    """One replica of `trivet serve`, in a directory of its own, over all its starts."""

    directory: Path
    process: subprocess.Popen[bytes] | None = None
    begins: int = 0
    """The beginning, in the log, of the present process."""

    def prepare(self, source: str, table: Mapping[str, object]) -> None:
        """Write the replica's plugin and settings."""
        (self.directory / "plugins").mkdir(parents=True)
        (self.directory / "plugins" / "billing.py").write_text(dedent(PLUGIN))
        lines = "\n".join(f"{name} = {json.dumps(value)}" for name, value in table.items())
        settings = dedent(SETTINGS).format(source=source, settings=lines)
        (self.directory / "trivet.toml").write_text(settings)

    def start(self) -> None:
        """Start the replica, without the parent process that would restart it."""
        with (self.directory / "log").open("ab") as log:
            self.begins = log.tell()
            self.process = subprocess.Popen(
                [*SERVE, "--no-parent"], cwd=self.directory, stderr=log, stdout=log
            )

    @property
    def is_serving(self) -> bool:
        """Whether the present process has logged that it is up."""
        return b" serving " in (self.directory / "log").read_bytes()[self.begins :]

    def end(self, number: signal.Signals) -> int:
        """End the process with a signal; returns its exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait()

    def handled(self) -> list[int]:
        """The numbers that the replica has handled, over all its starts."""
        file = self.directory / "handled"
        return [int(line) for line in file.read_text().split()] if file.exists() else []


@attrs.frozen
class Found:
    """The result of a run."""

    lost: int
    twice: int
    dead: int
    unacknowledged: int
    shares: list[int]
    """The number of events that each replica has handled."""
    befallen: int
    """The number of times that a replica was killed, or could not reach the broker."""
    seconds: float

    def faults(self) -> list[str]:
        """The faults of the run."""
        found = [f"{self.lost} events were lost"] if self.lost else []
        if self.twice > self.befallen * PREFETCH:
            found.append(f"{self.twice} were handled again, more than were in flight")
        if self.dead:
            found.append(f"{self.dead} are dead letters")
        if self.unacknowledged:
            found.append(f"{self.unacknowledged} were handled, and never acknowledged")
        if not all(self.shares):
            found.append("a replica has had nothing to do")
        return found


@asynccontextmanager
async def serving(broker: str, directory: Path) -> AsyncGenerator[Server]:
    """The broker, in a directory of its own."""
    async with AsyncExitStack() as stack:
        if broker == "redis":
            yield await stack.enter_async_context(redis_server(directory))
        elif broker == "nats":
            yield await stack.enter_async_context(nats_server(directory))
        else:
            node = Node(directory)
            stack.callback(node.end)
            yield await stack.enter_async_context(rabbitmq_server(node))


async def produce(server: Server, events: int) -> None:
    """Send all events, faster than they are handled."""
    for first in range(0, events, BATCH):
        await server.send([plain(number) for number in range(first, min(first + BATCH, events))])


async def kill(replicas: list[Replica], orders: Orders, dice: random.Random) -> None:
    """Kill replicas at random moments, and start them again."""
    takes = orders.events * 0.004 / orders.replicas
    for _ in range(orders.kills):
        await trio.sleep(dice.uniform(0, 2 * takes / (orders.kills + 1)))
        replica = dice.choice(replicas)
        while not replica.handled():  # A replica needs messages in flight to lose.
            await trio.sleep(0.05)
        replica.end(signal.SIGKILL)
        replica.start()


async def stand_still(server: Server, orders: Orders, dice: random.Random) -> None:
    """Make the broker hang at a random moment, and let it go on after a while."""
    if orders.stopped:
        await trio.sleep(dice.uniform(0, orders.events * 0.004 / orders.replicas))
        server.pause()
        await trio.sleep(orders.stopped)
        server.resume()


async def all_serving(replicas: list[Replica]) -> None:
    """Wait until all replicas are up."""
    while not all(replica.is_serving for replica in replicas):
        await trio.sleep(0.05)


async def nothing_left(server: Server, replicas: list[Replica], events: int) -> int:
    """Wait until every event is handled and acknowledged, or progress ends.

    Returns:
        The number of unacknowledged messages.
    """
    seen, since = 0, monotonic()
    while seen < events and monotonic() < since + QUIET:
        await trio.sleep(0.2)
        handled = len({number for replica in replicas for number in replica.handled()})
        if handled != seen:
            seen, since = handled, monotonic()
    with trio.move_on_after(QUIET):
        await becomes(0, server.unacknowledged)
    return await server.unacknowledged()


async def run(replicas: list[Replica], orders: Orders, directory: Path) -> Found:
    """Do a run."""
    dice = random.Random(orders.seed)
    async with serving(orders.broker, directory) as server:
        facts = {"event": "order", "prefetch": PREFETCH, "visibility": VISIBILITY}
        for replica in replicas:
            replica.prepare(f"{orders.broker}_source", server.settings(**facts))
            replica.start()
        await all_serving(replicas)
        began = monotonic()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(kill, replicas, orders, dice)
            await produce(server, orders.events)  # A broker that hangs would not take them.
            nursery.start_soon(stand_still, server, orders, dice)
        unacknowledged = await nothing_left(server, replicas, orders.events)
        took = monotonic() - began
        await all_serving(replicas)  # A process that was just started does not handle signals yet.
        dead = len(await server.dead())
        codes = [replica.end(signal.SIGTERM) for replica in replicas]
        assert codes == [0] * len(replicas), codes
    return account(replicas, orders, dead, unacknowledged, took)


def account(
    replicas: list[Replica], orders: Orders, dead: int, unacknowledged: int, seconds: float
) -> Found:
    """Add up the files of the replicas."""
    lists = [replica.handled() for replica in replicas]
    times = Counter(number for handled in lists for number in handled)
    return Found(
        lost=sum(number not in times for number in range(orders.events)),
        twice=sum(times.values()) - len(times),
        dead=dead,
        unacknowledged=unacknowledged,
        shares=[len(handled) for handled in lists],
        befallen=orders.kills + orders.replicas * bool(orders.stopped),
        seconds=seconds,
    )


def main() -> int:
    """Do a run by the arguments; the exit code is 1 after a fault."""
    parser = argparse.ArgumentParser()
    parser.add_argument("broker", choices=["redis", "nats", "rabbitmq"])
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--replicas", type=int, default=3)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--stopped", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    arguments = parser.parse_args()
    orders = Orders(**vars(arguments))
    with tempfile.TemporaryDirectory(prefix="replicas-") as name:
        directory = Path(name)
        (directory / orders.broker).mkdir()
        replicas = [Replica(directory / f"{number}") for number in range(orders.replicas)]
        try:
            found = trio.run(run, replicas, orders, directory / orders.broker)
        finally:
            for replica in replicas:
                if replica.process is not None and replica.process.poll() is None:
                    replica.end(signal.SIGKILL)
    write = sys.stdout.write
    write(f"{orders.broker}, seed {orders.seed}: {orders.events} events, {orders.kills} kills, ")
    write(f"{orders.stopped:g} s of standstill, ")
    write(f"{found.seconds:.0f} s: {found.lost} lost, {found.twice} handled again, ")
    write(f"{found.dead} dead letters; shares {found.shares}\n")
    for fault in found.faults():
        write(f"FAULT: {fault}\n")
    return bool(found.faults())


if __name__ == "__main__":
    sys.exit(main())
