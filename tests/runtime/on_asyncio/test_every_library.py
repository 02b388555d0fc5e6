"""Asyncio libraries work in a plugin, in a test and served, whatever was imported first."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from trivet.testing import open_plugins

from .libraries import LIBRARIES, PORTS, SERVERS, Libraries

pytestmark = pytest.mark.broker

HERE = Path(__file__).parent
SOON = 60.0
"""Seconds within which a server answers."""
USER = 65534 if os.geteuid() == 0 else None
"""The user of the servers: PostgreSQL refuses to run as root."""

FIRST = {
    "the libraries": "",
    "anyio's asyncio": "import anyio._backends._asyncio",
    "trio-asyncio": "import trio_asyncio",
}
SERVE = """
import sys
{first}
from trivet._cli import main
sys.argv[1:] = ["serve", "libraries", "--plugins", {here!r}, "--bind", "127.0.0.1:0", "--no-parent"]
main()
"""


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
def running(name: str, program: str, directory: Path) -> Generator[int]:
    """A server on a free port."""
    directory.mkdir()
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
        yield port
    finally:
        process.kill()
        process.wait()


def until_it_answers(name: str, port: int) -> None:
    """Wait until a server listens at the port."""
    deadline = time.monotonic() + SOON
    with socket.socket() as asking:
        while asking.connect_ex(("127.0.0.1", port)):
            assert time.monotonic() < deadline, f"{name} does not listen"
            time.sleep(0.02)


@pytest.fixture(scope="module")
def ports() -> Generator[dict[str, int]]:
    """The ports of the servers that run."""
    # Not in pytest's own directory, into which root alone may look.
    with ExitStack() as stack, TemporaryDirectory() as temporary:
        Path(temporary).chmod(0o755)
        ports = {
            name: stack.enter_context(running(name, program, Path(temporary) / name))
            for name in sorted(set(SERVERS.values()))
            if (program := found_program(name)) is not None
        }
        for name, port in ports.items():
            until_it_answers(name, port)
        yield ports


def tried(ports: dict[str, int]) -> dict[str, str]:
    """The right result: every library works whose server runs."""
    there = {"", *ports}
    return {name: "works" for name in LIBRARIES if SERVERS.get(name, "") in there}


@pytest.mark.parametrize("server", sorted(set(SERVERS.values())))
def test_the_server_is_there(server: str, ports: dict[str, int]) -> None:
    """Each server of the libraries below is installed; in CI none may be missing."""
    if server not in ports and os.environ.get("CI") != "true":
        pytest.skip(f"{server} is not on the PATH")
    assert server in ports


@pytest.mark.timeout(300)  # On a busy machine the imports alone take 15 s.
@pytest.mark.parametrize("first", FIRST)
def test_every_library_works_when_served(first: str, ports: dict[str, int]) -> None:
    """Every library works in `trivet serve`, whatever was imported first."""
    environment = {
        **os.environ,
        PORTS: json.dumps(ports),
        "TRIVET_PLUGINS__LIBRARIES__SUPERVISION__CRITICAL": "true",
        "TRIVET_PLUGINS__LIBRARIES__SUPERVISION__RESTART": "temporary",
    }
    program = SERVE.format(first=FIRST[first], here=str(HERE))
    served = subprocess.run(
        [sys.executable, "-c", program],
        check=False,
        env=environment,
        capture_output=True,
        text=True,
    )
    found = [line for line in served.stdout.splitlines() if line.startswith('{"found"')]
    assert len(found) == 1, served.stderr
    assert json.loads(found[0])["found"] == tried(ports)


async def test_every_library_works_in_a_test(ports: dict[str, int]) -> None:
    """Every library works beside anyio's plugin for pytest, which comes with httpx."""
    async with open_plugins(Libraries) as runtime:
        libraries = runtime.get(Libraries)
        assert await libraries.run_on_asyncio(libraries.found, ports) == tried(ports)
