"""`POST /events`: CloudEvents 1.0 from a standard client, and from clumsier ones."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, ClassVar

import attrs
import pytest
import trio
from cloudevents.core.bindings.http import HTTPMessage, to_binary_event, to_structured_event
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given
from hypothesis import strategies as st
from quart import Response
from quart.typing import TestClientProtocol as Client
from trio.testing import MockClock
from werkzeug.http import unquote_header_value

from trivet import App, Delivery, DeliverySettings, Event, EventPlugin, batched
from trivet import current_delivery as envelope
from trivet._web._ingest._cloudevents import unquoted
from trivet.testing import client, open_plugins

STRUCTURED = "application/cloudevents+json"
BATCHED = "application/cloudevents-batch+json"


class PageRead(Event):
    url: str
    words: list[str] = attrs.field(factory=list[str])


class Reader(EventPlugin[PageRead]):
    """A subscriber that notes its events, in their envelopes."""

    def __init__(self, app: App) -> None:
        self.deliveries: list[Delivery[Event]] = []

    async def handle_event(self, event: PageRead) -> None:
        self.deliveries.append(envelope())

    @property
    def ids(self) -> list[str]:
        return [delivery.id for delivery in self.deliveries]


def cloud_event(**changes: Any) -> dict[str, Any]:
    """A CloudEvent in the JSON format; a change to None leaves the member out."""
    event = {
        "specversion": "1.0",
        "id": "e-1",
        "source": "/crawler",
        "type": "page_read",
        "data": {"url": "http://a/"},
    }
    return {name: value for name, value in (event | changes).items() if value is not None}


async def send(asking: Client, message: HTTPMessage, query: str = "") -> Response:
    """Send the headers and the body that the SDK has made."""
    return await asking.post(f"/events{query}", data=message.body, headers=message.headers)


async def send_json(
    asking: Client, document: object, media_type: str = STRUCTURED, query: str = ""
) -> Response:
    """Send a document of one's own."""
    headers = {"Content-Type": media_type}
    return await asking.post(f"/events{query}", data=json.dumps(document), headers=headers)


def batch(*events: CloudEvent) -> HTTPMessage:
    """A batch as an array of the SDK's documents, since it has no batched mode."""
    body = b"[" + b",".join(JSONFormat().write(event) for event in events) + b"]"
    return HTTPMessage({"content-type": BATCHED}, body)


@pytest.mark.parametrize("write", [to_structured_event, to_binary_event, batch])
async def test_the_standard_client(
    write: Callable[[CloudEvent], HTTPMessage], autojump_clock: MockClock
) -> None:
    """An event of the SDK arrives with its id, source, time, key and trace, in each mode."""
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    moment = datetime(2024, 5, 6, 7, 8, 9, tzinfo=timezone(timedelta(hours=2)))
    attributes = {
        "id": 'a "b" %ü',
        "source": "/crawler/ü",
        "type": "page_read",
        "time": moment,
        "subject": "page",
        "partitionkey": "customer 7",
        "traceparent": trace,
        "datacontenttype": "application/json",
    }
    event = CloudEvent(attributes, {"url": "http://a/", "words": ["ä", "b"]})
    async with open_plugins(Reader) as runtime:
        response = await send(client(runtime), write(event), "?wait=true")
        (delivery,) = runtime.get(Reader).deliveries
    assert response.status_code == 200
    assert delivery.event == PageRead("http://a/", ["ä", "b"])
    assert (delivery.id, delivery.source) == ('a "b" %ü', "/crawler/ü")
    assert (delivery.time, delivery.key) == (moment, "customer 7")
    assert delivery.traceparent == trace


@pytest.mark.parametrize("write", [to_structured_event, to_binary_event])
async def test_the_shortest_event(
    write: Callable[[CloudEvent], HTTPMessage], autojump_clock: MockClock
) -> None:
    """An event without the optional attributes, not even a content type, is JSON from now."""
    before = datetime.now(UTC)
    event = CloudEvent({"type": "page_read", "source": "/crawler"}, {"url": "http://a/"})
    async with open_plugins(Reader) as runtime:
        response = await send(client(runtime), write(event), "?wait=true")
        (delivery,) = runtime.get(Reader).deliveries
    assert response.status_code == 200
    assert (delivery.id, delivery.key) == (event.get_id(), None)
    assert before <= delivery.time <= datetime.now(UTC)


async def test_the_subject_is_the_key_without_a_partition_key(autojump_clock: MockClock) -> None:
    """The key of an event is its `partitionkey`, or else its `subject`."""
    async with open_plugins(Reader) as runtime:
        await send_json(client(runtime), cloud_event(subject="page 7"), query="?wait=true")
        (delivery,) = runtime.get(Reader).deliveries
    assert delivery.key == "page 7"


