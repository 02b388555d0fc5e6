from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import attrs
import msgspec
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trivet import EventPlugin, Runtime, SendingEvent
from trivet.testing import client, open_plugins

BODY = {"events": [{"face": 1}, {"face": 2}]}


@attrs.frozen
class Generated:
    """The right body, from which msgspec makes its message about a wrong one."""

    events: list[dict[str, Any]]


class Seen(EventPlugin[SendingEvent]):
    """Keeps the events."""

    async def initialize(self) -> None:
        self.events: list[SendingEvent] = []

    async def handle_event(self, event: SendingEvent) -> None:
        self.events.append(event)


class Stuck(EventPlugin[SendingEvent]):
    """Never gets past its first event."""

    async def handle_event(self, event: SendingEvent) -> None:
        await trio.sleep_forever()


async def fill(runtime: Runtime) -> None:
    """Give `Stuck` an event to handle, and one for its inbox that has no room for more."""
    for _ in range(2):
        answer = await client(runtime).post("/handlers/h1/events", json=BODY)
        assert answer.status_code == 202
        await wait_all_tasks_blocked()


async def test_published_event(autojump_clock: MockClock) -> None:
    """A request becomes one sending event, with its events, its handler and its client."""
    begun = datetime.now(UTC)
    headers = {"Luna-Request-Id": "1700000000,abc", "Luna-Account-Id": "a1"}
    async with open_plugins("handlers", Seen) as runtime:
        answer = await client(runtime).post("/handlers/h1/events", json=BODY, headers=headers)
        document = await answer.get_json()
        await wait_all_tasks_blocked()
        (event,) = runtime.get(Seen).events
    assert (answer.status_code, document["fates"]) == (202, {"seen": "queued"})
    assert event.events == BODY["events"]
    assert (event.handler_id, event.account_id) == ("h1", "a1")
    assert event.request_id == "1700000000,abc"
    assert begun <= event.create_event_time <= event.end_event_time <= datetime.now(UTC)


async def test_request_without_headers(autojump_clock: MockClock) -> None:
    """A request without headers gets an id, which the answer returns; its account is empty."""
    async with open_plugins("handlers", Seen) as runtime:
        answer = await client(runtime).post("/handlers/h1/events", json=BODY)
        await wait_all_tasks_blocked()
        (event,) = runtime.get(Seen).events
    assert event.request_id == answer.headers["Luna-Request-Id"]
    assert event.account_id == "none"


@pytest.mark.parametrize(
    "body",
    [
        b'{"events": 3}',
        b'{"events": [{}, 3]}',
        b"{}",
        b"[]",
        b'{"events"',
        b'{"events": [{"a": "\xff"}]}',
        b'{"events": [{"a": ' + b"[" * 100_000,
    ],
)
async def test_a_wrong_body_is_explained(body: bytes, autojump_clock: MockClock) -> None:
    """A wrong body is answered 400 with the decoder's message, and nothing is published."""
    with pytest.raises((ValueError, RecursionError)) as refusal:
        msgspec.json.decode(body, type=Generated)
    async with open_plugins("handlers", Seen) as runtime:
        answer = await client(runtime).post("/handlers/h1/events", data=body)
        await wait_all_tasks_blocked()
        assert (answer.status_code, runtime.get(Seen).events) == (400, [])
    assert (await answer.get_json(force=True))["detail"] == str(refusal.value)


async def test_refused_by_all(autojump_clock: MockClock) -> None:
    """A full inbox is answered 429, with Retry-After and the fate."""
    settings = {"stuck": {"delivery": {"buffer": 1, "overflow": "reject"}}}
    async with open_plugins("handlers", Stuck, settings=settings) as runtime:
        await fill(runtime)
        answer = await client(runtime).post("/handlers/h1/events", json=BODY)
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "1")
    assert (await answer.get_json())["fates"] == {"stuck": "rejected"}


async def test_accepted_by_one(autojump_clock: MockClock) -> None:
    """The answer is 202 with each fate where one subscriber accepts and another refuses."""
    settings = {"stuck": {"delivery": {"buffer": 1, "overflow": "reject"}}}
    async with open_plugins("handlers", Stuck, Seen, settings=settings) as runtime:
        await fill(runtime)
        answer = await client(runtime).post("/handlers/h1/events", json=BODY)
    assert answer.status_code == 202
    assert (await answer.get_json())["fates"] == {"stuck": "rejected", "seen": "queued"}


async def test_no_subscriber(autojump_clock: MockClock) -> None:
    """An event without a subscriber is answered 202, with no fates."""
    async with open_plugins("handlers") as runtime:
        answer = await client(runtime).post("/handlers/h1/events", json=BODY)
        assert (answer.status_code, (await answer.get_json())["fates"]) == (202, {})
        assert runtime.unrouted["sending_event"] == 1
