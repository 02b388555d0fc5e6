"""Every command of an operator, against a program that `trivet serve` runs."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import click
import pytest
import trio

from trivet import _cli

from ..process.test_serve import running
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
    from trivet import DeliverySettings, Event, EventPlugin

    class OrderPlaced(Event, delivery=DeliverySettings(durable=True, max_attempts=1)):
        total: float

    class Billing(EventPlugin[OrderPlaced]):
        currency: str = "EUR"

        async def handle_event(self, event: OrderPlaced) -> None:
            if event.total < 0:
                raise ValueError("no answer")
"""
FOR_NO_MACHINE = {"completion", "demo", "new", "serve", "top"}
"""Commands whose output is no document."""
JSON_ALWAYS = {"diagnostics", "schema"}
"""Commands that print JSON, and nothing else, without being asked for it."""


@attrs.frozen
class Shell:
    """A shell beside a program."""

    environ: dict[str, str]

    async def run(self, *arguments: str, said: str = "") -> tuple[int, str, str]:
        """Run `trivet`; returns the exit code, and what it has printed."""
        call = partial(trivet, *arguments, said=said, **self.environ)
        done = await trio.to_thread.run_sync(call)
        return done.exit_code, done.stdout, done.stderr

    async def json(self, *arguments: str, said: str = "") -> Any:
        """The document that a command prints; it ends well, and prints nothing else."""
        code, out, err = await self.run(*arguments, said=said)
        assert (code, err) == (0, ""), (arguments, out, err)
        return json.loads(out)


@asynccontextmanager
async def opened(here: Path) -> AsyncGenerator[tuple[Shell, Shell]]:
    """A program, a shell that asks it, and one beside it that only sees the files."""
    write(here / "trivet.toml", SETTINGS)
    write(here / "billing.py", BILLING)
    write(here / "token", TOKEN)
    async with running(["trivet", "serve"], here) as server:
        url = (await server.logged("serving"))["urls"][0]
        yield Shell({"TRIVET_TOKEN_FILE": "token", "TRIVET_URL": url}), Shell({})
        assert await server.stop() == 0


async def test_every_answer_is_a_document(here: Path) -> None:
    """With `--json` each command prints JSON alone, and ends with 0."""
    async with opened(here) as (shell, beside):
        told = await shell.json("publish", "order_placed", "--json", said='{"total": 1}')
        assert told["fates"] == {"billing": "queued"}
        for _ in range(2):
            code, _, err = await shell.run(
                "publish", "order_placed", "--wait", said='{"total": -1}'
            )
            assert (code, "dead_lettered" in err) == (1, True)
        assert "billing" in (await shell.json("plugins", "--json"))["plugins"]
        assert (await shell.json("plugins", "billing", "--json"))["class"] == "Billing"
        assert "billing" in (await shell.json("tasks", "--json"))["plugins"]
        assert "stalls" in await shell.json("stalls", "--json")
        events = (await shell.json("events", "--json"))["events"]
        assert events["order_placed"]["listeners"] == ["billing"]
        assert (await shell.json("diagnostics"))["service"] == "trivet"
        assert (await shell.json("check", "--connect", "--json"))["faults"] == []
        assert "OrderPlaced" in (await shell.json("schema", "order_placed"))["$defs"]
        changes = (await shell.json("set", "plugins.billing.currency=USD", "--json"))["changes"]
        assert [each["what"] for each in changes] == ["plugins.billing"]
        for where in (shell, beside):
            code, out, err = await where.run("settings", "--json")
            assert (code, err) == (0, "")
            found = {each["key"]: each for each in map(json.loads, out.splitlines())}
            assert found["plugins.billing.currency"]["origin"] == "overlay"
        assert (await shell.json("unset", "plugins.billing.currency", "--json"))["changes"]
        assert (await shell.json("reload", "--json"))["changes"] == []
        assert (await shell.json("reload", "billing", "--json"))["changes"]
        for order in ("pause", "resume"):
            paused = (await shell.json(order, "billing", "--json"))["paused"]
            assert paused is (order == "pause")
        assert (await shell.json("log-level", "billing", "debug", "--json"))["level"] == "debug"
        for where in (shell, beside):
            code, out, err = await where.run("dead-letters", "list", "--json")
            assert (code, err) == (0, "")
            assert [json.loads(line)["number"] for line in out.splitlines()] == [1, 2]
            letter = await where.json("dead-letters", "show", "1", "--json")
            assert letter["payload"] == {"total": -1}
        assert await shell.json("dead-letters", "purge", "1", "--json") == {"count": 1}
        assert await beside.json("dead-letters", "purge", "--all", "--json") == {"count": 1}
        assert await shell.json("dead-letters", "replay", "--all", "--json") == {"count": 0}
        copied = await beside.json("store", "backup", "copy.db", "--json")
        assert (copied["file"], copied["dead_letters"]) == ("copy.db", 0)
        for order in ("disable", "enable", "restart"):
            assert (await shell.json(order, "billing", "--json"))["plugin"] == "billing"
        assert (await shell.json("restart", "--json"))["status"] == "restarting"
    store = "trivet.sqlite3"
    assert await beside.json("store", "check", "--json") == {"file": store, "faults": []}
    compacted = await beside.json("store", "compact", "--json")
    assert compacted["bytes"] <= compacted["bytes_before"]
    put_back = await beside.json("store", "restore", "copy.db", "--json")
    assert put_back["file"] == store
    assert put_back["kept"].startswith(str(here / store))


async def test_the_exit_codes_are_those_of_the_documents(here: Path) -> None:
    """1 for what is refused, 2 for wrong usage, and 3 where no program answers."""
    async with opened(here) as (shell, beside):
        for arguments in (
            ["disable", "bilin"],
            ["plugins", "bilin"],
            ["publish", "order_plced"],
            ["set", "max_body=0"],
            ["dead-letters", "show", "9"],
            ["dead-letters", "purge", "9"],
        ):
            code, out, err = await shell.run(*arguments, said="{}")
            assert (code, out) == (1, ""), (arguments, err)
            assert err.startswith("trivet: ")
        assert (await shell.run("log-level", "billing", "loud"))[0] == 2
        assert (await shell.run("settings", "billing"))[0] == 2
        for arguments in (["store", "check"], ["store", "compact"]):
            assert (await beside.run(*arguments))[0] == 3
    for arguments in (
        ["plugins"],
        ["events"],
        ["tasks"],
        ["reload"],
        ["restart"],
        ["settings"],
        ["diagnostics"],
        ["unset", "max_body"],
        ["dead-letters", "list"],
    ):
        code, out, err = await shell.run(*arguments)
        assert (code, out) == (3, ""), (arguments, err)


def test_no_command_lacks_json() -> None:
    """Each command whose answer a machine may want has `--json`, or prints nothing else."""
    context = click.Context(_cli.main)
    for name in _cli.main.list_commands(context):
        command = _cli.main.get_command(context, name)
        assert command is not None
        parts = command.commands if isinstance(command, click.Group) else {name: command}
        for part, each in parts.items():
            options = {option for param in each.params for option in param.opts}
            without = name in FOR_NO_MACHINE | JSON_ALWAYS
            assert ("--json" in options) is not without, (name, part)
