"""Reloads of `trivet serve` by real signals, also in the middle of something else."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
import trio

from .restarts import children
from .test_serve import RECORDER, Server, plugins, running

__all__ = ["plugins"]  # A fixture.

pytestmark = pytest.mark.process

SETTINGS = 'plugins_directory = "."\nbind = "127.0.0.1:0"\nactive_plugins = {names}\n'
SLOW = """
    import trio
    from trivet import EventPlugin
    from .recorder import Ping

    class Slow(EventPlugin[Ping]):
        async def handle_event(self, event: Ping) -> None:
            self.log.info("slow handler", number=event.number)
            await trio.sleep(3600)
"""


def write_settings(directory: Path, *names: str, more: str = "") -> None:
    """Write the settings of a program with these plugins."""
    text = SETTINGS.format(names=list(names)) + more
    (directory / "trivet.toml").write_text(text)


async def reloaded(server: Server, outcome: str = "reloaded") -> None:
    """Ask for a reload by the signal, and wait for its outcome."""
    server.lines.clear()
    server.process.send_signal(signal.SIGHUP)
    await server.logged(outcome)


@pytest.mark.parametrize("signals", [1, 2])
async def test_a_stop_while_a_plugin_that_is_gone_drains(
    plugins: Callable[..., Path], signals: int
) -> None:
    """The plugin leaves by the deadlines of the stop, and the others handle what they accepted."""
    directory = plugins(recorder=RECORDER, slow=SLOW)
    more = "[shutdown]\nrequests = 1\ndrain = 4\nclose = 1\n"
    write_settings(directory, "recorder", "slow", more=more)
    async with running(["trivet", "serve"], directory) as server:
        url = (await server.logged("serving"))["urls"][0]
        async with httpx.AsyncClient(base_url=url) as client:
            await client.post("/events/ping", json={"number": 7})
        await server.logged("slow handler")
        write_settings(directory, "recorder", more=more)
        server.process.send_signal(signal.SIGHUP)
        async with httpx.AsyncClient(base_url=url) as client:
            while "slow" in (await client.get("/plugins")).json()["plugins"]:
                await trio.sleep(0.01)
            await client.post("/events/ping", json={"number": 8})
        begun = trio.current_time()
        for _ in range(signals):
            server.process.send_signal(signal.SIGTERM)
            await trio.sleep(0.1)
        assert await server.process.wait() == 0
        if signals == 2:
            assert trio.current_time() - begun < 4
        assert (await server.logged("recorder closes"))["seen"] == [7, 8]


async def test_a_stop_during_a_reload(plugins: Callable[..., Path]) -> None:
    """A new instance that hangs in `initialize` is given up, and the old one drains."""
    hangs = RECORDER.replace(
        "        async def handle_event",
        "        async def initialize(self):\n            self.log.info('hangs')\n"
        "            await trio.sleep(3600)\n\n        async def handle_event",
    )
    directory = plugins(recorder=RECORDER)
    write_settings(directory, "recorder")
    async with running(["trivet", "serve"], directory) as server:
        url = (await server.logged("serving"))["urls"][0]
        plugins(recorder=hangs)
        server.process.send_signal(signal.SIGHUP)
        await server.logged("hangs")
        async with httpx.AsyncClient(base_url=url) as client:
            await client.post("/events/ping", json={"number": 7})
        assert await server.stop() == 0
        assert (await server.logged("recorder closes"))["seen"] == [7]


async def test_signals_without_a_pause(plugins: Callable[..., Path]) -> None:
    """Many signals, each with other code, end in the last code, in the same process."""
    directory = plugins(recorder=RECORDER)
    write_settings(directory, "recorder")
    async with running(["trivet", "serve"], directory) as server:
        url = (await server.logged("serving"))["urls"][0]
        before = children(server.process.pid)
        for number in range(200):
            plugins(recorder=RECORDER.replace('{"seen": self.seen}', f'{{"seen": {number}}}'))
            server.process.send_signal(signal.SIGHUP)
        await trio.sleep(0.1)
        await reloaded(server)
        async with httpx.AsyncClient(base_url=url, timeout=30) as client:
            while (await client.get("/slow")).json() != {"seen": 199}:
                await trio.sleep(0.01)
        assert children(server.process.pid) == before
        assert await server.stop() == 0


@pytest.mark.parametrize(
    "fault", ["raise KeyboardInterrupt", "raise BaseException('x')", "import sys; sys.exit(3)"]
)
async def test_code_that_would_end_the_program(plugins: Callable[..., Path], fault: str) -> None:
    """Whatever new code raises when it is imported, the program serves on in the same process."""
    directory = plugins(recorder=RECORDER)
    write_settings(directory, "recorder")
    async with running(["trivet", "serve"], directory) as server:
        url = (await server.logged("serving"))["urls"][0]
        before = children(server.process.pid)
        plugins(recorder=fault)
        await reloaded(server, "reload refused: nothing has changed")
        async with httpx.AsyncClient(base_url=url, timeout=30) as client:
            answer = await client.post("/events/ping", json={"number": 7})
            assert answer.status_code == 202
        assert children(server.process.pid) == before
        assert await server.stop() == 0
        assert (await server.logged("recorder closes"))["seen"] == [7]
