"""Ingest by name: `POST /events/{name}`, its requests and its responses."""

from __future__ import annotations

import json
from typing import ClassVar

import attrs
import pytest
import trio
from quart import Response
from quart.typing import TestClientProtocol as Client
from trio.testing import MockClock

from trivet import (
    App,
    Delivery,
    DeliverySettings,
    Event,
    EventPlugin,
    Fate,
    Outcome,
    Status,
    SupervisionSettings,
)
from trivet import current_delivery as envelope
from trivet._web._ingest._publishing import error_fate
from trivet.testing import client, open_plugins


@attrs.frozen
class Line:
    item: str
    count: int


class OrderPlaced(Event):
    order_id: str
    lines: list[Line] = attrs.field(factory=list[Line])


class Ledger(EventPlugin[OrderPlaced]):
    """A subscriber that notes its events."""

    def __init__(self, app: App) -> None:
        self.events: list[OrderPlaced] = []
        self.deliveries: list[Delivery[Event]] = []

    async def handle_event(self, event: OrderPlaced) -> None:
        self.events.append(event)
        self.deliveries.append(envelope())


class Faulty(EventPlugin[OrderPlaced]):
    """A subscriber that fails for every event."""

    async def handle_event(self, event: OrderPlaced) -> None:
        raise RuntimeError("the vault is open")


class Stuck(EventPlugin[OrderPlaced]):
    """A subscriber that never ends its first event; one more waits in the inbox, then it is
    full."""

    delivery: ClassVar[DeliverySettings] = DeliverySettings(buffer=1, overflow="reject")

    async def handle_event(self, event: OrderPlaced) -> None:
        await trio.sleep_forever()


class Forgetful(EventPlugin[OrderPlaced]):
    """A subscriber like `Stuck`, whose full inbox drops events."""

    delivery: ClassVar[DeliverySettings] = DeliverySettings(buffer=1, overflow="drop_newest")

    async def handle_event(self, event: OrderPlaced) -> None:
        await trio.sleep_forever()


class Slow(EventPlugin[OrderPlaced]):
    """A subscriber that takes two minutes for an event."""

    async def handle_event(self, event: OrderPlaced) -> None:
        await trio.sleep(120)


async def post(asking: Client, document: object, query: str = "") -> Response:
    """Post an order."""
    return await asking.post(f"/events/order_placed{query}", json=document)


async def fill(asking: Client) -> None:
    """Post until an inbox of one event is full: one is in flight, one waits."""
    for _ in range(2):
        await post(asking, {"order_id": "filler"})
        await trio.testing.wait_all_tasks_blocked()


async def test_an_accepted_event_is_answered_with_its_id_and_fates(
    autojump_clock: MockClock,
) -> None:
    """JSON becomes the event; 202 names its subscribers and its id."""
    async with open_plugins(Ledger) as runtime:
        response = await post(
            client(runtime), {"order_id": "o-1", "lines": [{"item": "tea", "count": 2}]}
        )
        await trio.testing.wait_all_tasks_blocked()
        ledger = runtime.get(Ledger)
    assert response.status_code == 202
    assert ledger.events == [OrderPlaced("o-1", [Line("tea", 2)])]
    assert await response.get_json() == {
        "id": ledger.deliveries[0].id,
        "event": "order_placed",
        "fates": {"ledger": "queued"},
    }


async def test_an_event_that_nobody_listens_to_is_unrouted() -> None:
    """No subscriber is an outcome too: 202, no fates, and `unrouted`, waited for or not."""
    async with open_plugins(event_types=[OrderPlaced]) as runtime:
        for query in ("", "?wait=true"):
            response = await post(client(runtime), {"order_id": "o-1"}, query)
            assert response.status_code == 202
            document = await response.get_json()
            assert (document["fates"], document["unrouted"]) == ({}, True)
        assert runtime.unrouted["order_placed"] == 2


