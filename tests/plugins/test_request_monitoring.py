from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from quart.typing import ResponseReturnValue
from structlog.testing import capture_logs

from trivet import BackgroundPlugin, Fate, MonitoringEvent, MonitoringPoint, StartError, route
from trivet.testing import client, open_plugins, serving

Stored = Callable[[str], Awaitable[list[Any]]]


class FullStore(BackgroundPlugin):
    """Has every bucket, and no room for objects that are posted first."""

    refusals: int = 1

    @route("/1/buckets", methods=["POST"])
    async def create(self) -> ResponseReturnValue:
        return {}, 409

    @route("/1/buckets/<bucket>/objects", methods=["POST"])
    async def add(self, bucket: str) -> ResponseReturnValue:
        self.refusals -= 1
        return {"bucket": bucket}, 507 if self.refusals >= 0 else 201


def point(number: int) -> MonitoringPoint:
    """A point that can be told from others."""
    tags: dict[str, str | int | float] = {"route": "GET:/tea", "status_code": 200}
    fields: dict[str, str | int | float] = {"number": number, "execution_time": 0.25}
    return MonitoringPoint("requests", datetime.now(UTC), tags, fields)


async def test_every_point_becomes_an_object(store: str, stored: Stored) -> None:
    """Each point of an event is posted on its own, in order, as its tags and fields."""
    settings = {"request_monitoring": {"url": store}}
    async with open_plugins("request_monitoring", settings=settings) as runtime:
        outcome = await runtime.publish(MonitoringEvent([point(1), point(2)]), wait=True)
    assert outcome.fates == {"request_monitoring": Fate.HANDLED}
    assert await stored("plugin_test_bucket") == [
        {
            "tags": {"route": "GET:/tea", "status_code": 200},
            "fields": {"number": number, "execution_time": 0.25},
        }
        for number in (1, 2)
    ]


async def test_requests_of_the_service_end_in_the_store(store: str, stored: Stored) -> None:
    """The points of a request to the service are in the store once the service has stopped."""
    settings = {"request_monitoring": {"url": store, "bucket": "measured"}}
    plugins = ("request_monitoring", "teapot")
    async with open_plugins(*plugins, settings=settings, service="tea-house") as runtime:
        await client(runtime).get("/teapot", headers={"Luna-Request-Id": "1700000000,abc"})
    requests, errors = await stored("measured")
    assert requests["tags"] == {
        "service": "tea-house",
        "account_id": "none",
        "route": "GET:/teapot",
        "status_code": 418,
    }
    assert requests["fields"]["request_id"] == "1700000000,abc"
    assert errors["fields"]["error_code"] == "http_418"


async def test_a_bucket_that_exists_is_used(store: str, stored: Stored) -> None:
    """The store's 409 is as good as its 201: a second program adds to the same bucket."""
    settings = {"request_monitoring": {"url": store}}
    for number in (1, 2):
        async with open_plugins("request_monitoring", settings=settings) as runtime:
            await runtime.publish(MonitoringEvent([point(number)]))
    numbers = [each["fields"]["number"] for each in await stored("plugin_test_bucket")]
    assert numbers == [1, 2]


async def test_refused_bucket(store: str) -> None:
    """Another answer than 201 and 409 fails the start, with the answer in the message."""
    settings = {"request_monitoring": {"url": store, "bucket": "no such name"}}
    with pytest.raises(StartError, match=r"cannot create bucket 'no such name' .*: 400, .*bucket"):
        async with open_plugins("request_monitoring", settings=settings):
            pass


async def test_missing_store() -> None:
    """A missing store fails the start, with an error that names the plugin."""
    settings = {"request_monitoring": {"url": "http://127.0.0.1:9/1/buckets"}}
    with pytest.raises(StartError, match="'request_monitoring' did not start: ConnectError"):
        async with open_plugins("request_monitoring", settings=settings):
            pass


async def test_refused_object() -> None:
    """An answer that is not a 2xx fails that event alone; the next one is handled."""
    async with open_plugins(FullStore) as full, serving(full) as url:
        settings = {"request_monitoring": {"url": f"{url}/1/buckets"}}
        async with open_plugins("request_monitoring", settings=settings) as runtime:
            with capture_logs() as logs:
                first = await runtime.publish(MonitoringEvent([point(1), point(2)]), wait=True)
            second = await runtime.publish(MonitoringEvent([point(3)]), wait=True)
            statistics = runtime.statistics()["request_monitoring"]
    assert (first.worst, second.worst) == (Fate.FAILED, Fate.HANDLED)
    assert (statistics.failed, statistics.handled) == (1, 1)
    assert [(log["event"], log["event_id"]) for log in logs if log["log_level"] == "error"] == [
        ("event failed", first.id)
    ]
