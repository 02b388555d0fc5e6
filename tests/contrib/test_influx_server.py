"""The sink `influx` against a real InfluxDB."""

from __future__ import annotations

import gc
from collections.abc import AsyncGenerator, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import trio
from structlog.testing import capture_logs

from trivet import Delivery, Event, Fate, MonitoringEvent, MonitoringPoint, Runtime, StoreSettings
from trivet.testing import open_plugins
from trivet_contrib.influx import Influx
from trivet_contrib.influx._lines import Value

from .influx_server import (
    ADMIN,
    DATABASE,
    PASSWORD,
    USER,
    InfluxServer,
    influx_server,
    needs_influx,
)
from .suite import becomes, text_of

pytestmark = [
    needs_influx,
    # Where a connection breaks, httpx leaves the iterator of the body to the garbage.
    pytest.mark.filterwarnings("ignore:Async generator 'httpx:ResourceWarning"),
]
AT = datetime(2025, 1, 31, 12, 0, 0, 123456, tzinfo=UTC)
NANOSECONDS = 1738324800_123_456_000
DURABLE = {"durable": True, "retry_initial": 0.02, "retry_max": 0.1, "batch_age": 0.01}


@pytest.fixture(autouse=True)
def own_garbage() -> Iterator[None]:
    """Collect it here, and not where it is not ignored."""
    yield
    gc.collect()


@pytest.fixture
async def influx(tmp_path: Path) -> AsyncGenerator[InfluxServer]:
    """The server, with its database."""
    directory = tmp_path / "influxdb"
    directory.mkdir()
    async with influx_server(directory) as server:
        yield server


def measured(value: Value, number: int = 0) -> MonitoringEvent:
    """An event with one point, which no other number's replaces."""
    point = MonitoringPoint("requests", AT, {"number": str(number)}, {"value": value})
    return MonitoringEvent([point])


async def publish(runtime: Runtime, events: Sequence[MonitoringEvent]) -> list[Fate | None]:
    """Publish them as one, and wait for their end; the fates."""
    deliveries = [Delivery[Event].of(event) for event in events]
    outcomes = await runtime.publish_many(deliveries, wait=True)
    return [outcome.fates.get("influx") for outcome in outcomes]


async def status(runtime: Runtime) -> str:
    """The sink's, as an operator sees it."""
    return runtime.hosts["influx"].status


async def values(server: InfluxServer) -> list[Any]:
    """What is in the database, in order."""
    return sorted(row["value"] for row in await server.query("SELECT * FROM requests"))


async def test_points_are_found_again(influx: InfluxServer) -> None:
    """With their tags, their fields, each of its type, and their time to the microsecond."""
    fields: dict[str, Value] = {"whole": 3, "part": 2.5, "text": 'a "b" \\ c', "yes": True}
    event = MonitoringEvent([MonitoringPoint("requests", AT, {"route": "a b,c=d"}, fields)])
    async with open_plugins(Influx, settings=influx.settings(tags={"host": "w"})) as runtime:
        assert await publish(runtime, [event]) == [Fate.HANDLED]
    (row,) = await influx.query("SELECT * FROM requests")
    assert row == {"time": NANOSECONDS, "route": "a b,c=d", "host": "w", **fields}
    kinds = await influx.query("SHOW FIELD KEYS FROM requests")
    assert {kind["fieldKey"]: kind["fieldType"] for kind in kinds} == {
        "whole": "integer",
        "part": "float",
        "text": "string",
        "yes": "boolean",
    }


async def test_a_field_of_another_type_costs_nobody_else(influx: InfluxServer) -> None:
    """InfluxDB writes a part, and says 400: the event to blame is given up, with the reason."""
    table = influx.settings(delivery={"batch_size": 5, "retry": True})
    with capture_logs() as logs:
        async with open_plugins(Influx, settings=table) as runtime:
            assert await publish(runtime, [measured(0)]) == [Fate.HANDLED]
            events = [measured("x" if number == 3 else number, number) for number in range(1, 6)]
            fates = await publish(runtime, events)
    assert fates == [Fate.HANDLED, Fate.HANDLED, Fate.FAILED, Fate.HANDLED, Fate.HANDLED]
    assert await values(influx) == [0, 1, 2, 4, 5]
    assert "field type conflict" in text_of(logs)


