"""The deadline of an event, `expirytime`, in each way in which events come by HTTP."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar
from urllib.parse import quote

import pytest
import trio
from quart import Response
from quart.typing import TestClientProtocol as Client
from trio.testing import MockClock

from trivet import App, DeliverySettings, Event, EventPlugin, current_delivery
from trivet.testing import client, open_plugins


class Ping(Event):
    number: int = 0


class Slow(EventPlugin[Ping]):
    """A subscriber that takes five seconds, and notes when each event was begun, finished and
    due."""

    def __init__(self, app: App) -> None:
        self.begun: list[int] = []
        self.done: list[int] = []
        self.left: list[float] = []

    async def handle_event(self, event: Ping) -> None:
        self.begun.append(event.number)
        self.left.append(current_delivery().deadline - trio.current_time())
        await trio.sleep(5)
        self.done.append(event.number)


class Stored(Slow):
    """A durable subscriber."""

    delivery: ClassVar[DeliverySettings] = DeliverySettings(durable=True, time_limit=0)


def calendar(seconds: float) -> str:
    """The time `seconds` from now, with an offset that is not UTC's."""
    moment = datetime.now(UTC) + timedelta(seconds=seconds)
    return (moment + timedelta(hours=2)).replace(tzinfo=None).isoformat() + "+02:00"


def cloud_event(expirytime: object, number: int = 0) -> dict[str, Any]:
    """A ping as a CloudEvent."""
    event = {"specversion": "1.0", "id": str(number), "source": "/test", "type": "ping"}
    return event | {"expirytime": expirytime, "data": {"number": number}}


async def as_json(asking: Client, expirytime: str, query: str = "") -> Response:
    """Publish as JSON, by the name of the event."""
    path = f"/events/ping?expirytime={quote(expirytime)}{query}"
    return await asking.post(path, json={})


async def as_lines(asking: Client, expirytime: str, query: str = "") -> Response:
    """Publish as the only line of a stream."""
    path = f"/events/ping?expirytime={quote(expirytime)}{query}"
    return await asking.post(path, data=b"{}", headers={"Content-Type": "application/x-ndjson"})


async def structured(asking: Client, expirytime: str, query: str = "") -> Response:
    """Publish as a CloudEvent, in one document."""
    headers = {"Content-Type": "application/cloudevents+json"}
    body = json.dumps(cloud_event(expirytime))
    return await asking.post(f"/events?{query.lstrip('&')}", data=body, headers=headers)


async def batched(asking: Client, expirytime: str, query: str = "") -> Response:
    """Publish as a batch of one CloudEvent."""
    headers = {"Content-Type": "application/cloudevents-batch+json"}
    body = json.dumps([cloud_event(expirytime)])
    return await asking.post(f"/events?{query.lstrip('&')}", data=body, headers=headers)


async def binary(asking: Client, expirytime: str, query: str = "") -> Response:
    """Publish as a CloudEvent whose attributes are headers."""
    event = cloud_event(expirytime)
    data = json.dumps(event.pop("data"))
    headers = {f"ce-{name}": value for name, value in event.items()}
    headers["Content-Type"] = "application/json"
    return await asking.post(f"/events?{query.lstrip('&')}", data=data, headers=headers)


WAYS = [as_json, as_lines, structured, batched, binary]


@pytest.mark.parametrize("send", WAYS)
async def test_a_handler_is_cancelled_at_the_deadline(send: Any, autojump_clock: MockClock) -> None:
    """A handler that takes longer is cancelled, the event expires, and a waiting publisher gets
    504."""
    async with open_plugins(Slow) as runtime:
        await trio.sleep(1000)  # The two clocks have nothing in common.
        begun = trio.current_time()
        response = await send(client(runtime), calendar(2), "&wait=true")
        # The wall clock has gone on a little meanwhile; the test's has not.
        assert trio.current_time() - begun == pytest.approx(2, abs=0.5)
        slow, statistics = runtime.get(Slow), runtime.statistics()["slow"]
    assert response.status_code == 504
    assert (await response.get_json())["error_code"] == "event_expired"
    assert (slow.begun, slow.done) == ([0], [])
    assert (statistics.accepted, statistics.expired) == (1, 1)


