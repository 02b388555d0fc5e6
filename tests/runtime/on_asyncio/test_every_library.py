"""Asyncio libraries work in a plugin, in a test and served, whatever was imported first."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Generator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.servers import found_program, serving

from trivet.testing import open_plugins

from .libraries import LIBRARIES, PORTS, SERVERS, Libraries

pytestmark = pytest.mark.broker

HERE = Path(__file__).parent
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


@pytest.fixture(scope="module")
def ports() -> Generator[dict[str, int]]:
    """The ports of the servers that run."""
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(serving(name))
            for name in sorted(set(SERVERS.values()))
            if found_program(name) is not None
        }


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
