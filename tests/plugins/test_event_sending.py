from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from trivet import Fate, SendingEvent, StartError
from trivet.testing import client, open_plugins

Stored = Callable[[str], Awaitable[list[Any]]]


async def test_an_event_becomes_one_object(store: str, stored: Stored) -> None:
    """The object has the six members that LUNA's third parties know, with times as RFC 3339."""
    event = SendingEvent(
        events=[{"face": 1, "score": 0.5}, {"face": 2, "tags": ["a", None]}],
        handler_id="h1",
        account_id="a1",
        request_id="1700000000,abc",
        create_event_time=datetime(2025, 1, 31, 12, 0, 0, 250_000, UTC),
        end_event_time=datetime(2025, 1, 31, 12, 0, 1, tzinfo=UTC),
    )
    settings = {"event_sending": {"url": store, "bucket": "events"}}
    async with open_plugins("event_sending", settings=settings) as runtime:
        outcome = await runtime.publish(event, wait=True)
    assert outcome.fates == {"event_sending": Fate.HANDLED}
    assert await stored("events") == [
        {
            "handler_id": "h1",
            "account_id": "a1",
            "Luna-Request-Id": "1700000000,abc",
            "events": [{"face": 1, "score": 0.5}, {"face": 2, "tags": ["a", None]}],
            "event_create_time": "2025-01-31T12:00:00.250000Z",
            "event_end_time": "2025-01-31T12:00:01Z",
        }
    ]


async def test_from_a_handler_to_the_store(store: str, stored: Stored) -> None:
    """Events that are posted to a handler before the stop are in the store afterwards."""
    settings = {"event_sending": {"url": store}}
    async with open_plugins("event_sending", "handlers", settings=settings) as runtime:
        for number in range(20):
            await client(runtime).post("/handlers/h1/events", json={"events": [{"n": number}]})
    kept = await stored("plugin_test_bucket")
    assert [each["events"] for each in kept] == [[{"n": number}] for number in range(20)]


async def test_refused_bucket(store: str) -> None:
    """Another answer than 201 and 409 to the bucket fails the start."""
    settings = {"event_sending": {"url": store, "bucket": "no such name"}}
    with pytest.raises(StartError, match="cannot create bucket 'no such name'"):
        async with open_plugins("event_sending", settings=settings):
            pass
