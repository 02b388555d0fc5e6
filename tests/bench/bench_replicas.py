"""The gain of a second program that shares a Redis stream with the first, in events a second.

    python tests/bench/bench_replicas.py [--quick]

Programs of `trivet serve`, each a process of its own, and a redis-server of its own, with its
append-only file. All events are in the stream at once; the time ends when none is in flight. A
handler that waits leaves the processor to others, so that the number of handlers counts; a handler
that computes needs a core, of which Redis needs a part, too.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from textwrap import dedent
from time import perf_counter, sleep

import coredis
import trio
from bench_redis import redis_server
from pairs import QUICK, Table, in_trio, pairs

SERVE = [str(Path(sys.executable).parent / "trivet"), "serve"]
GROUP = "billing"

FILL = """
for number = 1, tonumber(ARGV[1]) do
  redis.call('XADD', KEYS[1], '*', 'data', '{"number": ' .. number .. '}')
end
"""
"""All at once: no program has one of them before the last is there."""

PLUGINS = {
    "waits": "await trio.sleep(0.001)",
    "computes": "hashlib.pbkdf2_hmac('sha256', b'order', b'salt', 300)",
}
"""The handlers' bodies; the one that computes takes about a tenth of a millisecond."""
EVENTS = {"waits": 1_000 if QUICK else 5_000, "computes": 4_000 if QUICK else 20_000}

PLUGIN = """
    import hashlib

    import trio

    from trivet import Event, EventPlugin


    class Order(Event):
        number: int


    class Billing(EventPlugin[Order]):
        async def handle_event(self, event: Order) -> None:
            {work}
"""

SETTINGS = """
    service = "replica"
    active_plugins = ["billing", "redis_source"]
    bind = "127.0.0.1:0"

    [plugins.redis_source]
    url = "{url}"
    stream = "{stream}"
    group = "{group}"
    event = "order"
    create = true
"""


@contextmanager
def programs(count: int, url: str, kind: str) -> Generator[str]:
    """Run a number of programs, and yield the stream that they share."""
    stream = f"{kind}-{count}"
    with ExitStack() as stack:
        logs: list[Path] = []
        for _ in range(count):
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="replica-")))
            (directory / "plugins").mkdir()
            plugin = dedent(PLUGIN).format(work=PLUGINS[kind])
            (directory / "plugins" / "billing.py").write_text(plugin)
            settings = dedent(SETTINGS).format(url=url, stream=stream, group=GROUP)
            (directory / "trivet.toml").write_text(settings)
            logs.append(directory / "log")
            with logs[-1].open("wb") as log:
                process = subprocess.Popen(SERVE, cwd=directory, stdout=log, stderr=log)
            stack.callback(process.wait)
            stack.callback(process.terminate)
        while not all(b" serving " in log.read_bytes() for log in logs):
            sleep(0.05)
        yield stream


async def handled(url: str, stream: str, events: int) -> float:
    """Events a second, from the full stream to the empty one."""
    async with coredis.Redis.from_url(url, verify_version=False) as redis:
        before = await redis.xlen(stream)
        began = perf_counter()
        await redis.eval(FILL, [stream], [events])
        while True:
            (group,) = await redis.xinfo_groups(stream)
            if group[b"entries-read"] == before + events and not group[b"pending"]:
                return events / (perf_counter() - began)
            await trio.sleep(0.005)


def measure(url: str, stream: str, kind: str) -> Callable[[], float]:
    """The rate of the programs that share this stream."""
    return in_trio(handled, url, stream, EVENTS[kind])


def main() -> None:
    """Measure, and print the table."""
    table = Table("programs that share a stream", "events/s")
    with redis_server() as url:
        for kind in PLUGINS:
            with programs(1, url, kind) as one, programs(2, url, kind) as two:
                rate, ratio = pairs(measure(url, two, kind), measure(url, one, kind))
                table.row(f"two, a handler that {kind}", rate.median, "one", ratio, "")


if __name__ == "__main__":
    main()
