"""How long it takes to begin and to end: a thousand plugins, and a whole service.

    python tests/bench/bench_lifecycle.py [--quick]

A thousand background plugins that do nothing are started and stopped in a runtime of their own, in
the default settings, with a log from errors upwards. Beside them, in turns: as many bare
nurseries, each holding a task that sleeps, and each waited for until it is there. Memory is what
the process has grown by.

A service is a process: `trivet serve` of one plugin with one route, timed from the moment before
the process is made to the first answer with 200, and from SIGTERM to the process's end. Beside it
the same route in a bare quart-trio application: under `hypercorn -k trio`, and with hypercorn
embedded in a script of its own. What an import takes is the processor time of an interpreter that
does nothing else, less that of one that does nothing.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Generator
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from time import perf_counter, sleep

import structlog
import trio
from pairs import Measure, Table, in_trio, pairs

from trivet import BackgroundPlugin, Plugin, open_runtime

PLUGINS = 1000
HERE = Path(__file__).parent
SERVED = HERE / "served"
BIN = Path(sys.executable).parent
ENVIRON = {name: os.environ[name] for name in os.environ if name != "PYTHONDONTWRITEBYTECODE"}
"""Of the processes: what is installed has its bytecode from its installer, a working copy not."""
REQUEST = b"GET /hello HTTP/1.1\r\nHost: bench\r\n\r\n"
HARD_LIMIT = 30.0
"""Seconds after which a process that does not answer, or end, is a failure."""

Then = Callable[[], None]
Many = Callable[[Then], Awaitable[None]]
"""Starts a thousand, calls back, and stops them."""


class Idle(BackgroundPlugin):
    """Does nothing; there are as many classes of it as there are plugins."""


def idle_plugins() -> list[type[Plugin]]:
    """A thousand classes."""
    return [type(f"Idle{number}", (Idle,), {}) for number in range(PLUGINS)]


async def many_plugins(classes: list[type[Plugin]], then: Then) -> None:
    """In a runtime."""
    async with open_runtime(plugins=classes):
        then()


async def many_nurseries(then: Then) -> None:
    """With nothing around them."""

    async def hold(*, task_status: trio.TaskStatus[None]) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            task_status.started()

    async with trio.open_nursery() as nursery:
        for _ in range(PLUGINS):
            await nursery.start(hold)
        then()
        nursery.cancel_scope.cancel()


async def starts(many: Many) -> float:
    """How often a second they could be started."""
    began = perf_counter()
    took: list[float] = []
    await many(lambda: took.append(perf_counter() - began))
    return 1 / took[0]


async def stops(many: Many) -> float:
    """How often a second they could be stopped."""
    began: list[float] = []
    await many(lambda: began.append(perf_counter()))
    return 1 / (perf_counter() - began[0])


def resident() -> float:
    """KiB of this process that are in memory."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024


def report_memory(many: Many) -> None:
    """Print by how many KiB the process has grown for each of a thousand."""
    before = resident()
    grown: list[float] = []
    trio.run(many, lambda: grown.append(resident() - before))
    sys.stdout.write(f"{grown[0] / PLUGINS}\n")


def per_kib(whose: str) -> float:
    """How many there are in one KiB, by a process that starts a thousand and no more."""
    told = subprocess.run(
        [sys.executable, __file__, whose], check=True, capture_output=True, timeout=HARD_LIMIT
    )
    return 1 / float(told.stdout.split()[-1])


# Processes.


def processor_time(code: str) -> float:
    """Seconds that an interpreter needs for this code, and to start and to end."""
    pid = os.posix_spawn(sys.executable, [sys.executable, "-c", code], ENVIRON)
    _, status, used = os.wait4(pid, 0)
    if status:
        raise RuntimeError(f"{code!r} ended with the wait status {status}")
    return used.ru_utime + used.ru_stime


def imports(modules: str) -> float:
    """How often a second they could be imported."""
    bare = min(processor_time("pass") for _ in range(3))
    return 1 / (processor_time(f"import {modules}") - bare)


