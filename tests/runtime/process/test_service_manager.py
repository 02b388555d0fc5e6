"""systemd's protocol of notifications, on real sockets."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio

from trivet._process._parent._manager import ServiceManager

from .test_serve import plugins, running, serving

__all__ = ["plugins"]  # A fixture.

IDLE = """
    import os
    from trivet import BackgroundPlugin

    class Idle(BackgroundPlugin):
        async def run(self):
            found = [name for name in os.environ if name.startswith(("NOTIFY", "WATCHDOG"))]
            self.log.info("environment", found=found)
"""


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """The manager's socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(tmp_path / "notify"))
        heard.setblocking(False)
        yield heard


async def told(heard: socket.socket, state: str) -> None:
    """Wait until the manager is told this state."""
    while True:
        await trio.lowlevel.wait_readable(heard)
        if heard.recv(4096).decode() == state:
            return


def told_so_far(heard: socket.socket) -> list[str]:
    """The states that have been told and not been read."""
    states: list[str] = []
    while True:
        try:
            states.append(heard.recv(4096).decode())
        except BlockingIOError:
            return states


@pytest.mark.process
async def test_the_manager_is_told_of_start_life_and_stop(
    plugins: Callable[..., Path], manager: socket.socket
) -> None:
    """READY when the program serves, WATCHDOG in half of the limit, STOPPING at the signal; a
    plugin's processes do not find the manager."""
    environ = {"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "200000"}
    async with serving("idle", directory=plugins(idle=IDLE), **environ) as server:
        await told(manager, "READY=1")
        await told(manager, "WATCHDOG=1")
        await told(manager, "WATCHDOG=1")
        assert (await server.logged("environment"))["found"] == []
        assert await server.stop() == 0
    assert "STOPPING=1" in told_so_far(manager)


@pytest.mark.process
async def test_a_program_that_died_is_ready_again(
    plugins: Callable[..., Path], manager: socket.socket
) -> None:
    """The parent goes on telling of its life after the program died, and READY comes again."""
    environ = {"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "200000"}
    environ["TRIVET_RESTARTS__BACKOFF_INITIAL"] = "0"
    async with serving("idle", directory=plugins(idle=IDLE), **environ) as server:
        await told(manager, "READY=1")
        parent = server.process.pid
        children = await trio.Path(f"/proc/{parent}/task/{parent}/children").read_text()
        os.kill(int(children), signal.SIGKILL)
        await told(manager, "WATCHDOG=1")
        await told(manager, "READY=1")
        assert "STOPPING=1" not in told_so_far(manager)
        assert await server.stop() == 0


@pytest.mark.process
async def test_a_new_program_is_a_reload(
    plugins: Callable[..., Path], manager: socket.socket
) -> None:
    """While a new program takes the old one's place, the manager hears of a reload, and of no
    stop."""
    environ = {"NOTIFY_SOCKET": manager.getsockname()}
    async with serving("idle", directory=plugins(idle=IDLE), **environ) as server:
        await told(manager, "READY=1")
        server.process.send_signal(signal.SIGUSR2)
        states: list[str] = []
        while "READY=1" not in states:
            await trio.lowlevel.wait_readable(manager)
            states.append(manager.recv(4096).decode())
        assert len(states) == 2
        assert states[0].startswith("RELOADING=1\nMONOTONIC_USEC=")
        assert await server.stop() == 0


@pytest.mark.process
async def test_a_program_without_a_parent_tells_by_itself(
    plugins: Callable[..., Path], manager: socket.socket
) -> None:
    """`--no-parent` has the same states told by the program."""
    environ = {"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "200000"}
    directory = plugins(idle=IDLE)
    command = ["trivet", "serve", "idle", "--plugins", str(directory), "--no-parent"]
    async with running([*command, "--bind", "127.0.0.1:0"], directory, **environ) as server:
        await told(manager, "READY=1")
        await told(manager, "WATCHDOG=1")
        assert await server.stop() == 0
    assert "STOPPING=1" in told_so_far(manager)


def test_an_abstract_address() -> None:
    """An address that begins with @ is in Linux's abstract namespace."""
    name = f"trivet-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(f"\0{name}")
        ServiceManager({"NOTIFY_SOCKET": f"@{name}"}).tell("READY=1")
        assert heard.recv(4096) == b"READY=1"


@pytest.mark.parametrize(
    ("environ", "every"),
    [
        ({}, float("inf")),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, float("inf")),
        ({"WATCHDOG_USEC": "soon"}, float("inf")),
    ],
)
def test_the_watchdogs_limit(environ: dict[str, str], every: float) -> None:
    """A sign of life comes in half of the limit, from the process that the manager watches."""
    assert ServiceManager(environ).alive_every == every


def test_nobody_listens(tmp_path: Path) -> None:
    """A manager that has gone, or never was, is no fault."""
    ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "gone")}).tell("READY=1")
    ServiceManager({}).tell("READY=1")


@pytest.mark.process
async def test_a_hangup_reloads_the_settings_and_the_manager_is_told(
    plugins: Callable[..., Path], manager: socket.socket
) -> None:
    """RELOADING with the moment, then READY again, whether the settings were applied or refused."""
    directory = plugins(idle=IDLE)
    settings = directory / "trivet.toml"
    settings.write_text('plugins_directory = "."\nmax_body = 1000')
    async with serving("idle", directory=directory, NOTIFY_SOCKET=manager.getsockname()) as server:
        await told(manager, "READY=1")
        settings.write_text('plugins_directory = "."\nmax_body = 2000')
        server.process.send_signal(signal.SIGHUP)
        await trio.lowlevel.wait_readable(manager)
        reloading, moment = manager.recv(4096).decode().split("\n")
        assert reloading == "RELOADING=1"
        assert int(moment.removeprefix("MONOTONIC_USEC=")) > 0
        await told(manager, "READY=1\nSTATUS=reloaded")
        assert (await server.logged("reloaded"))["max_body"] == "changed"
        settings.write_text("max_body = 0")
        server.process.send_signal(signal.SIGHUP)
        status = ""
        while not status.startswith("READY=1"):
            await trio.lowlevel.wait_readable(manager)
            status = manager.recv(4096).decode()
        assert "STATUS=reload refused: trivet.toml: max_body" in status
        assert await server.stop() == 0
