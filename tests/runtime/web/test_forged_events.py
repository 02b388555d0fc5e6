"""Events that only the program itself may publish."""

from __future__ import annotations

import json
from typing import Any

import pytest
from trio.testing import MockClock

from trivet import (
    App,
    Event,
    EventPlugin,
    MonitoringEvent,
    OperatorActionEvent,
    PluginStatusEvent,
    SendingEvent,
)
from trivet.testing import client, open_plugins

NOON = "2026-01-31T12:00:00Z"


class Settled(Event, from_outside=False):
    """An event of the program's own, because its class says so."""

    number: int = 0


class SettledTwice(Settled):
    """An event of the program's own, because its base is."""


FORGED: dict[type[Event], dict[str, object]] = {
    PluginStatusEvent: {"plugin": "billing", "status": "failed", "previous": "running"},
    MonitoringEvent: {"points": []},
    OperatorActionEvent: {"action": "restart", "plugin": "billing", "token": "operators"},
    SendingEvent: {
        "events": [],
        "handler_id": "h",
        "account_id": "a",
        "request_id": "r",
        "create_event_time": NOON,
        "end_event_time": NOON,
    },
    Settled: {},
    SettledTwice: {},
}


Own = PluginStatusEvent | MonitoringEvent | OperatorActionEvent | SendingEvent | Settled


class Alarm(EventPlugin[Own]):
    """A subscriber that notes the events that a test has forged."""

    def __init__(self, app: App) -> None:
        self.seen: list[Event] = []

    async def handle_event(self, event: Own) -> None:
        if isinstance(event, PluginStatusEvent) and event.plugin == "alarm":
            return
        if isinstance(event, MonitoringEvent) and event.points:
            return
        self.seen.append(event)


Way = tuple[str, bytes, dict[str, str], str]
"""A path, a body, headers, and the path of the type's name in the problem."""


def way(name: str, cls: type[Event]) -> Way:
    """A forged event in one of the forms in which events come by HTTP."""
    event, data = cls.__event_name__, FORGED[cls]
    said = {"specversion": "1.0", "id": "1", "source": "/outside", "type": event}
    document: object = {**said, "data": data}
    harmless: object = {**said, "type": "harmless", "data": {}}
    batch = [harmless, document]
    ways: dict[str, tuple[str, object, str, str]] = {
        "by its name": (f"/events/{event}", data, "application/json", ""),
        "in a line": (f"/events/{event}", data, "application/x-ndjson", ""),
        "structured": ("/events", document, "application/cloudevents+json", "$.type"),
        "binary": ("/events", data, "application/json", "ce-type"),
        "batched": ("/events", batch, "application/cloudevents-batch+json", "$[1].type"),
    }
    path, body, media_type, at = ways[name]
    headers = {f"ce-{key}": value for key, value in said.items()} if name == "binary" else {}
    return path, json.dumps(body).encode(), {**headers, "Content-Type": media_type}, at


WAYS = ["by its name", "in a line", "structured", "binary", "batched"]


class Harmless(Event):
    """An event that may come from outside."""


@pytest.mark.parametrize("cls", FORGED)
@pytest.mark.parametrize("name", WAYS)
async def test_nobody_outside_can_publish_an_event_of_the_programs_own(
    name: str, cls: type[Event], autojump_clock: MockClock
) -> None:
    """A forged event is a 403 in every form in which events come by HTTP, and reaches no plugin."""
    path, body, headers, at = way(name, cls)
    types = [Settled, SettledTwice, Harmless]
    async with open_plugins(Alarm, event_types=types) as runtime:
        response = await client(runtime).post(f"{path}?wait=true", data=body, headers=headers)
        problem: dict[str, Any] = await response.get_json()
        assert (response.status_code, problem["error_code"]) == (403, "forbidden")
        assert "is the program's own" in problem["detail"]
        assert "`open_events`" in problem["detail"]
        assert (problem["event"], problem.get("path", "")) == (cls.__event_name__, at)
        assert runtime.get(Alarm).seen == []
        assert runtime.unrouted.get("harmless", 0) == 0  # Nothing of a batch is published.


@pytest.mark.parametrize("cls", FORGED)
@pytest.mark.parametrize("name", WAYS)
async def test_an_operator_may_open_a_type(
    name: str, cls: type[Event], autojump_clock: MockClock
) -> None:
    """A type that `open_events` names comes from outside in every form, and no other type does."""
    path, body, headers, _ = way(name, cls)
    types = [Settled, SettledTwice, Harmless]
    opened = [cls.__event_name__]
    async with open_plugins(Alarm, event_types=types, open_events=opened) as runtime:
        response = await client(runtime).post(f"{path}?wait=true", data=body, headers=headers)
        assert response.status_code == 200
        assert [type(event) for event in runtime.get(Alarm).seen] == [cls]
        for other in {*FORGED} - {cls}:
            path, body, headers, _ = way("by its name", other)
            response = await client(runtime).post(path, data=body, headers=headers)
            assert response.status_code == 403


async def test_an_unknown_name_is_told_the_open_types_only() -> None:
    """The 404 for an unknown event lists the types that a client may publish."""
    async with open_plugins(Alarm, event_types=[Settled, Harmless]) as runtime:
        problem = await (await client(runtime).post("/events/other", json={})).get_json()
        assert (problem["error_code"], problem["known"]) == ("unknown_event", ["harmless"])


async def test_the_program_itself_publishes_them() -> None:
    """An event that no client may publish comes from plugins as any other."""
    async with open_plugins(Alarm, event_types=[Settled, SettledTwice]) as runtime:
        await runtime.publish(Settled(1), wait=True)
        assert runtime.get(Alarm).seen == [Settled(1)]
