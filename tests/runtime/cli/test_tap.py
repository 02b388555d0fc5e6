"""`trivet tap`, beside a program that `trivet serve` runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from ..process.test_serve import SCRIPTS, Server, running
from .commands import trivet, write

pytestmark = pytest.mark.process

TOKEN = "a-token-of-an-operator"
SETTINGS = f"""
active_plugins = ["billing"]
plugins_directory = "."
bind = "127.0.0.1:0"
tokens = [{{ name = "op", scopes = ["admin", "read", "ingest"], secret = "{TOKEN}" }}]
"""
BILLING = """
    from trivet import Event, EventPlugin

    class OrderPlaced(Event):
        total: float
        note: str = ""

    class Billing(EventPlugin[OrderPlaced]):
        async def handle_event(self, event: OrderPlaced) -> None:
            if event.total < 0:
                raise ValueError("no answer")
"""

STREAM = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"
EVENT = 'event: event\ndata: {"count":1}\n\n\r\n'
"""An event of a stream, as one chunk of it."""


@attrs.frozen
class Service:
    """A program, and a shell beside it."""

    server: Server
    environ: dict[str, str]

    async def run(self, *arguments: str, said: str = "") -> tuple[int, str, str]:
        """Run a command to its end."""
        call = partial(trivet, *arguments, said=said, **self.environ)
        done = await trio.to_thread.run_sync(call)
        return done.exit_code, done.stdout, done.stderr

    async def publish(self, *documents: dict[str, Any]) -> None:
        """Publish events, and wait until they are handled, well or not."""
        for each in documents:
            await self.run("publish", "order_placed", "--wait", said=json.dumps(each))


@attrs.frozen
class Tap:
    """The command while it runs."""

    process: trio.Process
    lines: trio.MemoryReceiveChannel[str]

    async def line(self) -> str:
        """The next line of its output."""
        with trio.fail_after(60):
            return await self.lines.receive()


@asynccontextmanager
async def opened(here: Path) -> AsyncGenerator[Service]:
    """A program that is served."""
    write(here / "trivet.toml", SETTINGS)
    write(here / "billing.py", BILLING)
    async with running(["trivet", "serve"], here) as server:
        url = (await server.logged("serving"))["urls"][0]
        yield Service(server, {"TRIVET_TOKEN": TOKEN, "TRIVET_URL": url})


@asynccontextmanager
async def tapping(service: Service, *arguments: str) -> AsyncGenerator[Tap]:
    """The command, once it is connected: each line of its output is read as it comes."""
    sender, receiver = trio.open_memory_channel[str](100)
    async with trio.open_nursery() as nursery:
        process = await trio.lowlevel.open_process(
            [str(SCRIPTS / "trivet"), "tap", *arguments],
            env={**os.environ, **service.environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

        async def read(stream: Any, task_status: trio.TaskStatus[None]) -> None:
            text = b""
            async for chunk in stream:
                text += chunk
                *whole, text = text.split(b"\n")
                for line in whole:
                    if line.startswith(b"tapping "):
                        task_status.started()
                    else:
                        await sender.send(line.decode())

        assert process.stdout is not None
        nursery.start_soon(read, process.stdout, trio.TASK_STATUS_IGNORED)
        await nursery.start(read, process.stderr)
        try:
            yield Tap(process, receiver)
        finally:
            if process.poll() is None:
                process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()
        nursery.cancel_scope.cancel()


async def test_lines_for_people(here: Path) -> None:
    """Each event is a line, with its moment, its type and its facts; Ctrl-C ends that with 0."""
    async with opened(here) as service:
        async with tapping(
            service, "order_placed", "--filter", "note=green tea", "--payload"
        ) as tap:
            await service.publish({"total": 1}, {"total": 2, "note": "green tea"})
            moment, name, facts = (await tap.line()).split("  ")
            assert len(moment) == len("12:00:00.123")
            assert name == "order_placed"
            assert facts.startswith("id=")
            assert facts.endswith('payload={"total":2.0,"note":"green tea"}')
            tap.process.send_signal(signal.SIGINT)
            with trio.fail_after(60):
                assert await tap.process.wait() == 0
        assert await service.server.stop() == 0


async def test_documents_for_machines(here: Path) -> None:
    """With `--json` each line is a document; of a plugin, it has the fate. The program's stop ends
    the command with 0."""
    async with opened(here) as service:
        async with tapping(service, "billing", "--json") as tap:
            await service.publish({"total": 1}, {"total": -1})
            good, bad = [json.loads(await tap.line()) for _ in range(2)]
            assert (good["plugin"], good["fate"], good["type"]) == (
                "billing",
                "handled",
                "order_placed",
            )
            assert (bad["fate"], bad["error"]) == ("failed", "ValueError: no answer")
            assert "payload" not in good
            assert await service.server.stop() == 0
            with trio.fail_after(60):
                assert await tap.process.wait() == 0


async def test_what_is_refused(here: Path) -> None:
    """A name that is neither an event type's nor a plugin's gets the nearest one and 1; a wrong
    share is wrong usage; without a program it is 3."""
    async with opened(here) as service:
        code, out, err = await service.run("tap", "order_plced")
        assert (code, out) == (1, "")
        assert "did you mean 'order_placed'?" in err
        code, _, err = await service.run("tap", "bilin")
        assert (code, "did you mean 'billing'?" in err) == (1, True)
        code, _, err = await service.run("tap", "--filter", "total")
        assert (code, "FIELD=VALUE" in err) == (1, True)
        assert (await service.run("tap", "--sample", "2"))[0] == 2
        assert await service.server.stop() == 0
    assert (await service.run("tap"))[0] == 3


@pytest.mark.parametrize(
    ("answer", "shown", "why"),
    [
        (f"{STREAM}\r\n20\r\n{EVENT}", '{"count":1}', "the program has gone"),
        (f"{STREAM}\r\n", "", "the program has gone"),
        (f"{STREAM}\r\n20\r\n{EVENT[:-20]}", "", "the program has gone"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", "", "no program of Trivet's"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n<>", "", "no program of Trivet's"),
    ],
)
async def test_a_stream_that_is_cut(answer: str, shown: str, why: str) -> None:
    """A stream that ends before its last event, and an answer that is none, are errors, after the
    events that have come."""

    async def serve(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(answer.encode())
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}"
        done = await trio.to_thread.run_sync(partial(trivet, "tap", "--json", TRIVET_URL=url))
        nursery.cancel_scope.cancel()
    assert done.exit_code == 3
    assert why in done.stderr
    assert done.stdout == (f"{shown}\n" if shown else "")