def documents(count: int) -> list[dict[str, Any]]:
    """JSON documents of 1 to 30 kB."""
    chance = random.Random(7)
    letters = 'abcdefghijklmnopqrstuvwxyzäöü€"\\\n'
    return [
        {
            "url": f"http://host/{number}",
            "words": ["".join(chance.choices(letters, k=20)) for _ in range(chance.choice(sizes))],
        }
        for number, sizes in enumerate([(40, 200, 900)] * count)
    ]


async def test_hundreds_of_documents_through_each_mode(autojump_clock: MockClock) -> None:
    """Each of 300 documents is handled once for each mode, in order, and the counters add up."""
    pages = documents(300)

    def events(source: str) -> list[CloudEvent]:
        return [
            CloudEvent({"id": str(number), "type": "page_read", "source": source}, page)
            for number, page in enumerate(pages)
        ]

    async with open_plugins(Reader) as runtime:
        asking = client(runtime)
        for page in pages:
            assert (await asking.post("/events/page_read", json=page)).status_code == 202
        for event in events("/structured"):
            assert (await send(asking, to_structured_event(event))).status_code == 202
        for event in events("/binary"):
            assert (await send(asking, to_binary_event(event))).status_code == 202
        last = events("/batched")
        for start in range(0, len(last), 100):
            response = await send(asking, batch(*last[start : start + 100]), "?wait=true")
            assert response.status_code == 200
        deliveries = runtime.get(Reader).deliveries
        statistics = runtime.statistics()["reader"]
    assert [delivery.event for delivery in deliveries] == [
        PageRead(page["url"], page["words"]) for page in pages * 4
    ]
    assert [delivery.id for delivery in deliveries[300:]] == [str(n) for n in range(300)] * 3
    assert (statistics.accepted, statistics.handled) == (1200, 1200)


@pytest.mark.parametrize(
    ("changes", "path", "reason"),
    [
        ({"id": None}, "$", "id"),
        ({"source": ""}, "$.source", ""),
        ({"type": 7}, "$.type", ""),
        ({"specversion": "0.3"}, "$.specversion", "'1.0'"),
        ({"time": "2024-05-06T07:08:09"}, "$.time", ""),
        ({"time": "yesterday"}, "$.time", ""),
        ({"data": None}, "$", "data is missing"),
        ({"data_base64": "e30="}, "$", "exclude each other"),
        ({"data": None, "data_base64": "§"}, "$.data_base64", "not Base64"),
    ],
)
async def test_a_malformed_cloudevent(
    changes: dict[str, Any], path: str, reason: str, autojump_clock: MockClock
) -> None:
    """A 400 names the missing or wrong attribute, alone and, with its index, in a batch."""
    async with open_plugins(Reader) as runtime:
        asking = client(runtime)
        alone = await send_json(asking, cloud_event(**changes))
        second = await send_json(asking, [cloud_event(), cloud_event(**changes)], BATCHED)
        assert runtime.statistics()["reader"].accepted == 0
    for response, place in ((alone, path), (second, path.replace("$", "$[1]"))):
        assert response.status_code == 400
        problem = await response.get_json()
        assert (problem["error_code"], problem["path"]) == ("invalid_cloud_event", place)
        assert problem["detail"]
        assert reason in problem["detail"]


@pytest.mark.parametrize(
    ("event", "path"),
    [
        (cloud_event(data={"url": 7}), "data.url"),
        (
            cloud_event(data=None, data_base64=base64.b64encode(b'{"url": 7}').decode()),
            "data_base64.url",
        ),
    ],
)
async def test_data_that_does_not_fit(
    event: dict[str, Any], path: str, autojump_clock: MockClock
) -> None:
    """The path of a fault in the payload begins at the document that was sent."""
    async with open_plugins(Reader) as runtime:
        asking = client(runtime)
        alone = await send_json(asking, event)
        second = await send_json(asking, [cloud_event(), event], BATCHED)
        assert runtime.statistics()["reader"].accepted == 0
    for response, place in ((alone, f"$.{path}"), (second, f"$[1].{path}")):
        assert response.status_code == 400
        problem = await response.get_json()
        assert (problem["error_code"], problem["path"]) == ("invalid_event", place)
        assert place in problem["detail"]


async def test_data_in_base64(autojump_clock: MockClock) -> None:
    """`data_base64` may hold the JSON, as in events that were bytes to their sender."""
    event = CloudEvent({"type": "page_read", "source": "/crawler"}, b'{"url": "http://a/"}')
    async with open_plugins(Reader) as runtime:
        response = await send(client(runtime), to_structured_event(event), "?wait=true")
        (delivery,) = runtime.get(Reader).deliveries
    assert response.status_code == 200
    assert delivery.event == PageRead("http://a/")