@pytest.mark.parametrize("media_type", ["application/json; charset=utf-8", "application/x+json"])
async def test_json_by_any_of_its_names(media_type: str, autojump_clock: MockClock) -> None:
    """`application/json`, with parameters or without, and `*+json` are JSON."""
    async with open_plugins(Ledger) as runtime:
        headers = {"Content-Type": media_type}
        response = await client(runtime).post(
            "/events/order_placed", data=b'{"order_id": "o-1"}', headers=headers
        )
    assert response.status_code == 202


@pytest.mark.parametrize("media_type", ["text/plain", "application/cloudevents+json", None])
async def test_another_media_type_is_refused_with_advice(
    media_type: str | None, autojump_clock: MockClock
) -> None:
    """A body of another media type is a 415, whose text names the right ones."""
    headers = {} if media_type is None else {"Content-Type": media_type}
    async with open_plugins(Ledger) as runtime:
        response = await client(runtime).post(
            "/events/order_placed", data=b'{"order_id": "o-1"}', headers=headers
        )
    assert response.status_code == 415
    problem = await response.get_json()
    assert problem["error_code"] == "unsupported_media_type"
    assert "application/json" in problem["detail"]
    assert "CloudEvent to /events" in problem["detail"]


async def test_waiting_for_the_handlers(autojump_clock: MockClock) -> None:
    """With `?wait=true` the answer comes after the handlers: 200 when all of them handled it."""
    async with open_plugins(Ledger) as runtime:
        response = await post(client(runtime), {"order_id": "o-1"}, "?wait=true")
        assert runtime.get(Ledger).events == [OrderPlaced("o-1")]
    assert response.status_code == 200
    assert (await response.get_json())["fates"] == {"ledger": "handled"}


async def test_waiting_answers_with_the_worst_fate(autojump_clock: MockClock) -> None:
    """A waiting publisher gets 500 with both fates when one handler of two fails, and no
    exception."""
    async with open_plugins(Ledger, Faulty) as runtime:
        response = await post(client(runtime), {"order_id": "o-1"}, "?wait=true")
    assert response.status_code == 500
    assert response.mimetype == "application/problem+json"
    problem = await response.get_json()
    assert problem["error_code"] == "handler_failed"
    assert problem["fates"] == {"ledger": "handled", "faulty": "failed"}
    assert b"vault" not in await response.get_data(as_text=False)


async def test_waiting_for_an_event_that_is_refused(autojump_clock: MockClock) -> None:
    """A waiting publisher gets 429 for an event that one subscriber refuses and others handle."""
    async with open_plugins(Ledger, Stuck) as runtime:
        asking = client(runtime)
        await fill(asking)
        response = await post(asking, {"order_id": "o-3"}, "?wait=true")
        assert runtime.get(Ledger).events[-1] == OrderPlaced("o-3")
    assert response.status_code == 429
    assert int(response.headers["Retry-After"]) >= 1
    problem = await response.get_json()
    assert problem["fates"] == {"ledger": "handled", "stuck": "rejected"}


async def test_waiting_for_an_event_that_is_dropped(autojump_clock: MockClock) -> None:
    """A waiting publisher gets 503 for an event that is dropped, with the time of another
    attempt."""
    async with open_plugins(Forgetful) as runtime:
        asking = client(runtime)
        await fill(asking)
        response = await post(asking, {"order_id": "o-3"}, "?wait=true")
    assert response.status_code == 503
    assert "Retry-After" in response.headers
    assert (await response.get_json())["error_code"] == "event_dropped"


async def test_waiting_ends_after_thirty_seconds(autojump_clock: MockClock) -> None:
    """A waiting publisher is told after 30 s how far a slow handler has come."""
    async with open_plugins(Ledger, Slow) as runtime:
        begun = trio.current_time()
        response = await post(client(runtime), {"order_id": "o-1"}, "?wait=true")
        assert trio.current_time() - begun == pytest.approx(30)
    assert response.status_code == 202
    assert (await response.get_json())["fates"] == {"ledger": "handled", "slow": "in_flight"}