@pytest.mark.parametrize("send", WAYS)
async def test_a_deadline_that_is_over(send: Any, autojump_clock: MockClock) -> None:
    """An event that comes too late is accepted, and expires before a handler sees it."""
    async with open_plugins(Slow) as runtime:
        late = await send(client(runtime), calendar(-60))
        await trio.testing.wait_all_tasks_blocked()
        slow, statistics = runtime.get(Slow), runtime.statistics()["slow"]
    assert late.status_code == 202
    assert slow.begun == []
    assert (statistics.accepted, statistics.expired) == (1, 1)


@pytest.mark.parametrize("send", WAYS)
async def test_a_deadline_that_is_kept(send: Any, autojump_clock: MockClock) -> None:
    """An event that is handled in time is a 200."""
    async with open_plugins(Slow) as runtime:
        response = await send(client(runtime), calendar(60), "&wait=true")
        assert runtime.get(Slow).left == [pytest.approx(60, abs=0.5)]
    assert response.status_code == 200


async def test_a_deadline_in_the_store(autojump_clock: MockClock) -> None:
    """The deadline goes with the event into a durable inbox, and out of it."""
    async with open_plugins(Stored) as runtime:
        response = await structured(client(runtime), calendar(2), "&wait=true")
        statistics = runtime.statistics()["stored"]
    assert response.status_code == 504
    assert (statistics.accepted, statistics.expired) == (1, 1)


WRONG = ["tomorrow", "2024-05-06T07:08:09", ""]


@pytest.mark.parametrize("expirytime", WRONG)
@pytest.mark.parametrize("send", [as_json, as_lines])
async def test_a_parameter_that_is_no_moment(
    send: Any, expirytime: str, autojump_clock: MockClock
) -> None:
    """A 400 names the parameter, for a text that is no date, or a date without an offset."""
    async with open_plugins(Slow) as runtime:
        response = await send(client(runtime), expirytime)
        assert runtime.statistics()["slow"].accepted == 0
    assert response.status_code == 400
    problem = await response.get_json()
    assert (problem["error_code"], problem["parameter"]) == ("invalid_query", "expirytime")
    assert "2024-05-06T07:08:09Z" in problem["detail"]


@pytest.mark.parametrize("expirytime", WRONG)
@pytest.mark.parametrize(
    ("send", "path"),
    [(structured, "$.expirytime"), (batched, "$[0].expirytime"), (binary, "ce-expirytime")],
)
async def test_an_attribute_that_is_no_moment(
    send: Any, path: str, expirytime: str, autojump_clock: MockClock
) -> None:
    """A 400 names the attribute where it stands."""
    async with open_plugins(Slow) as runtime:
        response = await send(client(runtime), expirytime)
        assert runtime.statistics()["slow"].accepted == 0
    assert response.status_code == 400
    problem = await response.get_json()
    assert (problem["error_code"], problem["path"]) == ("invalid_cloud_event", path)


async def test_each_of_a_batch_has_its_own(autojump_clock: MockClock) -> None:
    """Each event of a batch has its own deadline: one expires, and the others do not."""
    events = [cloud_event(calendar(60), 1), cloud_event(calendar(-60), 2), cloud_event(None, 3)]
    async with open_plugins(Slow) as runtime:
        response = await client(runtime).post(
            "/events?wait=true",
            data=json.dumps(events),
            headers={"Content-Type": "application/cloudevents-batch+json"},
        )
        assert runtime.get(Slow).done == [1, 3]
    assert response.status_code == 504
    problem = await response.get_json()
    fates = [outcome["fates"]["slow"] for outcome in problem["outcomes"]]
    assert fates == ["handled", "expired", "handled"]