@pytest.mark.parametrize(
    ("others", "said"),
    [
        ({"database": "missing", "username": ADMIN[0], "password": ADMIN[1]}, "see `database`"),
        ({"password": "wr0ng"}, "see `username` and `password`"),
        ({"username": None, "password": None}, "see `username` and `password`"),
    ],
)
async def test_what_is_set_wrongly_is_named(
    influx: InfluxServer, others: dict[str, object], said: str
) -> None:
    """A refusal names the setting, and shows no password."""
    given = {name: value for name, value in others.items() if value is not None}
    (table,) = influx.settings().values()
    table = {name: value for name, value in table.items() if name not in others} | given
    with capture_logs() as logs:
        async with open_plugins(Influx, settings={"influx": table}) as runtime:
            assert await publish(runtime, [measured(1)]) == [Fate.FAILED]
            await becomes("degraded", lambda: status(runtime))
    assert said in text_of(logs)
    assert not any(secret in text_of(logs) for secret in (PASSWORD, "wr0ng", ADMIN[1]))


async def test_a_right_that_is_revoked_and_given_back(influx: InfluxServer) -> None:
    """Who may not write is told by which setting, and goes on when it may again."""
    with capture_logs() as logs:
        async with open_plugins(Influx, settings=influx.settings()) as runtime:
            await influx.query(f"REVOKE WRITE ON {DATABASE} FROM {USER}")
            assert await publish(runtime, [measured(1, 1)]) == [Fate.FAILED]
            await becomes("degraded", lambda: status(runtime))
            await influx.query(f"GRANT WRITE ON {DATABASE} TO {USER}")
            assert await publish(runtime, [measured(2, 2)]) == [Fate.HANDLED]
            await becomes("running", lambda: status(runtime))
    assert "see `username` and `password`" in text_of(logs)
    assert await values(influx) == [2]


async def test_a_kill_in_the_middle_loses_nothing(influx: InfluxServer, tmp_path: Path) -> None:
    """Durable points wait while InfluxDB is away, and all of them are there in the end."""
    store = StoreSettings(path=tmp_path / "store.sqlite3")
    table = influx.settings(delivery={**DURABLE, "batch_size": 10})
    async with open_plugins(Influx, settings=table, store=store) as runtime:
        for number in range(300):
            await runtime.publish(measured(number, number))
            if number == 100:
                while runtime.statistics()["influx"].handled == 0:
                    await trio.sleep(0.01)
                await influx.kill()
        await becomes("degraded", lambda: status(runtime))
        await influx.start()
        while runtime.statistics()["influx"].handled < 300:
            await trio.sleep(0.02)
        await becomes("running", lambda: status(runtime))
    assert await values(influx) == list(range(300))


async def test_what_could_not_be_written_waits_for_the_next_start(
    influx: InfluxServer, tmp_path: Path
) -> None:
    """With InfluxDB away all the time, a stop keeps the points, and the next start writes them."""
    store = StoreSettings(path=tmp_path / "store.sqlite3")
    table = influx.settings(delivery=DURABLE)
    await influx.kill()
    async with open_plugins(Influx, settings=table, store=store) as runtime:
        for number in range(20):
            await runtime.publish(measured(number, number))
        runtime.hurry()
    await influx.start()
    async with open_plugins(Influx, settings=table, store=store) as runtime:
        while runtime.statistics()["influx"].handled < 20:
            await trio.sleep(0.02)
    assert await values(influx) == list(range(20))


async def test_a_server_that_stands_still(influx: InfluxServer) -> None:
    """One that takes connections and answers nothing is tried again, until it goes on."""
    delivery = {"retry": True, "retry_initial": 0.02, "retry_max": 0.1}
    async with open_plugins(
        Influx, settings=influx.settings(timeout=0.3, delivery=delivery)
    ) as runtime:
        influx.pause()
        await runtime.publish(measured(1))
        await becomes("degraded", lambda: status(runtime))
        influx.resume()
        await becomes("running", lambda: status(runtime))
    assert await values(influx) == [1]
