"""The sink `influx` against a real InfluxDB."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar, cast

import pytest
from structlog.testing import capture_logs

from trivet import Delivery, Event, Fate, MonitoringEvent, MonitoringPoint, Runtime, StartError
from trivet.testing import open_plugins
from trivet_contrib.influx import Influx
from trivet_contrib.influx._lines import Value

from .http_suite import HttpContract, Receiver
from .influx_server import ADMIN, PASSWORD, READER, InfluxServer, influx_server, needs_influx
from .suite import Table, text_of

pytestmark = [pytest.mark.broker, needs_influx]
AT = datetime(2025, 1, 31, 12, 0, 0, 123456, tzinfo=UTC)
NANOSECONDS = 1738324800_123_456_000


class TestInflux(HttpContract):
    sink = Influx
    credentials = "`username` and `password`"
    chosen: ClassVar[Table] = {"filter": {"points.series": "orders"}}

    @pytest.fixture
    async def receiver(self, influx: InfluxServer) -> Receiver:
        """The server, with its database."""
        return influx

    def event(self, number: int) -> Event:
        """See `HttpContract`."""
        return measured(number, number)

    def poison(self, number: int) -> Event:
        """See `HttpContract`: the field is a number already."""
        return measured("x", number)

    async def publish_unsayable(self, runtime: Runtime) -> None:
        """See `HttpContract`: a field's name is no text."""
        fields = cast("dict[str, Value]", {None: 1})
        await runtime.publish(MonitoringEvent([MonitoringPoint("orders", AT, {}, fields)]))


@pytest.fixture
async def influx(tmp_path: Path) -> AsyncGenerator[InfluxServer]:
    """The server, with its database."""
    directory = tmp_path / "influxdb"
    directory.mkdir()
    async with influx_server(directory) as server:
        yield server


def measured(value: Value, number: int = 0) -> MonitoringEvent:
    """An event with one point, different for each number."""
    point = MonitoringPoint("orders", AT, {"number": str(number)}, {"value": value})
    return MonitoringEvent([point])


async def publish(runtime: Runtime, events: Sequence[MonitoringEvent]) -> list[Fate | None]:
    """Publish events as one batch, and wait for their ends; returns their fates."""
    deliveries = [Delivery[Event].of(event) for event in events]
    outcomes = await runtime.publish_many(deliveries, wait=True)
    return [outcome.fates.get("influx") for outcome in outcomes]


async def test_points_are_found_again(influx: InfluxServer) -> None:
    """Points arrive with tags, with fields of the same type, and with times to the microsecond."""
    fields: dict[str, Value] = {"whole": 3, "part": 2.5, "text": 'a "b" \\ c', "yes": True}
    event = MonitoringEvent([MonitoringPoint("orders", AT, {"route": "a b,c=d"}, fields)])
    async with open_plugins(
        Influx, settings={"influx": influx.settings(tags={"host": "w"})}
    ) as runtime:
        assert await publish(runtime, [event]) == [Fate.HANDLED]
    (row,) = await influx.query("SELECT * FROM orders")
    assert row == {"time": NANOSECONDS, "route": "a b,c=d", "host": "w", **fields}
    kinds = await influx.query("SHOW FIELD KEYS FROM orders")
    assert {kind["fieldKey"]: kind["fieldType"] for kind in kinds} == {
        "whole": "integer",
        "part": "float",
        "text": "string",
        "yes": "boolean",
    }


async def test_a_field_of_another_type_costs_nobody_else(influx: InfluxServer) -> None:
    """After a partial write and a 400 the event to blame is given up, with the reason."""
    table = influx.settings(delivery={"batch_size": 5, "retry": True})
    with capture_logs() as logs:
        async with open_plugins(Influx, settings={"influx": table}) as runtime:
            assert await publish(runtime, [measured(0)]) == [Fate.HANDLED]
            events = [measured("x" if number == 3 else number, number) for number in range(1, 6)]
            fates = await publish(runtime, events)
    assert fates == [Fate.HANDLED, Fate.HANDLED, Fate.FAILED, Fate.HANDLED, Fate.HANDLED]
    assert await influx.taken() == [0, 1, 2, 4, 5]
    assert "field type conflict" in text_of(logs)


@pytest.mark.parametrize(
    ("others", "named"),
    [
        (
            {"database": "missing", "username": ADMIN[0], "password": ADMIN[1]},
            "`url` and `database`",
        ),
        ({"password": "wr0ng"}, "`username` and `password`"),
        ({"username": None, "password": None}, "`username` and `password`"),
        ({"username": READER}, "`username` and `password`"),
    ],
)
async def test_wrong_settings_are_found_at_the_start(
    influx: InfluxServer, others: dict[str, object], named: str
) -> None:
    """The message names the setting, and shows no password."""
    table = {name: value for name, value in influx.settings(**others).items() if value is not None}
    with capture_logs() as logs, pytest.raises(StartError) as caught:
        async with open_plugins(Influx, settings={"influx": table}):
            pass
    told = str(caught.value) + text_of(logs)
    assert "plugins.influx: InfluxDB answered 40" in told
    assert f"(see {named} of 'influx')" in told
    assert not any(secret in told for secret in (PASSWORD, "wr0ng", ADMIN[1]))
