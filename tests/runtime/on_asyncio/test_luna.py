"""LUNA's three example plugins, ported by renaming, against a real server."""

from __future__ import annotations

import gc
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import trio
from aiohttp import web
from structlog.testing import capture_logs
from trio.testing import MockClock

from trivet import (
    App,
    AsyncioPlugin,
    BackgroundPlugin,
    Fate,
    MonitoringEvent,
    MonitoringPoint,
    SendingEvent,
    StartError,
)
from trivet.testing import client, open_plugins

LUNA = Path(__file__).with_name("luna")


class ThirdParty(AsyncioPlugin, BackgroundPlugin):
    """A bucket store on aiohttp, at a free port of loopback; itself a plugin on asyncio."""

    refuses_with: int | None = None

    def __init__(self, app: App) -> None:
        super().__init__(app)
        self.url = ""
        self.buckets: dict[str, list[Any]] = {}

    async def initialize(self) -> None:
        server = web.Application()
        server.router.add_post("/1/buckets", self._create)
        server.router.add_post("/1/buckets/{bucket}/objects", self._add)
        self._runner = web.AppRunner(server)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        host, port, *_ = self._runner.addresses[0]
        self.url = f"http://{host}:{port}/1/buckets"

    async def close(self) -> None:
        await self._runner.cleanup()

    async def _create(self, request: web.Request) -> web.Response:
        if self.refuses_with is not None:
            return web.json_response({"error": "no room"}, status=self.refuses_with)
        known = request.query["bucket"] in self.buckets
        self.buckets.setdefault(request.query["bucket"], [])
        return web.json_response({}, status=409 if known else 201)

    async def _add(self, request: web.Request) -> web.Response:
        self.buckets[request.match_info["bucket"]].append(await request.json())
        return web.json_response({}, status=201)


def point(number: int) -> MonitoringPoint:
    """A point with a number of its own."""
    fields: dict[str, str | int | float] = {"request_id": "r-1", "number": number}
    return MonitoringPoint("requests", datetime.now(UTC), {"route": "GET:/tea"}, fields)


async def test_monitoring() -> None:
    """An aiohttp session is opened in `initialize`, used by the callback, closed in `close`."""
    async with open_plugins(ThirdParty) as outside:
        third_party = outside.get(ThirdParty)
        settings = {"request_monitoring_plugin": {"url": third_party.url}}
        plugins = open_plugins("request_monitoring", directory=LUNA, settings=settings)
        with capture_logs() as logs:
            async with plugins as runtime:
                for points in ([point(1), point(2)], [], [point(3)]):
                    outcome = await runtime.publish(MonitoringEvent(points), wait=True)
                    assert outcome.worst is Fate.HANDLED
    assert [log for log in logs if log["log_level"] in ("warning", "error")] == []
    assert [log["event"] for log in logs if log["event"] == "201"] == ["201", "201"]
    assert third_party.buckets == {
        "plugin_test_bucket": [
            {"tags": {"route": "GET:/tea"}, "fields": {"request_id": "r-1", "number": number}}
            for number in (1, 3)
        ]
    }


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_bucket_that_is_refused_fails_the_start() -> None:
    """An error of `initialize` on asyncio is the reason of the failed start."""
    async with open_plugins(ThirdParty, settings={"third_party": {"refuses_with": 507}}) as outside:
        settings = {"request_monitoring_plugin": {"url": outside.get(ThirdParty).url}}
        with pytest.raises(StartError, match="failed create bucket, plugin_test_bucket"):
            async with open_plugins("request_monitoring", directory=LUNA, settings=settings):
                pass
    gc.collect()  # Of LUNA's example that does not close what it has opened.


async def test_event_sending() -> None:
    """Each event is posted in a session of its own; the bucket may exist already."""
    moment = datetime(2026, 3, 1, 12, tzinfo=UTC)
    async with open_plugins(ThirdParty) as outside:
        third_party = outside.get(ThirdParty)
        third_party.buckets["plugin_test_bucket"] = []
        settings = {"event_sending": {"url": third_party.url}}
        async with open_plugins("event_sending", directory=LUNA, settings=settings) as runtime:
            event = SendingEvent([{"face": 1}], "h-1", "a-1", "r-1", moment, moment)
            outcome = await runtime.publish(event, wait=True)
            assert outcome.worst is Fate.HANDLED
    (sent,) = third_party.buckets["plugin_test_bucket"]
    assert sent["events"] == [{"face": 1}]
    assert (sent["handler_id"], sent["account_id"], sent["Luna-Request-Id"]) == (
        "h-1",
        "a-1",
        "r-1",
    )
    assert sent["event_create_time"] == "2026-03-01 12:00:00+00:00"
    assert json.dumps(sent)


async def test_background(
    autojump_clock: MockClock,
) -> None:
    """A task goes on after `run` has returned, and ends in `close`; the route answers 418."""
    with capture_logs() as logs:
        async with open_plugins("teapot", directory=LUNA) as runtime:
            answer = await client(runtime).get("/teapot")
            assert (answer.status_code, answer.mimetype) == (418, "text/plain")
            await trio.sleep(101.5)
            lines = [log["event"] for log in logs if "water" in log["event"]]
            assert lines[:2] == ["I boil water, temperature: 1", "I boil water, temperature: 2"]
            assert lines[99:] == ["boiling water is ready, would you care for a cup of tea?"] * 2
    assert [log for log in logs if log["log_level"] in ("warning", "error")] == []