@pytest.mark.parametrize(
    ("headers", "path", "reason"),
    [
        ({"ce-id": ""}, "ce-id", ""),
        ({"ce-specversion": "2.0"}, "ce-specversion", "'1.0'"),
        ({"ce-time": "2024-05-06T07:08:09"}, "ce-time", ""),
        ({"ce-id": "%ff"}, "ce-id", "UTF-8"),
        ({"ce-source": None}, "ce-*", "ce-source"),
    ],
)
async def test_wrong_headers_in_binary_mode(
    headers: dict[str, str | None], path: str, reason: str, autojump_clock: MockClock
) -> None:
    """A 400 names the header in binary mode."""
    whole: dict[str, str | None] = {
        "Content-Type": "application/json",
        "ce-specversion": "1.0",
        "ce-id": "e-1",
        "ce-source": "/crawler",
        "ce-type": "page_read",
    }
    sent = {name: value for name, value in (whole | headers).items() if value is not None}
    async with open_plugins(Reader) as runtime:
        response = await client(runtime).post("/events", data=b'{"url": "u"}', headers=sent)
    assert response.status_code == 400
    problem = await response.get_json()
    assert (problem["error_code"], problem["path"]) == ("invalid_cloud_event", path)
    assert problem["detail"]
    assert reason in problem["detail"]


async def test_binary_mode_without_data(autojump_clock: MockClock) -> None:
    """An empty body is no JSON, which is a 400."""
    event = CloudEvent({"type": "page_read", "source": "/crawler"})
    async with open_plugins(Reader) as runtime:
        response = await send(client(runtime), to_binary_event(event))
    assert response.status_code == 400
    assert "empty" in (await response.get_json())["detail"]


async def test_quoted_headers(autojump_clock: MockClock) -> None:
    """A header's value may be a quoted string; what is in it is percent-decoded once."""
    headers = {
        "Content-Type": "application/json",
        "CE-SpecVersion": "1.0",
        "CE-Id": '"a%20\\"b\\"%2525"',
        "CE-Source": "/crawler",
        "CE-Type": "page_read",
    }
    async with open_plugins(Reader) as runtime:
        response = await client(runtime).post(
            "/events?wait=true", data=b'{"url": "u"}', headers=headers
        )
        assert runtime.get(Reader).ids == ['a "b"%25']
    assert response.status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "application/json"},
        {"Content-Type": "text/plain", "ce-id": "e-1"},
        {"Content-Type": "application/cloudevents+avro"},
        {},
    ],
)
async def test_a_request_in_no_mode_is_refused_with_advice(
    headers: dict[str, str], autojump_clock: MockClock
) -> None:
    """A 415 names the three modes, and the path for plain JSON."""
    async with open_plugins(Reader) as runtime:
        response = await client(runtime).post("/events", data=b"{}", headers=headers)
    assert response.status_code == 415
    detail = (await response.get_json())["detail"]
    for advice in (STRUCTURED, BATCHED, "ce- headers", "/events/{name}"):
        assert advice in detail


async def test_data_that_is_not_json(autojump_clock: MockClock) -> None:
    """An event whose data is not JSON, as it says, is a 415 with the path."""
    async with open_plugins(Reader) as runtime:
        event = cloud_event(datacontenttype="text/xml", data="<page/>")
        response = await send_json(client(runtime), [cloud_event(), event], BATCHED)
    assert response.status_code == 415
    problem = await response.get_json()
    assert problem["path"] == "$[1].datacontenttype"


@pytest.mark.parametrize("media_type", [STRUCTURED, BATCHED])
@pytest.mark.parametrize("body", [b"", b"{", b"7", b"[" * 100_000 + b"]" * 100_000])
async def test_documents_that_are_none(
    media_type: str, body: bytes, autojump_clock: MockClock
) -> None:
    """A document that is truncated, of another type, or nested without end is a 400."""
    async with open_plugins(Reader) as runtime:
        response = await client(runtime).post(
            "/events", data=body, headers={"Content-Type": media_type}
        )
    assert response.status_code == 400
    assert (await response.get_json())["error_code"] == "invalid_cloud_event"


@pytest.mark.parametrize("media_type", [STRUCTURED, BATCHED])
@pytest.mark.parametrize("data", ["DEEP", {"unknown": "DEEP"}], ids=repr)
async def test_data_that_is_nested_too_deeply(
    media_type: str, data: object, autojump_clock: MockClock
) -> None:
    """Depth inside the payload costs 400 as well, not the process."""
    depth = 100_000
    event = cloud_event(data=data)
    document = json.dumps([event] if media_type == BATCHED else event)
    body = document.replace('"DEEP"', "[" * depth + "]" * depth)
    async with open_plugins(Reader) as runtime:
        response = await client(runtime).post(
            "/events", data=body, headers={"Content-Type": media_type}
        )
    assert response.status_code == 400
    assert "nested too deeply" in (await response.get_json())["detail"]


