"""Events by HTTP that take much memory, or have absurd attributes: refused, with a reason."""

from __future__ import annotations

import json
from typing import Any, ClassVar

import pytest
import trio
from quart import Response
from quart.typing import TestClientProtocol as Client
from trio.testing import MockClock, wait_all_tasks_blocked

from trivet import App, DeliverySettings, Event, EventPlugin
from trivet.testing import client, open_plugins

STRUCTURED = "application/cloudevents+json"
BATCHED = "application/cloudevents-batch+json"
NDJSON = "application/x-ndjson"
EMPTY = f'{{"extra": [{",".join(["{}"] * 50_000)}]}}'
"""A document of 150 kilobytes that takes more than four megabytes of memory."""


class Measured(Event):
    extra: Any = None


class Small(EventPlugin[Measured]):
    """A subscriber with room for a megabyte, which never ends its first event."""

    delivery: ClassVar[DeliverySettings] = DeliverySettings(buffer_bytes=1_000_000)

    def __init__(self, app: App) -> None:
        self.go_on = trio.Event()

    async def handle_event(self, event: Measured) -> None:
        await self.go_on.wait()


class Large(EventPlugin[Measured]):
    """A subscriber with more room."""

    async def handle_event(self, event: Measured) -> None:
        pass


async def post(asking: Client, body: str, media_type: str = "application/json") -> Response:
    """Post a document to the path of its media type."""
    headers = {"Content-Type": media_type}
    path = "/events" if "cloudevents" in media_type else "/events/measured"
    return await asking.post(path, data=body, headers=headers)


def cloud_event(**changes: str) -> dict[str, object]:
    """A CloudEvent with other attributes."""
    event = {"specversion": "1.0", "id": "1", "source": "s", "type": "measured"}
    return {**event, **changes, "data": {}}


@pytest.mark.parametrize("form", ["json", "structured", "batch"])
async def test_an_event_that_no_inbox_can_hold(form: str) -> None:
    """An event that no inbox can hold is a 413 before it is decoded, with its size and the
    limit."""
    event = f'{{"specversion":"1.0","id":"1","source":"s","type":"measured","data":{EMPTY}}}'
    body, media_type = {
        "json": (EMPTY, "application/json"),
        "structured": (event, STRUCTURED),
        "batch": (f"[{event}]", BATCHED),
    }[form]
    async with open_plugins(Small) as runtime:
        response = await post(client(runtime), body, media_type)
        statistics = runtime.statistics()["small"]
    assert response.status_code == 413
    problem = await response.get_json()
    assert problem["error_code"] == "event_too_large"
    assert "1000000" in problem["detail"]
    assert statistics.accepted == 0


async def test_a_line_that_no_inbox_can_hold(autojump_clock: MockClock) -> None:
    """A line that no inbox can hold is named, and the stream goes on."""
    dense = f'{{"extra": [{",".join(["{}"] * 20_000)}]}}'
    async with open_plugins(Small) as runtime:
        response = await post(client(runtime), f"{{}}\n{dense}\n{{}}\n", NDJSON)
    assert response.status_code == 202
    answer = await response.get_json()
    assert (answer["lines"], answer["invalid"]) == (3, 1)
    assert answer["errors"][0]["line"] == 2


async def test_an_event_that_one_inbox_can_hold() -> None:
    """Each subscriber decides alone: one with room gets the event."""
    async with open_plugins(Small, Large) as runtime:
        response = await post(client(runtime), EMPTY)
        statistics = runtime.statistics()
    assert response.status_code == 202
    assert statistics["large"].accepted == 1
    assert statistics["small"].accepted == 0


async def test_the_plugins_document_shows_the_bytes(autojump_clock: MockClock) -> None:
    """The bytes of an event are counted until it has ended."""
    async with open_plugins(Small) as runtime:
        asking = client(runtime)
        await post(asking, '{"extra": [{}, {}]}')
        await wait_all_tasks_blocked()
        plugins = await (await asking.get("/plugins")).get_json()
        taken = plugins["plugins"]["small"]["inbox"]["bytes"]
        assert 500 < taken < 2000
        runtime.get(Small).go_on.set()
        await wait_all_tasks_blocked()
        assert runtime.statistics()["small"].bytes == 0


