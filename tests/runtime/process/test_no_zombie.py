"""A service that has lost a part is ready, says why it is not, or is gone; a bare one is not.

The control is a bare Quart-Trio application, whose background work crashes or cannot be cancelled.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from textwrap import dedent

import httpx
import pytest
import trio

pytestmark = pytest.mark.process

TRIVET = Path(sys.executable).parent / "trivet"
BARE = Path(__file__).parent / "bare_app.py"
ROOM = 60.0
"""Seconds for a program on a busy machine."""
SETTINGS = {"TRIVET_LOG__FORMAT": "json", "TRIVET_SHUTDOWN__REQUESTS": "600"}
"""Trivet's limit for requests, in seconds: so long that no test could wait for it."""

WORK = """
    import trio
    from trivet import BackgroundPlugin, SupervisionSettings, route

    class Work(BackgroundPlugin):
        supervision = SupervisionSettings(max_restarts=0, critical={critical})

        async def run(self) -> None:
            await trio.sleep(0.2)
            raise ValueError("the work is over")

        @route("/work")
        async def answer(self) -> str:
            return "done"
"""


LARGE = """
    from trivet import BackgroundPlugin, route

    class Work(BackgroundPlugin):
        @route("/large")
        async def large(self) -> bytes:
            return b"x" * (64 * 1024 * 1024)
"""


@asynccontextmanager
async def bare(what: str) -> AsyncGenerator[tuple[trio.Process, str]]:
    """Run the bare application; yields its process and its address."""
    process = await trio.lowlevel.open_process(
        [sys.executable, str(BARE), what], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout is not None
    try:
        with trio.fail_after(ROOM):
            url = b""
            while not url.endswith(b"\n"):
                url += await process.stdout.receive_some()
            yield process, url.decode().strip()
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()


@asynccontextmanager
async def trivet(directory: Path, plugin: str) -> AsyncGenerator[tuple[trio.Process, Path]]:
    """Run the same application as a plugin; yields the process and its log."""
    (directory / "work.py").write_text(dedent(plugin))
    log = directory / "log"
    options = ["--plugins", str(directory), "--bind", "127.0.0.1:0"]
    with log.open("wb") as stderr:
        process = await trio.lowlevel.open_process(
            [str(TRIVET), "serve", "work", *options],
            stderr=stderr,
            env={**os.environ, **SETTINGS, "TMPDIR": str(directory)},
        )
    try:
        with trio.fail_after(ROOM):  # noqa: ASYNC100 - what it bounds is at the yield
            yield process, log
    finally:
        if process.returncode is None:
            process.terminate()
        with trio.CancelScope(shield=True):
            await process.wait()


async def logged(log: Path, text: str) -> str:
    """Wait for a text in the log, and return the whole log."""
    file = trio.Path(log)
    while text not in await file.read_text():
        await trio.sleep(0.01)
    return await file.read_text()


async def url_in(log: Path) -> str:
    """The address of the server."""
    return (await logged(log, '"urls": ["')).partition('"urls": ["')[2].partition('"')[0]


async def begin_to_read(url: str) -> trio.SocketStream:
    """A client that has asked for a large answer, and does not read on."""
    host, _, port = url.removeprefix("http://").rpartition(":")
    stream = await trio.open_tcp_stream(host, int(port))
    await stream.send_all(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await stream.receive_some(100)
    return stream


async def test_bare_answers_200_although_its_work_is_dead() -> None:
    """The control: a crash in the background is seen by nobody, and the exit code is 0."""
    async with bare("crashes") as (process, url), httpx.AsyncClient() as client:
        for _ in range(3):
            assert (await client.get(f"{url}/readyz")).status_code == 200
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0


async def test_a_dead_plugin_is_told_of(tmp_path: Path) -> None:
    """A plugin that is not critical leaves the service ready, but degraded; its routes say 503."""
    async with (
        trivet(tmp_path, WORK.format(critical=False)) as (_, log),
        httpx.AsyncClient() as client,
    ):
        await logged(log, '"plugin is given up"')
        url = await url_in(log)
        ready = await client.get(f"{url}/readyz")
        assert (ready.status_code, ready.json()["plugins"]) == (200, {"work": "failed"})
        assert ready.json()["status"] == "degraded"
        answer = await client.get(f"{url}/work")
        assert (answer.status_code, answer.json()["plugin"]) == (503, "work")


async def test_a_critical_plugin_ends_the_program(tmp_path: Path) -> None:
    """A critical plugin's failure ends the process, with a code that says so."""
    async with trivet(tmp_path, WORK.format(critical=True)) as (process, log):
        assert await process.wait() == 4
        assert "plugin 'work' gave up: ValueError: the work is over" in log.read_text()


async def test_bare_does_not_stop() -> None:
    """The control: work that cannot be cancelled keeps a stop from ending."""
    async with bare("stays") as (process, _):
        process.send_signal(signal.SIGTERM)
        with pytest.raises(trio.TooSlowError), trio.fail_after(5):
            await process.wait()
        assert process.poll() is None


async def test_bare_does_not_stop_for_a_client_that_does_not_read() -> None:
    """The control: one client that leaves its answer unread keeps a stop from ending."""
    async with bare("ends") as (process, url), await begin_to_read(url):
        process.send_signal(signal.SIGTERM)
        with pytest.raises(trio.TooSlowError), trio.fail_after(6):
            await process.wait()
        assert process.poll() is None


async def test_a_client_that_does_not_read_holds_up_nothing(tmp_path: Path) -> None:
    """The stop is clean, and ends long before the limit for requests."""
    async with trivet(tmp_path, LARGE) as (process, log):
        async with await begin_to_read(await url_in(log)):
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0
