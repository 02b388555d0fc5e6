"""The inside of a running program, as an operator sees it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any, ClassVar

import pytest
import structlog
import trio
from structlog.testing import capture_logs

from trivet import (
    BackgroundPlugin,
    DeliverySettings,
    Event,
    EventPlugin,
    LogSettings,
    Runtime,
    Secret,
    Status,
    StoreSettings,
    SupervisionSettings,
    TokenSettings,
)
from trivet._log._logging import configure_logging
from trivet.testing import client, open_plugins

TOKEN = "a-token-of-an-operator"
TOKENS: Any = [TokenSettings(name="operator", scopes=["admin"], secret=Secret(TOKEN))]
PLANTED = "pl4nted-password"
IN_A_URL = "pl4nted-in-a-url"


class Paid(Event):
    amount: int = 0


class Refunded(Event):
    pass


class Ledger(EventPlugin[Paid]):
    delivery: ClassVar[DeliverySettings] = DeliverySettings(durable=True)

    async def handle_event(self, event: Paid) -> None:
        self.log.debug("paid")


class Audit(EventPlugin[Paid]):
    async def handle_event(self, event: Paid) -> None:
        self.log.debug("seen", amount=event.amount)


class Frail(BackgroundPlugin):
    supervision = SupervisionSettings(max_restarts=0)
    password: Secret
    url: str

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever, name=f"with {self.password.reveal()}")
            await trio.lowlevel.checkpoint()
            raise ValueError(f"{self.url} refuses {self.password.reveal()}")


class Patient(BackgroundPlugin):
    password: Secret

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.wait, name=f"waits with {self.password.reveal()}")
            await self.wait()

    async def wait(self) -> None:
        await trio.sleep_forever()


async def told(runtime: Runtime, path: str, method: str = "GET") -> Any:
    """The document for an operator at a path."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    asking = client(runtime)
    answer = await (asking.post if method == "POST" else asking.get)(path, headers=headers)
    assert answer.status_code == 200
    return await answer.get_json()


async def test_event_types(tmp_path: Path) -> None:
    """Each event type has its listeners, those that are durable, and its unrouted events."""
    store = StoreSettings(path=tmp_path / "store.db")
    async with open_plugins(
        Ledger, Audit, tokens=TOKENS, store=store, event_types=[Refunded]
    ) as runtime:
        await runtime.publish(Refunded())
        events = (await told(runtime, "/-/events"))["events"]
    assert events["paid"] == {
        "class": f"{__name__}.Paid",
        "from_outside": True,
        "listeners": ["ledger", "audit"],
        "durable": ["ledger"],
        "unrouted": 0,
    }
    assert (events["refunded"]["listeners"], events["refunded"]["unrouted"]) == ([], 1)
    assert events["operator_action_event"]["from_outside"] is False


async def test_live_tasks() -> None:
    """Each plugin's tasks are there, with the line at which they stand, and no secret."""
    plugins = {"patient": {"password": PLANTED}}
    async with open_plugins(Patient, Audit, tokens=TOKENS, settings=plugins) as runtime:
        await trio.testing.wait_all_tasks_blocked()
        document = await told(runtime, "/-/tasks")
        only = await told(runtime, "/-/tasks?plugin=patient")
    assert document["pid"] == os.getpid()
    names = [task["name"] for task in document["plugins"]["patient"]["tasks"]]
    assert "waits with ***" in names
    waits = document["plugins"]["patient"]["tasks"][names.index("waits with ***")]
    assert waits["at"].startswith(f"{__file__}:")
    assert waits["at"].endswith(" in Patient.wait")
    assert document["plugins"]["audit"]["count"] >= 1
    assert only["plugins"]["audit"]["tasks"] == []
    assert only["plugins"]["patient"]["count"] == len(names)