@pytest.mark.parametrize(
    ("fates", "fate"),
    [
        ({Fate.HANDLED}, None),
        ({Fate.HANDLED, Fate.EXPIRED}, Fate.EXPIRED),
        ({Fate.DROPPED, Fate.EXPIRED}, Fate.DROPPED),
        ({Fate.DROPPED, Fate.ABANDONED}, Fate.ABANDONED),
        ({Fate.FAILED, Fate.ABANDONED}, Fate.FAILED),
        ({Fate.FAILED, Fate.REJECTED}, Fate.REJECTED),
        ({Fate.FAILED, Fate.IN_FLIGHT}, None),
        (set[Fate](), None),
    ],
)
def test_the_worst_fate_decides(fates: set[Fate], fate: Fate | None) -> None:
    """A waiting publisher is told the worst fate, unless it is too early to say."""
    by_plugin = {f"plugin_{number}": each for number, each in enumerate(fates)}
    assert error_fate([Outcome(Delivery.of(OrderPlaced("o-1")), by_plugin)], waited=True) is fate


async def test_one_refusal_of_two_is_still_accepted(autojump_clock: MockClock) -> None:
    """Each subscriber decides alone: 202 with both fates as long as one has accepted the event."""
    async with open_plugins(Ledger, Stuck) as runtime:
        asking = client(runtime)
        await fill(asking)
        response = await post(asking, {"order_id": "o-3"})
    assert response.status_code == 202
    assert (await response.get_json())["fates"] == {"ledger": "queued", "stuck": "rejected"}


async def test_subscribers_that_have_given_up_are_no_reason_to_try_again() -> None:
    """An event whose subscribers have all given up is a 503, without a time of another attempt."""

    class Gone(EventPlugin[OrderPlaced]):
        supervision = SupervisionSettings(max_restarts=0)

        async def run(self) -> None:
            raise ValueError("gone")

    async with open_plugins(Gone) as runtime:
        await runtime.hosts["gone"].wait_for_status(Status.FAILED)
        response = await client(runtime).post("/events/order_placed", json={"order_id": "1"})
        document = await response.get_json()
    assert (response.status_code, document["error_code"]) == (503, "plugin_unavailable")
    assert document["fates"] == {"gone": "rejected"}
    assert "Retry-After" not in response.headers


async def test_refused_by_everyone(autojump_clock: MockClock) -> None:
    """An event that every subscriber refuses is a 429 with the fates, the id, and when to try
    again."""
    async with open_plugins(Stuck) as runtime:
        asking = client(runtime)
        await fill(asking)
        response = await post(asking, {"order_id": "o-3"})
    assert response.status_code == 429
    assert int(response.headers["Retry-After"]) >= 1
    problem = await response.get_json()
    assert problem["error_code"] == "not_accepted"
    assert problem["title"] == "Too Many Requests"
    assert problem["fates"] == {"stuck": "rejected"}
    assert problem["id"]