async def test_an_unknown_type(autojump_clock: MockClock) -> None:
    """A 404 has the known names, the nearest, and the place in the batch; nothing is published."""
    async with open_plugins(Reader) as runtime:
        events = [cloud_event(), cloud_event(type="page_red")]
        response = await send_json(client(runtime), events, BATCHED)
        assert runtime.statistics()["reader"].accepted == 0
    assert response.status_code == 404
    problem = await response.get_json()
    assert (problem["error_code"], problem["path"]) == ("unknown_event", "$[1].type")
    assert "page_read" in problem["known"]
    assert "did you mean 'page_read'?" in problem["detail"]


async def test_the_answer_to_a_batch(autojump_clock: MockClock) -> None:
    """A 202 has one outcome for each event of a batch, in their order."""
    async with open_plugins(Reader) as runtime:
        events = [cloud_event(id=str(number)) for number in range(3)]
        response = await send_json(client(runtime), events, BATCHED)
    assert response.status_code == 202
    assert await response.get_json() == [
        {"id": str(number), "event": "page_read", "fates": {"reader": "queued"}}
        for number in range(3)
    ]


async def test_an_empty_batch(autojump_clock: MockClock) -> None:
    """A batch may be empty."""
    async with open_plugins(Reader) as runtime:
        response = await send_json(client(runtime), [], BATCHED)
    assert (response.status_code, await response.get_json()) == (202, [])


class Narrow(EventPlugin[PageRead]):
    """A subscriber with room for one event, which refuses others at once."""

    delivery: ClassVar[DeliverySettings] = DeliverySettings(buffer=1, overflow="reject")

    async def handle_event(self, event: PageRead) -> None:
        await trio.sleep(1)


async def test_a_batch_of_which_some_are_refused(autojump_clock: MockClock) -> None:
    """A batch is a 202 if one event was accepted, and a 429 with all outcomes if none was."""
    async with open_plugins(Narrow) as runtime:
        asking = client(runtime)
        events = [cloud_event(id=str(number)) for number in range(6)]
        await send_json(asking, cloud_event(id="in flight"))
        await trio.testing.wait_all_tasks_blocked()
        some = await send_json(asking, events[:3], BATCHED)  # One event waits in the inbox.
        none = await send_json(asking, events[3:], BATCHED)
    assert some.status_code == 202
    assert [outcome["fates"] for outcome in await some.get_json()] == [
        {"narrow": "queued"},
        {"narrow": "rejected"},
        {"narrow": "rejected"},
    ]
    assert none.status_code == 429
    assert int(none.headers["Retry-After"]) >= 1
    problem = await none.get_json()
    assert [outcome["id"] for outcome in problem["outcomes"]] == ["3", "4", "5"]


class Binder(EventPlugin[PageRead]):
    """A subscriber that handles events in batches of ten, or those of a minute."""

    async def run(self) -> None:
        async for _ in batched(self.inbox, size=10, within=60):
            pass


async def test_waiting_for_a_batch(autojump_clock: MockClock) -> None:
    """A batch is published as a whole before its events are waited for: ten make one batch."""
    async with open_plugins(Binder) as runtime:
        begun = trio.current_time()
        events = [cloud_event(id=str(number)) for number in range(10)]
        response = await send_json(client(runtime), events, BATCHED, "?wait=true")
        assert trio.current_time() == begun
    assert response.status_code == 200
    assert {outcome["fates"]["binder"] for outcome in await response.get_json()} == {"handled"}


async def test_waiting_for_a_batch_with_a_failure(autojump_clock: MockClock) -> None:
    """The worst fate of a batch decides, and every outcome is in the response."""

    class Picky(EventPlugin[PageRead]):
        async def handle_event(self, event: PageRead) -> None:
            if event.url == "bad":
                raise ValueError(event.url)

    async with open_plugins(Picky) as runtime:
        events = [cloud_event(), cloud_event(id="e-2", data={"url": "bad"})]
        response = await send_json(client(runtime), events, BATCHED, "?wait=true")
    assert response.status_code == 500
    problem = await response.get_json()
    assert [outcome["fates"]["picky"] for outcome in problem["outcomes"]] == ["handled", "failed"]


async def test_no_cloudevents_once_the_stop_has_begun(autojump_clock: MockClock) -> None:
    """A CloudEvent is refused with 503 and `Retry-After` while the service stops."""
    async with open_plugins(Reader) as runtime:
        runtime.stopping.set()
        response = await send_json(client(runtime), cloud_event())
    assert response.status_code == 503
    assert "Retry-After" in response.headers


@given(st.text(st.sampled_from('"\\a é')))
def test_a_quoted_header_is_read_as_werkzeug_reads_it(value: str) -> None:
    """A quoted string loses its quotes and backslashes, and nothing else changes."""
    assert unquoted(value) == unquote_header_value(value)