@contextmanager
def serving(*command: str | Path) -> Generator[tuple[subprocess.Popen[bytes], str]]:
    """A service with `ADDRESS` in its command, and where it listens; it is ended in any case."""
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    parts = [str(part).replace("ADDRESS", address) for part in command]
    process = subprocess.Popen(parts, cwd=SERVED, env=ENVIRON, stderr=subprocess.DEVNULL)
    try:
        yield process, address
    finally:
        process.terminate()
        process.wait(HARD_LIMIT)


def first_answer(address: str) -> socket.socket:
    """The connection on which the service has answered with 200."""
    host, _, port = address.rpartition(":")
    for _ in range(int(HARD_LIMIT / 0.001)):
        with suppress(ConnectionRefusedError):
            connection = socket.create_connection((host, int(port)), timeout=HARD_LIMIT)
            connection.sendall(REQUEST)
            answer = connection.recv(65536)
            if not answer.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(f"not an answer: {answer!r}")
            return connection
        sleep(0.001)
    raise TimeoutError(f"nothing answers at {address}")


def cold_starts(*command: str | Path) -> float:
    """How often a second it could be started."""
    began = perf_counter()
    with serving(*command) as (_, address), closing(first_answer(address)):
        return 1 / (perf_counter() - began)


def service_stops(*command: str | Path, keep_alive: bool) -> float:
    """How often a second it could be stopped, with a client that stays or without any."""
    with serving(*command) as (process, address), closing(first_answer(address)) as connection:
        if not keep_alive:
            connection.close()
        began = perf_counter()
        process.send_signal(signal.SIGTERM)
        process.wait(HARD_LIMIT)
        return 1 / (perf_counter() - began)


def compare(table: Table, what: str, beside: str, aim: str, ours: Measure, theirs: Measure) -> None:
    """Add a row of milliseconds."""
    rate, ratio = pairs(ours, theirs)
    table.row(what, 1000 / rate.median, beside, ratio.inverse(), aim)


def main() -> None:
    """Measure, and print the tables."""
    plugins = partial(many_plugins, idle_plugins())
    table = Table("a thousand plugins", "ms")
    for what, measure in (("start", starts), ("stop", stops)):
        ours, bare = in_trio(measure, plugins), in_trio(measure, many_nurseries)
        compare(table, what, "bare nurseries", "≤ 2", ours, bare)
    table = Table("memory of an idle plugin", "KiB")
    rate, ratio = pairs(partial(per_kib, "plugins"), partial(per_kib, "nurseries"), rounds=3)
    table.row("each of a thousand", 1 / rate.median, "a bare nursery", ratio.inverse())

    trivet = (BIN / "trivet", "serve", "hello", "--plugins", SERVED, "--bind", "ADDRESS")
    hypercorn = (BIN / "hypercorn", "-k", "trio", "bare:app", "--bind", "ADDRESS")
    embedded = (sys.executable, "bare.py", "ADDRESS")
    table = Table("start and stop of a service", "ms")
    compare(
        table,
        "`import trivet`",
        "`import hypercorn.trio, quart_trio`",
        "≤ 1.3",
        partial(imports, "trivet"),
        partial(imports, "hypercorn.trio, quart_trio"),
    )
    ours = partial(cold_starts, *trivet)
    for beside, command in (("`hypercorn -k trio`", hypercorn), ("hypercorn embedded", embedded)):
        compare(table, "to the first 200", beside, "≤ 1.3", ours, partial(cold_starts, *command))
    for what, keep_alive in (("idle", False), ("with an idle client", True)):
        ours = partial(service_stops, *trivet, keep_alive=keep_alive)
        theirs = partial(service_stops, *hypercorn, keep_alive=keep_alive)
        compare(table, f"from SIGTERM to the end, {what}", "`hypercorn -k trio`", "", ours, theirs)


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    if "plugins" in sys.argv:
        report_memory(partial(many_plugins, idle_plugins()))
    elif "nurseries" in sys.argv:
        report_memory(many_nurseries)
    else:
        main()