@pytest.mark.parametrize(
    ("body", "path", "reason"),
    [
        (b'{"order_id": 7}', "$.order_id", ""),
        (b"{}", "$", "order_id"),
        (b'{"order_id": "o", "lines": [{"item": "tea"}]}', "$.lines[0]", "count"),
        (b'{"order_id": ', "$", ""),
        (b"\xff", "$", ""),
        (b"", "$", ""),
        (b'{"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "$", "nested too deeply"),
    ],
)
async def test_a_document_that_does_not_fit(
    body: bytes, path: str, reason: str, autojump_clock: MockClock
) -> None:
    """A 400 names the path of a fault and its reason; no subscriber gets an event."""
    async with open_plugins(Ledger) as runtime:
        response = await client(runtime).post(
            "/events/order_placed", data=body, headers={"Content-Type": "application/json"}
        )
        assert runtime.statistics()["ledger"].accepted == 0
    assert response.status_code == 400
    problem = await response.get_json()
    assert (problem["error_code"], problem["path"]) == ("invalid_event", path)
    assert problem["detail"]
    assert reason in problem["detail"]


async def test_an_unknown_event(autojump_clock: MockClock) -> None:
    """A 404 for an unknown event has the known names, and the nearest of them."""
    async with open_plugins(Ledger) as runtime:
        response = await client(runtime).post("/events/order_paced", json={})
    assert response.status_code == 404
    problem = await response.get_json()
    assert problem["error_code"] == "unknown_event"
    assert "order_placed" in problem["known"]
    assert "did you mean 'order_placed'?" in problem["detail"]


@pytest.mark.parametrize("announced", [True, False])
async def test_a_body_that_is_too_large(announced: bool, autojump_clock: MockClock) -> None:
    """A body of more than `max_body` bytes is a 413, whether its length was announced or not."""
    body = json.dumps({"order_id": "o" * 1000}).encode()
    headers = {"Content-Type": "application/json"}
    if announced:
        headers["Content-Length"] = str(len(body))
    async with open_plugins(Ledger, max_body=1000) as runtime:
        response = await client(runtime).post("/events/order_placed", data=body, headers=headers)
    assert response.status_code == 413
    problem = await response.get_json()
    assert (problem["error_code"], problem["limit"]) == ("body_too_large", 1000)


async def test_nothing_is_taken_in_once_the_stop_has_begun(autojump_clock: MockClock) -> None:
    """An event is refused with 503 and `Retry-After` while the service stops."""
    async with open_plugins(Ledger) as runtime:
        runtime.stopping.set()
        response = await post(client(runtime), {"order_id": "o-1"})
        assert runtime.statistics()["ledger"].accepted == 0
    assert response.status_code == 503
    assert int(response.headers["Retry-After"]) >= 1
    assert (await response.get_json())["error_code"] == "stopping"


class Patient(Stuck):
    """A subscriber like `Stuck`, for whose room publishers wait for a minute."""

    delivery: ClassVar[DeliverySettings] = DeliverySettings(buffer=1, block_for=60)


async def test_an_event_that_the_stop_overtakes(autojump_clock: MockClock) -> None:
    """An event that waits for room when the stop begins is a 503 as well, not a 429."""
    async with open_plugins(Patient) as runtime:
        asking = client(runtime)
        await fill(asking)

        async def stop() -> None:
            await trio.sleep(5)
            runtime.begin_stop()
            for host in runtime.hosts.values():
                host.stop(drain_until=trio.current_time(), close_until=trio.current_time() + 1)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(stop)
            response = await post(asking, {"order_id": "o-3"})
    assert response.status_code == 503
    problem = await response.get_json()
    assert (problem["error_code"], problem["fates"]) == ("stopping", {"patient": "rejected"})


async def test_wait_is_true_or_false(autojump_clock: MockClock) -> None:
    """A wrong value of `wait` is a mistake that is named, not a guess."""
    async with open_plugins(Ledger) as runtime:
        response = await post(client(runtime), {"order_id": "o-1"}, "?wait=yes")
        assert (await post(client(runtime), {"order_id": "o-1"}, "?wait=false")).status_code == 202
    assert response.status_code == 400
    problem = await response.get_json()
    assert problem["error_code"] == "invalid_query"
    assert "'yes'" in problem["detail"]


async def test_another_method(autojump_clock: MockClock) -> None:
    """A 405 names the allowed methods in `Allow`."""
    async with open_plugins(Ledger) as runtime:
        response = await client(runtime).delete("/events/order_placed")
    assert response.status_code == 405
    assert "POST" in response.headers["Allow"].split(", ")
    assert (await response.get_json())["error_code"] == "method_not_allowed"