async def test_diagnostics_have_no_secret(tmp_path: Path) -> None:
    """The account has versions, settings, plugins, events, tasks and counters, and no secret, be it
    a setting's, a URL's, an error's or a task's, and no event's payload."""
    store = StoreSettings(path=tmp_path / "store.db")
    url = f"http://ann:{IN_A_URL}@127.0.0.1:1/"
    plugins = {"frail": {"password": PLANTED, "url": url}, "patient": {"password": PLANTED}}
    async with open_plugins(
        Frail, Patient, Ledger, Audit, tokens=TOKENS, store=store, settings=plugins
    ) as runtime:
        await runtime.hosts["frail"].wait_for_status(Status.FAILED)
        await runtime.publish(Paid(amount=918273645), wait=True)
        document = await told(runtime, "/-/diagnostics")
    text = json.dumps(document)
    for secret in (PLANTED, IN_A_URL, TOKEN, "918273645"):
        assert secret not in text
    assert document["settings"]["tokens[0].secret"] == "***"
    assert document["settings"]["store.path"] == str(tmp_path / "store.db")
    assert {"python", "trivet", "trio", "msgspec"} <= document["versions"].keys()
    frail = document["plugins"]["frail"]
    assert frail["error"]["summary"] == "ValueError: http://***@127.0.0.1:1/ refuses ***"
    assert frail["version"]["file"] == __file__
    assert document["plugins"]["audit"]["inbox"]["handled"] == 1
    assert document["events"]["paid"]["listeners"] == ["ledger", "audit"]
    assert document["tasks"]["patient"]["count"] >= 2
    assert document["store"]["path"] == str(tmp_path / "store.db")
    assert document["log"] == {"lost": 0, "trouble": None}


@pytest.fixture
def written() -> Iterator[StringIO]:
    """The log of `trivet serve`, with the lines from `info` on."""
    before, text = structlog.get_config(), StringIO()
    configure_logging(LogSettings(level="info", format="json"), text)
    yield text
    structlog.configure(**before)


async def test_the_log_level_of_one_plugin(written: StringIO) -> None:
    """A plugin's level is changed while it runs, and back to that of the program."""
    async with open_plugins(Audit, tokens=TOKENS) as runtime:
        path = "/-/plugins/audit/log-level"
        await runtime.publish(Paid(amount=1), wait=True)
        document = await told(runtime, f"{path}?level=debug", "POST")
        assert document == {"plugin": "audit", "level": "debug"}
        assert (await told(runtime, "/-/plugins/audit"))["log_level"] == "debug"
        await runtime.publish(Paid(amount=2), wait=True)
        assert (await told(runtime, f"{path}?level=default", "POST"))["level"] == "info"
        await runtime.publish(Paid(amount=3), wait=True)
    lines = [json.loads(line) for line in written.getvalue().splitlines()]
    assert [line["amount"] for line in lines if line["event"] == "seen"] == [2]
    acts = [line["action"] for line in lines if line["event"] == "an operator has acted"]
    assert acts == ["log level debug", "log level default"]


@pytest.mark.parametrize("query", ["", "?level=", "?level=loud", "?level=DEBUG"])
async def test_a_level_that_is_none(query: str, written: StringIO) -> None:
    """An unknown level is a 400 with the known ones."""
    async with open_plugins(Audit, tokens=TOKENS) as runtime:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        answer = await client(runtime).post(f"/-/plugins/audit/log-level{query}", headers=headers)
        problem = await answer.get_json()
    assert (answer.status_code, problem["error_code"]) == (400, "invalid_query")
    assert "debug, info, warning, error, or default" in problem["detail"]


async def test_a_log_that_is_not_trivets() -> None:
    """The level cannot be changed where the code around Trivet has configured the log."""
    with capture_logs():
        async with open_plugins(Audit, tokens=TOKENS) as runtime:
            headers = {"Authorization": f"Bearer {TOKEN}"}
            path = "/-/plugins/audit/log-level?level=debug"
            answer = await client(runtime).post(path, headers=headers)
            assert (await told(runtime, "/-/plugins/audit"))["log_level"] is None
    assert (answer.status_code, (await answer.get_json())["error_code"]) == (409, "order_refused")
