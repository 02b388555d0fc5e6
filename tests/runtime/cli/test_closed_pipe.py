"""Commands whose output has no reader any more, as before `head`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest
import trio

from trivet._cli import SHOWING

from ..process.test_serve import SCRIPTS, running
from .commands import trivet, write

pytestmark = pytest.mark.process

TOKEN = "a-token-of-an-operator"
SETTINGS = f"""
active_plugins = ["shop"]
plugins_directory = "."
bind = "127.0.0.1:0"
tokens = [{{ name = "op", scopes = ["admin", "read"], secret = "{TOKEN}" }}]
"""
SHOP = """
    import trio
    from trivet import BackgroundPlugin, DeliverySettings, Event, EventPlugin

    class OrderPlaced(Event, delivery=DeliverySettings(durable=True)):
        total: float

    class Billing(EventPlugin[OrderPlaced]):
        async def handle_event(self, event: OrderPlaced) -> None:
            pass

    class Feed(BackgroundPlugin):
        async def run(self) -> None:
            while True:
                await self.app.publish(OrderPlaced(1.0))
                await trio.sleep(0.05)
"""
ARGUMENTS: Mapping[str, list[str]] = {"completion": ["bash"], "schema": ["order_placed"]}
"""The arguments of commands that need some."""


async def unread(environ: Mapping[str, str], *arguments: str) -> tuple[int, str]:
    """Run a command whose output is a closed pipe; returns its exit code, and its errors."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        with trio.fail_after(60):
            done = await trio.run_process(
                [str(SCRIPTS / "trivet"), *arguments],
                env={**os.environ, **environ},
                stdout=writer,
                capture_stderr=True,
                check=False,
            )
    finally:
        os.close(writer)
    return done.returncode, done.stderr.decode()


async def test_a_reader_that_has_seen_enough(here: Path) -> None:
    """A command that shows something ends with 0 and says nothing when its output is closed, also
    a tap, with documents or lines; it is not refused."""
    write(here / "trivet.toml", SETTINGS)
    write(here / "shop.py", SHOP)
    calls = [[name, *ARGUMENTS.get(name, [])] for name in sorted(SHOWING)]
    calls.remove(["dead-letters"])
    calls += [["dead-letters", "list"], ["tap", "order_placed", "--json"], ["events", "--json"]]
    async with running(["trivet", "serve"], here) as server:
        url = (await server.logged("serving"))["urls"][0]
        environ = {"TRIVET_TOKEN": TOKEN, "TRIVET_URL": url}
        for call in calls:
            code, said = await unread(environ, *call)
            news = [line for line in said.splitlines() if not line.startswith("tapping ")]
            assert (code, news) == (0, []), call
        assert await server.stop() == 0


async def test_a_finding_that_nobody_reads(here: Path) -> None:
    """A check whose faults could not be printed does not end as if there were none."""
    write(here / "trivet.toml", 'active_plugins = ["missing"]\nplugins_directory = "."\n')
    done = await trio.to_thread.run_sync(trivet, "check")
    assert done.exit_code == 2
    code, _ = await unread({}, "check")
    assert code != 0