async def test_a_stream_waits_for_bytes(autojump_clock: MockClock) -> None:
    """Lines wait for room in bytes as for room in number, and none is lost."""
    line = '{"extra": "%s"}\n' % ("x" * 100_000)
    async with open_plugins(Small) as runtime, trio.open_nursery() as nursery:

        async def go_on() -> None:
            await trio.sleep(0.5)
            runtime.get(Small).go_on.set()

        nursery.start_soon(go_on)
        response = await post(client(runtime), line * 30, NDJSON)
        await wait_all_tasks_blocked()
        statistics = runtime.statistics()["small"]
    assert response.status_code == 202
    assert (statistics.handled, statistics.rejected) == (30, 0)


async def test_a_batch_of_too_many_events(autojump_clock: MockClock) -> None:
    """A batch of too many events is a 413 with the limit, and another way."""
    async with open_plugins(Large) as runtime:
        response = await post(client(runtime), json.dumps([cloud_event()] * 1001), BATCHED)
    assert response.status_code == 413
    problem = await response.get_json()
    assert (problem["error_code"], problem["limit"]) == ("too_many_events", 1000)


@pytest.mark.parametrize("attribute", ["id", "source", "type", "subject", "partitionkey"])
@pytest.mark.parametrize("form", ["binary", "structured", "batch"])
async def test_an_attribute_that_is_too_long(
    attribute: str, form: str, autojump_clock: MockClock
) -> None:
    """An attribute that is too long is a 400 with its name, so that remembered ids stay small."""
    response = await send(form, cloud_event(**{attribute: "x" * 401}))
    assert response.status_code == 400
    at = {"binary": f"ce-{attribute}", "structured": f"$.{attribute}", "batch": f"$[0].{attribute}"}
    assert (await response.get_json())["path"] == at[form]


@pytest.mark.parametrize("attribute", ["id", "source", "subject", "partitionkey"])
@pytest.mark.parametrize("character", ["\0", "\n", "\x7f", "\x85"])
@pytest.mark.parametrize("form", ["binary", "structured", "batch"])
async def test_an_attribute_with_control_characters(
    attribute: str, character: str, form: str, autojump_clock: MockClock
) -> None:
    """Characters that the specification excludes are a 400 with the attribute's name."""
    response = await send(form, cloud_event(**{attribute: f"a{character}b"}))
    assert response.status_code == 400
    at = {"binary": f"ce-{attribute}", "structured": f"$.{attribute}", "batch": f"$[0].{attribute}"}
    assert (await response.get_json())["path"] == at[form]


@pytest.mark.parametrize("text", ["x" * 400, "a b", "ü 订单 \u3000", "😀"])
async def test_an_attribute_of_any_other_text(text: str, autojump_clock: MockClock) -> None:
    """An attribute may have four hundred characters, of any script."""
    for attribute in ("id", "source", "subject", "partitionkey"):
        response = await send("structured", cloud_event(**{attribute: text}))
        assert response.status_code == 202


@pytest.mark.parametrize("moment", ["never", "2024-05-06T07:08:09", "9" * 5000, ""])
async def test_a_malformed_expirytime(moment: str, autojump_clock: MockClock) -> None:
    """An `expirytime` that is no time is a 400 with the attribute's name."""
    for form in ("binary", "structured", "batch"):
        response = await send(form, cloud_event(expirytime=moment))
        assert response.status_code == 400
        assert (await response.get_json())["path"].endswith("expirytime")


async def send(form: str, event: dict[str, object]) -> Response:
    """Send a CloudEvent."""
    async with open_plugins(Large) as runtime:
        asking = client(runtime)
        if form == "structured":
            return await post(asking, json.dumps(event), STRUCTURED)
        if form == "batch":
            return await post(asking, json.dumps([event]), BATCHED)
        del event["data"]
        encoded = {
            f"ce-{name}": "".join(f"%{byte:02X}" for byte in str(value).encode())
            for name, value in event.items()
        }
        return await asking.post("/events", data="{}", headers=encoded)
