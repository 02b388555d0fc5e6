"""Events that only the program itself may publish."""

from __future__ import annotations

import json
from typing import Any

import pytest
from trio.testing import MockClock

from trivet import App, EventPlugin, PluginStatusEvent
from trivet.testing import client, open_plugins

FORGED = {"plugin": "billing", "status": "failed", "previous": "running"}
CLOUD_EVENT = {
    "specversion": "1.0",
    "id": "1",
    "source": "/outside",
    "type": "plugin_status_event",
    "data": FORGED,
}


class Alarm(EventPlugin[PluginStatusEvent]):
    """A subscriber that notes which plugins have failed."""

    def __init__(self, app: App) -> None:
        self.failed: list[str] = []

    async def handle_event(self, event: PluginStatusEvent) -> None:
        if event.status == "failed":
            self.failed.append(event.plugin)


WAYS: dict[str, tuple[str, object, dict[str, str], dict[str, str]]] = {
    "by its name": (
        "/events/plugin_status_event",
        FORGED,
        {"Content-Type": "application/json"},
        {},
    ),
    "structured": (
        "/events",
        CLOUD_EVENT,
        {"Content-Type": "application/cloudevents+json"},
        {"path": "$.type"},
    ),
    "binary": (
        "/events",
        FORGED,
        {"Content-Type": "application/json"}
        | {f"ce-{name}": value for name, value in CLOUD_EVENT.items() if isinstance(value, str)},
        {"path": "ce-type"},
    ),
    "batched": (
        "/events",
        [CLOUD_EVENT],
        {"Content-Type": "application/cloudevents-batch+json"},
        {"path": "$[0].type"},
    ),
}


@pytest.mark.parametrize("way", WAYS)
async def test_nobody_outside_can_say_that_a_plugin_has_failed(
    way: str, autojump_clock: MockClock
) -> None:
    """A forged status is a 403 in every form in which events come by HTTP, and reaches no
    plugin."""
    path, document, headers, where = WAYS[way]
    async with open_plugins(Alarm) as runtime:
        body = json.dumps(document)
        response = await client(runtime).post(f"{path}?wait=true", data=body, headers=headers)
        problem: dict[str, Any] = await response.get_json()
        assert (response.status_code, problem["error_code"]) == (403, "forbidden")
        assert problem["detail"] == "plugin_status_event comes from the supervision only"
        assert problem.items() >= where.items()
        assert runtime.get(Alarm).failed == []
