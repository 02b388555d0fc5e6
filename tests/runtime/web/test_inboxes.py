"""An inbox as an operator sees it: the oldest events, and what has failed."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from trivet import (
    App,
    BackgroundPlugin,
    DeliverySettings,
    Event,
    EventPlugin,
    Runtime,
    Secret,
    TokenSettings,
)
from trivet.testing import client, open_plugins

TOKEN = "a-token-of-an-operator"
TOKENS = [TokenSettings(name="operator", scopes=["admin"], secret=Secret(TOKEN))]
PLANTED = "the-planted-password"
LONG = 1e6
"""Seconds before another attempt, at most: so many that the drawn wait is none of a few seconds."""


class Paid(Event):
    amount: int
    account: str = ""
    note: str = ""


class Till(EventPlugin[Paid]):
    """A plugin that fails at negative amounts, and hangs at zero."""

    delivery = DeliverySettings(
        retry=True,
        retry_initial=LONG,
        retry_max=LONG,
        retry_for=0,
        max_attempts=3,
        time_limit=0,
        ordering_key="account",
    )
    password: Secret = Secret(PLANTED)

    def __init__(self, app: App) -> None:
        self.begun = trio.Event()

    async def handle_event(self, event: Paid) -> None:
        if event.amount < 0:
            raise OSError(f"no change, with {PLANTED}")
        if event.amount == 0:
            self.begun.set()
            await trio.sleep_forever()


class Safe(Till):
    delivery = attrs.evolve(Till.delivery, durable=True, buffer_bytes=4096)


class Idle(BackgroundPlugin):
    pass


async def asked(runtime: Runtime, query: str = "", plugin: str = "till") -> tuple[int, Any]:
    """The answer to an operator who looks into an inbox."""
    answer = await client(runtime).get(
        f"/-/plugins/{plugin}/inbox?{query}", headers={"Authorization": f"Bearer {TOKEN}"}
    )
    assert PLANTED not in (await answer.get_data(as_text=True))
    return answer.status_code, await answer.get_json()


@pytest.mark.parametrize("plugin", [Till, Safe])
async def test_the_events_before_a_plugin(plugin: type[Till], autojump_clock: MockClock) -> None:
    """Each event in memory is shown with its envelope and its fate, the oldest first; one that has
    failed with the error and its next attempt; in an inbox in memory, and in a durable one."""
    async with open_plugins(plugin, tokens=TOKENS, patience=1e9) as runtime:
        await trio.sleep(1)  # At the clock's zero the moment of a hand-out is not known.
        for number, (amount, account) in enumerate([(-1, "a"), (1, "a"), (0, "b"), (2, "b")]):
            await runtime.publish(Paid(amount, account), id=f"p-{number}", key="eve")
        await runtime.get(plugin).begun.wait()
        await trio.sleep(2)
        status, found = await asked(runtime, plugin=plugin.name)
        runtime.hurry()
    assert status == 200
    assert (found["queued"], found["in_flight"], found["backing_off"]) == (2, 1, 1)
    assert (found["not_shown"], found["on_disk"]) == (0, 0)
    failed, second, running, fourth = found["events"]
    assert [each["id"] for each in found["events"]] == ["p-0", "p-1", "p-2", "p-3"]
    assert {each["type"] for each in found["events"]} == {"paid"}
    assert {each["key"] for each in found["events"]} == {"eve"}
    assert (failed["fate"], failed["attempt"], failed["max_attempts"]) == ("backing_off", 2, 3)
    assert failed["error"] == "OSError: no change, with ***"
    assert 0 < failed["retry_in"] <= LONG
    assert (running["fate"], running["attempt"], running["error"]) == ("in_flight", 1, None)
    assert 2 <= running["lasted"] < 60
    assert (second["fate"], fourth["fate"]) == ("queued", "queued")
    assert "retry_in" not in second
    assert not any("payload" in each for each in found["events"])


async def test_the_payload_of_one_event(autojump_clock: MockClock) -> None:
    """A payload is shown of the event that is named, without secrets."""
    async with open_plugins(Till, tokens=TOKENS, patience=1e9) as runtime:
        await runtime.publish(Paid(0), id="p-0")
        await runtime.publish(Paid(2, note=PLANTED), id="p-1")
        await runtime.get(Till).begun.wait()
        _, found = await asked(runtime, "payload=p-1")
        runtime.hurry()
    first, second = found["events"]
    assert "payload" not in first
    assert second["payload"] == {"amount": 2, "account": "", "note": "***"}


@pytest.mark.parametrize("plugin", [Till, Safe])
async def test_a_backlog_is_not_read(plugin: type[Till], autojump_clock: MockClock) -> None:
    """The oldest of many events are shown, and the others counted: those in memory, and those
    that are on disk alone."""
    async with open_plugins(plugin, tokens=TOKENS, patience=1e9) as runtime:
        await runtime.publish(Paid(0), id="p-0")
        await runtime.get(plugin).begun.wait()
        for number in range(1, 400):
            await runtime.publish(Paid(number), id=f"p-{number}")
        _, found = await asked(runtime, "limit=3", plugin.name)
        runtime.hurry()
    assert [each["id"] for each in found["events"]] == ["p-0", "p-1", "p-2"]
    assert found["not_shown"] == 397
    assert (found["on_disk"] > 0) is (plugin is Safe)


async def test_wrong_requests(autojump_clock: MockClock) -> None:
    """A plugin without an inbox, and one that is not there, have 404; a wrong limit has 400."""
    async with open_plugins(Till, Idle, tokens=TOKENS) as runtime:
        for plugin in ("idle", "til"):
            status, found = await asked(runtime, plugin=plugin)
            assert (status, found["error_code"]) == (404, "unknown_plugin")
        for limit in ("0", "201", "many"):
            status, found = await asked(runtime, f"limit={limit}")
            assert (status, found["error_code"]) == (400, "invalid_query")
