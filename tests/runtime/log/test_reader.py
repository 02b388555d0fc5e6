"""`trivet serve` beside a reader of its log that leaves, does not read, or is a terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import subprocess
import sys
import termios
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from textwrap import dedent

import attrs
import httpx
import pytest
import trio

pytestmark = pytest.mark.process

TRIVET = Path(sys.executable).parent / "trivet"
ROOM = 60.0
"""Seconds for a program on a busy machine."""
STOPS_WITHIN = 15.0
"""Seconds, of the more than twenty that a stop may take by default."""

TALKER = """
    import logging, os, sys
    from pathlib import Path
    from trivet import BackgroundPlugin, route

    NO_ORIGIN = os.stat(os.devnull).st_rdev

    class Talker(BackgroundPlugin):
        async def initialize(self):
            print("a plugin may print, too", flush=True)
            streams = ["nowhere" if os.fstat(n).st_rdev == NO_ORIGIN else "there" for n in range(3)]
            Path("streams").write_text(" ".join(streams))
            Path("open").touch()

        @route("/talk")
        async def talk(self):
            for number in range(3000):
                self.log.info("talk", number=number, text="x" * 1000)
            logging.getLogger("a library").warning("talks, too")
            print("and so does a plugin", file=sys.stderr)
            return {}

        async def close(self):
            self.log.info("talker closes")
            Path("closed").touch()
"""


@attrs.define
class Talker:
    """The program under test."""

    process: trio.Process
    reader: int
    """Our end of its standard error."""
    directory: Path
    said: str = ""

    async def says(self, text: str) -> None:
        """Read its log until it has said this."""
        while text not in self.said:
            await trio.lowlevel.wait_readable(self.reader)
            self.said += os.read(self.reader, 65536).decode()

    @property
    def url(self) -> str:
        """The URL of the service."""
        found = re.search(r"http://127.0.0.1:\d+", self.said)
        assert found is not None
        return found[0]

    async def stops(self) -> None:
        """Have it stop, cleanly and in time, whoever reads what it says of it."""
        self.process.send_signal(signal.SIGINT)
        with trio.fail_after(STOPS_WITHIN):
            assert await self.process.wait() == 0
        assert (self.directory / "closed").exists()


@asynccontextmanager
async def talking(directory: Path, *, terminal: bool = False) -> AsyncGenerator[Talker]:
    """Run it, with its log in a pipe, or on its terminal."""
    (directory / "talker.py").write_text(dedent(TALKER))
    reader, end = pty.openpty() if terminal else os.pipe()
    options = ["--plugins", str(directory), "--bind", "127.0.0.1:0"]
    if terminal:
        modes = termios.tcgetattr(end)
        modes[3] |= termios.TOSTOP
        termios.tcsetattr(end, termios.TCSANOW, modes)
    process = await trio.lowlevel.open_process(
        [str(TRIVET), "serve", "talker", *options],
        stdin=end if terminal else subprocess.DEVNULL,
        stdout=end,
        stderr=end,
        cwd=directory,
        env={**os.environ, "NO_COLOR": "1"},
        start_new_session=terminal,
        preexec_fn=take_terminal if terminal else None,
    )
    os.close(end)
    talker = Talker(process, reader, directory)
    try:
        with trio.fail_after(ROOM):  # noqa: ASYNC100 - what it bounds is at the yield
            yield talker
    finally:
        if process.returncode is None:
            process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
        os.close(talker.reader)


def take_terminal() -> None:
    """Have standard input as the terminal that controls this session."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


async def test_a_reader_that_has_left_takes_nothing_down(tmp_path: Path) -> None:
    """Lines are lost and counted, readiness says so; a stop closes what there is, in time."""
    async with talking(tmp_path) as talker:
        await talker.says("serving")
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, talker.reader)
        os.close(null)
        async with httpx.AsyncClient(base_url=talker.url, timeout=ROOM) as client:
            assert (await client.get("/talk")).status_code == 200
            ready = (await client.get("/readyz")).json()
            assert ready["status"] == "degraded"
            assert ready["log"]["lost"] >= 3002
            assert (await client.get("/plugins")).json()["log"]["lost"] >= 3002
        await talker.stops()


async def test_a_reader_that_does_not_read_makes_nobody_wait(tmp_path: Path) -> None:
    """Lines wait for the reader, up to a limit; the loop answers, and a stop ends in time."""
    async with talking(tmp_path) as talker:
        await talker.says("serving")
        async with httpx.AsyncClient(base_url=talker.url, timeout=ROOM) as client:
            assert (await client.get("/talk")).status_code == 200
            ready = (await client.get("/readyz")).json()
            assert ready["status"] == "degraded"
            assert "nobody reads" in ready["log"]["trouble"]
            assert 0 < ready["log"]["lost"] < 3002
            await talker.says("lines of the log were lost")
            assert (await client.get("/readyz")).json()["status"] == "ready"
        await talker.stops()


async def test_a_terminal_that_stops_others_writers_stops_nobody(tmp_path: Path) -> None:
    """Under `stty tostop` a process in the background is stopped when it writes; the program is
    one, since its parent has given it a group of its own."""
    async with talking(tmp_path, terminal=True) as talker:
        await talker.says("serving")
        await talker.stops()
        await talker.says("talker closes")


def closed_by(redirections: str) -> list[int]:
    """The standard streams that a shell closes by these."""
    numbers = {"<&-": 0, ">&-": 1, "2>&-": 2}
    return [numbers[each] for each in redirections.split() if each in numbers]


@pytest.mark.parametrize("closed", ["2>&-", ">&- 2>&-", "<&- >&- 2>&-", "2>/dev/full"])
async def test_a_log_that_goes_nowhere_is_no_trouble(closed: str, tmp_path: Path) -> None:
    """A service may be started without standard streams, or with one that is full; what plugins
    write to those that were closed goes nowhere, and not into another file of the program."""
    (tmp_path / "talker.py").write_text(dedent(TALKER))
    command = f'exec "$0" serve talker --plugins . --bind 127.0.0.1:0 {closed}'
    process = await trio.lowlevel.open_process(
        ["/bin/sh", "-c", command, str(TRIVET)], cwd=tmp_path, stderr=subprocess.DEVNULL
    )
    try:
        with trio.fail_after(ROOM):
            while not (tmp_path / "open").exists():
                await trio.sleep(0.01)
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
    streams = (tmp_path / "streams").read_text().split()
    assert [streams[number] for number in closed_by(closed)] == ["nowhere"] * closed.count("&-")
