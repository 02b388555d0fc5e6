from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest
import trio
from quart import request
from quart.typing import ResponseReturnValue
from structlog.testing import capture_logs

from trivet import (
    BackgroundPlugin,
    MonitoringEvent,
    MonitoringPoint,
    Runtime,
    ShutdownSettings,
    StartError,
    route,
)
from trivet.testing import client, open_plugins, serving

Stored = Callable[[str], Awaitable[list[Any]]]
BUCKET = "plugin_test_batches"


class OddStore(BackgroundPlugin):
    """Refuses the first posts, or keeps the first ones waiting for their answer."""

    refuse: int = 0
    hang: int = 0
    seconds: float = math.inf

    async def initialize(self) -> None:
        self.posted = 0
        self.hanging = trio.Event()
        self.objects: list[Any] = []

    @route("/1/buckets", methods=["POST"])
    async def create(self) -> ResponseReturnValue:
        return {}, 201

    @route("/1/buckets/<bucket>/objects", methods=["POST"])
    async def add(self, bucket: str) -> ResponseReturnValue:
        self.posted += 1
        number = self.posted
        if number <= self.refuse:
            return {"bucket": bucket}, 507
        self.objects.append(await request.get_json())
        if number <= self.hang:
            self.hanging.set()
            await trio.sleep(self.seconds)
        return {}, 201


def settings(store: str, **batcher: object) -> dict[str, dict[str, object]]:
    """The batcher's settings: where its store is, and others."""
    return {"batcher": {"url": store, **batcher}}


async def publish(runtime: Runtime, numbers: range) -> None:
    """Publish points in events of two."""
    points = [
        MonitoringPoint("test", datetime(2025, 1, 31, tzinfo=UTC), {}, {"number": number})
        for number in numbers
    ]
    for begin in range(0, len(points), 2):
        await runtime.publish(MonitoringEvent(points[begin : begin + 2]), wait=True)


def numbers_of(batches: list[Any]) -> list[list[int]]:
    """The numbers that `publish` gave to the points of each batch."""
    return [[point["fields"]["number"] for point in batch["points"]] for batch in batches]


async def points_sent(runtime: Runtime, number: int) -> None:
    """Wait until a number of points are sent. A question by HTTP would add points."""
    batcher: Any = runtime.hosts["batcher"].plugin
    with trio.fail_after(60):
        while True:
            if (await batcher.totals())["points_sent"] >= number:
                return
            await trio.sleep(0.01)


async def test_a_full_batch_is_sent(store: str, stored: Stored) -> None:
    """Points of several events leave as one object as soon as there are `size` of them."""
    async with open_plugins("batching", settings=settings(store, size=5, within=60)) as runtime:
        await publish(runtime, range(12))
        await points_sent(runtime, 10)
        answer = await client(runtime).get("/batches")
        kept = await stored(BUCKET)
    assert numbers_of(kept) == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
    assert kept[0]["points"][0] == {
        "series": "test",
        "time": "2025-01-31T00:00:00Z",
        "tags": {},
        "fields": {"number": 0},
    }
    assert await answer.get_json() == {
        "batches_sent": 2,
        "points_sent": 10,
        "points_failed": 0,
        "points_waiting": 2,
    }


async def test_an_old_batch_is_sent(store: str, stored: Stored) -> None:
    """A batch that is not full is sent `within` seconds after its first point, and not before."""
    async with open_plugins("batching", settings=settings(store, within=0.2)) as runtime:
        begun = trio.current_time()
        await publish(runtime, range(2))
        await points_sent(runtime, 2)
        assert trio.current_time() - begun >= 0.2
        assert numbers_of(await stored(BUCKET)) == [[0, 1]]


async def test_a_stop_sends_the_rest(store: str, stored: Stored) -> None:
    """Points that wait at the stop, in inbox or batch, are all stored, once and in order."""
    async with open_plugins("batching", settings=settings(store, size=4, within=60)) as runtime:
        for number in range(50):
            point = MonitoringPoint("test", datetime.now(UTC), {}, {"number": number})
            await runtime.publish(MonitoringEvent([point]))
    batches = numbers_of(await stored(BUCKET))
    assert [number for batch in batches for number in batch] == list(range(50))
    assert [len(batch) for batch in batches] == [4] * 12 + [2]


async def test_refused_batch() -> None:
    """A refused batch is counted and logged, and costs no other batch."""
    refusing = {"odd_store": {"refuse": 1}}
    async with open_plugins(OddStore, settings=refusing) as odd, serving(odd) as url:
        wanted = settings(f"{url}/1/buckets", size=2, within=60)
        with capture_logs() as logs:
            async with open_plugins("batching", settings=wanted) as runtime:
                await publish(runtime, range(5))
                await points_sent(runtime, 2)
                answer = await client(runtime).get("/batches")
        assert numbers_of(odd.get(OddStore).objects[:1]) == [[2, 3]]
    assert await answer.get_json() == {
        "batches_sent": 1,
        "points_sent": 2,
        "points_failed": 2,
        "points_waiting": 1,
    }
    failed = [log for log in logs if log["event"] == "batch failed"]
    assert [log["points"] for log in failed] == [2]


async def test_a_stop_lets_a_post_end() -> None:
    """A batch that is being posted when the stop begins is stored once, and so are later points."""
    hanging = {"odd_store": {"hang": 1, "seconds": 0.3}}
    async with open_plugins(OddStore, settings=hanging) as odd, serving(odd) as url:
        store = odd.get(OddStore)
        wanted = settings(f"{url}/1/buckets", size=2, within=60)
        async with open_plugins("batching", settings=wanted) as runtime:
            await publish(runtime, range(3))
            await store.hanging.wait()
        assert numbers_of(store.objects) == [[0, 1], [2]]


async def test_hanging_store() -> None:
    """A post ends after `timeout`, `close` after its own limit; what they leave is in the log."""
    hanging = {"odd_store": {"hang": 1000}}
    soon = ShutdownSettings(requests=0.1)
    async with (
        open_plugins(OddStore, settings=hanging, shutdown=soon) as odd,
        serving(odd) as url,
    ):
        wanted = settings(f"{url}/1/buckets", size=2, within=60, timeout=0.4)
        short = ShutdownSettings(close=0.2)
        with capture_logs() as logs:
            async with open_plugins("batching", settings=wanted, shutdown=short) as runtime:
                await publish(runtime, range(3))
                await odd.get(OddStore).hanging.wait()
                begun = trio.current_time()
        assert trio.current_time() - begun < 1
    assert [log["points"] for log in logs if log["event"] == "batch failed"] == [2]
    assert [log["count"] for log in logs if log["event"] == "points are left over"] == [1]


async def test_both_plugins_of_the_file(store: str) -> None:
    """Naming the file activates both of its plugins, each with its own settings."""
    async with open_plugins("batching", settings=settings(store)) as runtime:
        assert set(runtime.hosts) == {"batching", "batcher"}


async def test_missing_store() -> None:
    """The plugin that needs the batcher does not start when the batcher does not."""
    with pytest.raises(StartError, match="'batcher' did not start: ConnectError"):
        async with open_plugins("batching", settings=settings("http://127.0.0.1:9/1/buckets")):
            pass
