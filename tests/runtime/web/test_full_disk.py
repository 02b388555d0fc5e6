"""A service whose disk is full, as its clients and its orchestrator see it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import ClassVar

import pytest
import trio

from trivet import App, DeliverySettings, Event, EventPlugin, StoreSettings
from trivet.testing import client, open_plugins

pytestmark = pytest.mark.process

NDJSON = {"Content-Type": "application/x-ndjson"}


class Page(Event):
    number: int
    text: str = "x" * 1000


class Archive(EventPlugin[Page]):
    """A durable subscriber that handles nothing before it is told to."""

    delivery: ClassVar[DeliverySettings] = DeliverySettings(durable=True, time_limit=0)

    def __init__(self, app: App) -> None:
        self.may_begin = trio.Event()
        self.numbers: list[int] = []

    async def handle_event(self, event: Page) -> None:
        await self.may_begin.wait()
        self.numbers.append(event.number)


def fill(disk: Path) -> Path:
    """Fill the disk with a file of another program, and return the file."""
    file = disk / "other program"
    with file.open("wb", buffering=0) as stream, suppress(OSError):
        while True:
            stream.write(bytes(4096))
    return file


async def test_a_disk_that_is_full(disk: Path) -> None:
    """A full disk lets accepted events drain, while publishers get 507 and the orchestrator 503;
    when there is room again, both are served, without a restart, and nothing is lost or comes
    twice."""
    path = disk / "store.db"
    async with open_plugins(Archive, store=StoreSettings(path=path)) as runtime:
        asking, archive = client(runtime), runtime.get(Archive)
        for number in range(100):
            response = await asking.post("/events/page", json={"number": number})
            assert response.status_code == 202
        assert (await asking.get("/readyz")).status_code == 200

        taken, other = 100, fill(disk)
        while True:  # The store finds a little room, such as that of its log.
            refused = await asking.post("/events/page", json={"number": taken})
            if refused.status_code != 202:
                break
            taken, other = taken + 1, fill(disk)
        stream = b"".join(b'{"number": %d}\n' % number for number in range(1000, 1010))
        streamed = await asking.post("/events/page", data=stream, headers=NDJSON)
        unready = await asking.get("/readyz")
        archive.may_begin.set()
        with trio.fail_after(60):
            while runtime.statistics()["archive"].handled < taken:
                await trio.sleep(0.01)
        assert (await asking.get("/readyz")).status_code == 503

        other.unlink()
        with trio.fail_after(60):
            while (await asking.get("/readyz")).status_code != 200:
                await trio.sleep(0.01)
        again = await asking.post("/events/page?wait=true", data=stream, headers=NDJSON)
        assert archive.numbers == [*range(taken), *range(1000, 1010)]
    for response in (refused, streamed):
        assert response.status_code == 507
        problem = await response.get_json()
        assert problem["error_code"] == "store_full"
        assert "Retry-After" in response.headers
    problem = await streamed.get_json()
    assert (problem["resume_from"], problem["fates"]) == (1, {"archive": {"rejected": 10}})
    assert unready.status_code == 503
    problem = await unready.get_json()
    assert problem["detail"] == "the store fails: the disk is full"
    assert (again.status_code, (await again.get_json())["lines"]) == (200, 10)


async def test_a_stream_that_fills_the_disk(disk: Path) -> None:
    """The client is told how many lines were stored, and all of them are."""
    count = 20_000
    stream = b"".join(b'{"number": %d}\n' % number for number in range(1, count + 1))
    store = StoreSettings(path=disk / "store.db")
    async with open_plugins(Archive, store=store) as runtime:
        asking = client(runtime)
        response = await asking.post("/events/page", data=stream, headers=NDJSON)
        accepted = runtime.statistics()["archive"].accepted
        runtime.get(Archive).may_begin.set()
        with trio.fail_after(60):
            while runtime.statistics()["archive"].handled < accepted:
                await trio.sleep(0.01)
        assert runtime.get(Archive).numbers == [*range(1, accepted + 1)]
    assert response.status_code == 507
    problem = await response.get_json()
    assert problem["fates"]["archive"]["queued"] == accepted > 100
    # A whole transaction is refused, so the next line to send is behind the last that is stored.
    assert problem["resume_from"] == accepted + 1
    assert problem["lines"] < count
