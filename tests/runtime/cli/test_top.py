"""`trivet top`, beside a program that `trivet serve` runs, in a terminal and outside of one."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import signal
import struct
import termios
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import attrs
import pytest
import trio
from rich.console import Console

from trivet._cli._running import Place, UnreachableError
from trivet._cli._top import Told, read_stream
from trivet._cli._top_facts import rows_of
from trivet._cli._top_view import view

from ..process.test_serve import SCRIPTS, Server, running
from .commands import trivet, write

TOKEN = "a-token-of-an-operator"
SETTINGS = f"""
active_plugins = ["shop"]
plugins_directory = "."
service = "shop"
bind = "127.0.0.1:0"
tokens = [{{ name = "op", scopes = ["read"], secret = "{TOKEN}" }}]
"""
SHOP = """
    import trio
    from trivet import BackgroundPlugin, Event, EventPlugin

    class OrderPlaced(Event):
        total: float

    class Billing(EventPlugin[OrderPlaced]):
        async def handle_event(self, event: OrderPlaced) -> None:
            pass

    class Feed(BackgroundPlugin):
        async def run(self) -> None:
            while True:
                await self.app.publish(OrderPlaced(1.0))
                await trio.sleep(0.1)

    class Mailer(BackgroundPlugin):
        async def run(self) -> None:
            self.degrade("the mail server answers 451", remedy="renew its password")
            await trio.sleep_forever()
"""
COLUMNS, LINES = 120, 30
NO_FACTS: dict[str, Any] = {}


@asynccontextmanager
async def opened(here: Path) -> AsyncGenerator[tuple[Server, dict[str, str]]]:
    """A program that is served, and the environment of a shell beside it."""
    write(here / "trivet.toml", SETTINGS)
    write(here / "shop.py", SHOP)
    async with running(["trivet", "serve"], here) as server:
        url = (await server.logged("serving"))["urls"][0]
        yield server, {"TRIVET_TOKEN": TOKEN, "TRIVET_URL": url}


@attrs.define
class Terminal:
    """A terminal in which the command runs."""

    process: trio.Process
    keyboard: int
    screen: bytes = b""

    async def shows(self, *texts: str) -> None:
        """Wait until the command has drawn these texts."""
        with trio.fail_after(60):
            while not all(text.encode() in self.screen for text in texts):
                await trio.lowlevel.wait_readable(self.keyboard)
                self.screen += os.read(self.keyboard, 65536)

    async def ended(self) -> int:
        """Wait for the end of the command; returns its exit code."""
        with trio.fail_after(60):
            return await self.process.wait()


@asynccontextmanager
async def terminal(environ: Mapping[str, str]) -> AsyncGenerator[Terminal]:
    """The command in a terminal of its own."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    process = await trio.lowlevel.open_process(
        [str(SCRIPTS / "trivet"), "top"],
        env={**os.environ, "TERM": "xterm-256color", **environ},
        stdin=its,
        stdout=its,
        stderr=its,
        start_new_session=True,
    )
    try:
        yield Terminal(process, ours)
    finally:
        if process.poll() is None:
            process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
        os.close(ours)
        os.close(its)


def q(at: Terminal) -> None:
    """Press q."""
    os.write(at.keyboard, b"q")


def ctrl_c(at: Terminal) -> None:
    """Press Ctrl-C; the terminal is nobody's own, so that the test is what sends the signal."""
    at.process.send_signal(signal.SIGINT)


@pytest.mark.process
@pytest.mark.parametrize("end", [q, ctrl_c])
async def test_a_live_overview(here: Path, end: Callable[[Terminal], None]) -> None:
    """A terminal shows the plugins, what is not well and what to do about it first, with rates that
    come with the stream; q or Ctrl-C ends that with 0, and the terminal is as it was."""
    async with opened(here) as (server, environ), terminal(environ) as at:
        before = termios.tcgetattr(at.keyboard)
        await at.shows("shop: degraded, 3 of 3 plugins up", "billing", "mailer says", "renew its")
        end(at)
        assert await at.ended() == 0
        assert termios.tcgetattr(at.keyboard) == before
        assert await server.stop() == 0


@pytest.mark.process
async def test_the_programs_stop_ends_it(here: Path) -> None:
    """The command says that the program stops, and ends with 0."""
    async with opened(here) as (server, environ), terminal(environ) as at:
        await at.shows("billing")
        assert await server.stop() == 0
        await at.shows("the service stops")
        assert await at.ended() == 0


