"""Whatever dies, a service is ready, or says why it is not, or is gone; beside one that is not so.

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

TRIVET = Path(sys.executable).parent / "trivet"
BARE = Path(__file__).parent / "bare_app.py"
ROOM = 15.0
"""Seconds for a program on a busy machine."""

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
async def trivet(directory: Path, *, critical: bool) -> AsyncGenerator[tuple[trio.Process, Path]]:
    """Run the same failure as a plugin; yields the process and its log."""
    (directory / "work.py").write_text(dedent(WORK.format(critical=critical)))
    log = directory / "log"
    options = ["--plugins", str(directory), "--bind", "127.0.0.1:0"]
    with log.open("wb") as stderr:
        process = await trio.lowlevel.open_process(
            [str(TRIVET), "serve", "work", *options],
            stderr=stderr,
            env={**os.environ, "TRIVET_LOG__FORMAT": "json", "TMPDIR": str(directory)},
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
    """Wait for it, and return the whole log."""
    file = trio.Path(log)
    while text not in await file.read_text():
        await trio.sleep(0.01)
    return await file.read_text()


async def test_bare_answers_200_although_its_work_is_dead() -> None:
    """The control: a crash in the background is seen by nobody, and the exit code is 0."""
    async with bare("crashes") as (process, url), httpx.AsyncClient() as client:
        for _ in range(3):
            assert (await client.get(f"{url}/readyz")).status_code == 200
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0


async def test_a_dead_plugin_is_told_of(tmp_path: Path) -> None:
    """One that is not critical leaves the service ready, but degraded, and its routes say 503."""
    async with trivet(tmp_path, critical=False) as (_, log), httpx.AsyncClient() as client:
        await logged(log, '"plugin is given up"')
        url = (await logged(log, '"urls": ["')).partition('"urls": ["')[2].partition('"')[0]
        ready = await client.get(f"{url}/readyz")
        assert (ready.status_code, ready.json()["plugins"]) == (200, {"work": "failed"})
        assert ready.json()["status"] == "degraded"
        answer = await client.get(f"{url}/work")
        assert (answer.status_code, answer.json()["plugin"]) == (503, "work")


async def test_a_critical_plugin_ends_the_program(tmp_path: Path) -> None:
    """Where the service is nothing without it, the process is gone with a code that says so."""
    async with trivet(tmp_path, critical=True) as (process, log):
        assert await process.wait() == 4
        assert "plugin 'work' gave up: ValueError: the work is over" in log.read_text()


async def test_bare_does_not_stop() -> None:
    """The control: work that cannot be cancelled keeps a stop from ending."""
    async with bare("stays") as (process, _):
        process.send_signal(signal.SIGTERM)
        with pytest.raises(trio.TooSlowError), trio.fail_after(5):
            await process.wait()
        assert process.poll() is None
