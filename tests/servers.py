"""Servers of somebody else's, each with a fresh directory, for as long as a test needs them.

Owns how each of them is started.
Never knows what is asked of them.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

SOON = 60.0
"""Seconds within which a server answers."""
USER = 65534 if os.geteuid() == 0 else None
"""The user of the servers: PostgreSQL refuses to run as root."""


def found_program(name: str) -> str | None:
    """The path of a program; Debian has PostgreSQL's beside the PATH."""
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    path = os.pathsep.join([os.environ["PATH"], *map(str, places)])
    return shutil.which(name, path=path)


def command(name: str, program: str, port: int, directory: Path) -> list[str]:
    """The command that runs a server in the foreground."""
    match name:
        case "postgres":
            user = ["-U", "postgres", "-A", "trust", "--no-sync"]
            initdb = [str(Path(program).with_name("initdb")), "-D", str(directory / "data"), *user]
            subprocess.run(initdb, check=True, capture_output=True, user=USER, group=USER)
            quick = ["-c", "fsync=off", "-c", "listen_addresses=127.0.0.1"]
            return [program, "-D", str(directory / "data"), "-p", str(port), "-k", "", *quick]
        case "redis-server":
            return [program, "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
        case "nats-server":
            return [program, "-p", str(port), "-a", "127.0.0.1"]
        case _:
            return [program, "-p", str(port)]


@contextmanager
def serving(name: str) -> Generator[int]:
    """A server that listens at a free port of 127.0.0.1."""
    program = found_program(name)
    assert program is not None, f"{name} is not on the PATH"
    # Not in pytest's own directory, into which root alone may look.
    with TemporaryDirectory() as temporary:
        directory = Path(temporary)
        if USER is not None:
            os.chown(directory, USER, USER)
        with socket.socket() as bound:
            bound.bind(("127.0.0.1", 0))
            port: int = bound.getsockname()[1]
        started = command(name, program, port, directory)
        with (directory / "log").open("wb") as log:
            process = subprocess.Popen(
                started, cwd=directory, stdout=log, stderr=log, user=USER, group=USER
            )
        try:
            _until_it_answers(name, port)
            yield port
        finally:
            process.kill()
            process.wait()


def _until_it_answers(name: str, port: int) -> None:
    deadline = time.monotonic() + SOON
    with socket.socket() as asking:
        while asking.connect_ex(("127.0.0.1", port)):
            assert time.monotonic() < deadline, f"{name} does not listen"
            time.sleep(0.02)