@pytest.mark.process
async def test_outside_of_a_terminal(here: Path) -> None:
    """The command prints the overview once where its output goes elsewhere; without a program it
    ends with 3, and without the scope with 1."""
    async with opened(here) as (server, environ):
        done = await trio.to_thread.run_sync(partial(trivet, "top", **environ))
        assert done.exit_code == 0
        assert done.stdout.startswith("shop: degraded, 3 of 3 plugins up")
        lines = done.stdout.splitlines()
        assert (
            "! mailer says: the mail server answers 451. Its remedy: renew its password." in lines
        )
        heads = [line.split() for line in lines[-4:]]
        assert heads[0][:2] == ["PLUGIN", "STATUS"]
        assert [each[:2] for each in heads[1:]] == [
            ["mailer", "degraded"],
            ["billing", "running"],
            ["feed", "running"],
        ]
        wrong = {**environ, "TRIVET_TOKEN": "not-a-token-of-anybody"}
        assert (await trio.to_thread.run_sync(partial(trivet, "top", **wrong))).exit_code == 1
        assert await server.stop() == 0
    assert (await trio.to_thread.run_sync(partial(trivet, "top", **environ))).exit_code == 3


def state(**plugins: dict[str, Any]) -> dict[str, Any]:
    """The state of a program, as the page's stream has it."""
    usual = {"status": "running", "busy": 0.0, "restarts": 0}
    return {
        "service": "shop",
        "status": "ready",
        "busy": 0.01,
        "at": 100.0,
        "since": 40.0,
        "advice": [],
        "plugins": {name: {**usual, **each} for name, each in plugins.items()},
    }


def drawn(document: Mapping[str, Any], height: int = LINES) -> str:
    """The overview in a terminal without colours."""
    console = Console(file=io.StringIO(), width=COLUMNS, color_system=None)
    console.print(view(document, COLUMNS, height))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


async def test_a_stream_that_has_had_its_time_is_begun_anew() -> None:
    """After the service has asked for that, the stream is asked for again; one that is cut is an
    error."""
    head = (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    state, again = b"event: state\ndata: {}\n\n", b"event: again\ndata: {}\n\n"
    told: SimpleQueue[Told] = SimpleQueue()

    async def serve(stream: trio.SocketStream) -> None:
        for parts in ([state, again, b""], [state]):
            await stream.receive_some()
            await stream.send_all(head + b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in parts))
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        place = Place(f"http://127.0.0.1:{listener.socket.getsockname()[1]}", None, None)
        with trio.fail_after(60):
            await trio.to_thread.run_sync(read_stream, place, told)
        nursery.cancel_scope.cancel()
    found = [told.get_nowait() for _ in range(told.qsize())]
    assert found[:3] == [("state", {}), ("again", {}), ("state", {})]
    assert [type(each) for each in found[3:]] == [UnreachableError]


def test_what_is_not_well_comes_first() -> None:
    """Plugins that were given up, or are in a crash loop, come before those in trouble, and these
    before the others."""
    rows = rows_of(
        state(
            a={},
            b={"status": "disabled"},
            c={"status": "backing_off"},
            d={"error": "OSError", "starts": 3},
            e={"status": "failed"},
        )
    )
    assert [row.name for row in rows] == ["d", "e", "c", "b", "a"]
    assert rows[0].cells[1] == "crash loop"


def test_the_numbers_of_a_plugin() -> None:
    """A row has the rates, the events inside, the age of the oldest, the latencies, the share of
    the loop and the restarts."""
    till = {"in": 12.3, "out": 4, "queued": 5, "in_flight": 1, "backing_off": 2, "oldest": 70.0}
    (row,) = rows_of(state(till={**till, "p50": 0.001, "p99": 0.25, "busy": 0.5, "restarts": 3}))
    assert row.cells == (
        "till",
        "running",
        "12.3",
        "4",
        "8",
        "30 s",
        "1.0 ms",
        "250 ms",
        "50.0%",
        "3",
    )


def test_texts_of_the_program_are_text() -> None:
    """A text that looks like markup, or commands a terminal, is shown as it is written."""
    document = state(**{"[red]till": NO_FACTS})
    document["advice"] = [{"level": "warn", "about": "[b]odd[/b] \x1b[2J", "remedy": "Mend it."}]
    text = drawn(document)
    assert "[red]till" in text
    assert "! [b]odd[/b] \\x1b[2J Mend it." in text


def test_a_low_terminal() -> None:
    """The first plugins and faults are shown where not all fit, with the number of the others."""
    document = state(**dict.fromkeys([f"p{number:02}" for number in range(40)], NO_FACTS))
    document["advice"] = [{"level": "warn", "about": "Odd. " * 30, "remedy": "Mend it."}] * 9
    text = drawn(document, 24)
    assert "p00" in text
    assert "p39" not in text
    assert "and 4 more" in text
    assert len(text.splitlines()) <= 24
