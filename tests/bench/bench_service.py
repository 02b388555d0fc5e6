"""The time from nothing to a service's first answer, and from SIGTERM to its end.

    python tests/bench/bench_service.py [--quick]

`trivet serve` of one plugin with one route is timed from the moment before the process is made to
the first answer with 200, and from SIGTERM to the process's end: without clients, and with a
client whose connection stays open and idle. Beside it, in turns, the same route in a bare
quart-trio application: under `hypercorn -k trio`, and with hypercorn inside of a script, which has
no process of its own to watch over it. A program without routes, which does not import Quart, is
asked for `/livez` beside FastAPI on uvicorn. The figure of an import is the processor time of an
interpreter that does nothing else, less that of one that does nothing.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Generator
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from time import perf_counter, sleep

from pairs import QUICK, Measure, Quartiles, Table, pairs

SERVED = Path(__file__).parent / "served"
BIN = Path(sys.executable).parent
PLUGINS = (BIN / "trivet", "serve", "hello", "--plugins", SERVED, "--bind", "ADDRESS")
QUIET = (BIN / "trivet", "serve", "quiet", "--plugins", SERVED, "--bind", "ADDRESS")
FASTAPI = (sys.executable, "fast.py", "ADDRESS")
HYPERCORN = (BIN / "hypercorn", "-k", "trio", "bare:app", "--bind", "ADDRESS")
EMBEDDED = (sys.executable, "bare.py", "ADDRESS")

ENVIRON = {name: os.environ[name] for name in os.environ if name != "PYTHONDONTWRITEBYTECODE"}
"""The processes' environment, in which a working copy writes bytecode, as an installer does."""
REQUEST = "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"
AT_MOST = 30.0
"""Seconds that a service may take for anything."""


def processor_time(code: str) -> float:
    """Seconds that an interpreter needs to start, run this code and end."""
    pid = os.posix_spawn(sys.executable, [sys.executable, "-c", code], ENVIRON)
    _, status, used = os.wait4(pid, 0)
    if status:
        raise RuntimeError(f"{code!r} ended with the wait status {status}")
    return used.ru_utime + used.ru_stime


def imports(modules: str) -> float:
    """Imports a second."""
    return 1 / (processor_time(f"import {modules}") - min(processor_time("pass") for _ in range(3)))


@contextmanager
def serving(*command: str | Path) -> Generator[tuple[subprocess.Popen[bytes], str]]:
    """Run a service with `ADDRESS` in its command, and yield its address; it is always ended."""
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    parts = [str(part).replace("ADDRESS", address) for part in command]
    process = subprocess.Popen(parts, cwd=SERVED, env=ENVIRON, stderr=subprocess.DEVNULL)
    try:
        yield process, address
    finally:
        process.terminate()
        process.wait(AT_MOST)


def first_answer(address: str, path: str = "/hello") -> socket.socket:
    """The connection on which the service has answered 200."""
    host, _, port = address.rpartition(":")
    until = perf_counter() + AT_MOST
    while perf_counter() < until:
        with suppress(ConnectionRefusedError):
            connection = socket.create_connection((host, int(port)), timeout=AT_MOST)
            connection.sendall(REQUEST.format(path=path).encode())
            answer = connection.recv(65536)
            if not answer.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(f"not an answer: {answer!r}")
            return connection
        sleep(0.001)
    raise TimeoutError(f"nothing answers at {address}")


def starts(*command: str | Path, path: str = "/hello") -> float:
    """Starts a second."""
    began = perf_counter()
    with serving(*command) as (_, address), closing(first_answer(address, path)):
        return 1 / (perf_counter() - began)


def stops(*command: str | Path, keep_alive: bool) -> float:
    """Stops a second, with a client that stays or without any."""
    with serving(*command) as (process, address), closing(first_answer(address)) as connection:
        if not keep_alive:
            connection.close()
        began = perf_counter()
        process.send_signal(signal.SIGTERM)
        process.wait(AT_MOST)
        return 1 / (perf_counter() - began)


def compare(ours: Measure, theirs: Measure) -> tuple[float, Quartiles]:
    """Print milliseconds and the ratio; for both, less is better."""
    rate, ratio = pairs(ours, theirs)
    return 1000 / rate.median, ratio.inverse()


def main() -> None:
    """Measure, and print the tables."""
    table = Table("start of a service", "ms")
    bare = "hypercorn.trio, quart_trio"
    figure, ratio = compare(partial(imports, "trivet"), partial(imports, bare))
    table.row("`import trivet`", figure, f"`import {bare}`", ratio, "≤ 1.3")
    for beside, command in (("`hypercorn -k trio`", HYPERCORN), ("hypercorn embedded", EMBEDDED)):
        figure, ratio = compare(partial(starts, *PLUGINS), partial(starts, *command))
        table.row("to the first 200", figure, beside, ratio, "≤ 1.3")
    quiet, fast = (partial(starts, *command, path="/livez") for command in (QUIET, FASTAPI))
    figure, ratio = compare(quiet, fast)
    table.row("to the first 200, without routes", figure, "FastAPI on uvicorn", ratio, "≤ 1.0")
    table = Table("stop of a service", "ms")
    alone = partial(stops, *PLUGINS, keep_alive=False)
    watched = partial(stops, *PLUGINS, keep_alive=True)
    figure, ratio = compare(watched, alone)
    table.row("with an idle client", figure, "by itself", None, "≤ 250")
    table.row("with an idle client", figure, "with nobody there", ratio)
    figure, ratio = compare(alone, partial(stops, *HYPERCORN, keep_alive=False))
    table.row("with nobody there", figure, "by itself", None, "≤ 250")
    table.row("with nobody there", figure, "`hypercorn -k trio`", ratio)
    if not QUICK:  # That takes three seconds for each.
        figure, ratio = compare(watched, partial(stops, *HYPERCORN, keep_alive=True))
        table.row("with an idle client", figure, "`hypercorn -k trio`", ratio)


if __name__ == "__main__":
    main()
