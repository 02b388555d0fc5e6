"""From JSON to an event: `EventTypes.decode` beside `json.loads` and the constructor.

    python tests/bench/bench_decode.py [--quick]

Both get bytes, as from a socket, and both end with the same event. The code beside Trivet does the
least: it checks nothing, whereas Trivet checks the type of every field.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from time import perf_counter

import attrs
from pairs import QUICK, Measure, Table, pairs

from trivet import Event, MonitoringEvent, MonitoringPoint
from trivet._events._types import EventTypes

EVENTS = 5_000 if QUICK else 20_000
"""In one round."""


class OrderPlaced(Event):
    """An event with plain fields."""

    order_id: str
    customer: str
    country: str
    total: float
    items: int
    is_gift: bool
    note: str | None = None


ORDER = OrderPlaced("018f2c6e-7d1a-7c3e", "c-4711", "DE", 129.95, 3, is_gift=False)
ORDER_JSON = json.dumps(attrs.asdict(ORDER)).encode()

MOMENT = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
POINT = MonitoringPoint(
    "requests",
    MOMENT,
    {"service": "shop", "route": "POST:/handlers/<id>/events", "status_code": 201},
    {"request_id": "1732305000,018f2c6e-7d1a-7c3e-9b52-0123456789ab", "execution_time": 0.0123},
)
MEASURED = MonitoringEvent([POINT, POINT])
POINT_JSON = {
    "series": POINT.series,
    "time": MOMENT.isoformat(),
    "tags": POINT.tags,
    "fields": POINT.fields,
}
MEASURED_JSON = json.dumps({"points": [POINT_JSON, POINT_JSON]}).encode()

TYPES = EventTypes([OrderPlaced, MonitoringEvent])


def order_by_trivet() -> OrderPlaced:
    """Decode the plain event by Trivet."""
    return TYPES.decode(OrderPlaced, ORDER_JSON)


def order_by_hand() -> OrderPlaced:
    """Decode the plain event by `json.loads`."""
    return OrderPlaced(**json.loads(ORDER_JSON))


def measured_by_trivet() -> MonitoringEvent:
    """Decode an event with two points by Trivet."""
    return TYPES.decode(MonitoringEvent, MEASURED_JSON)


def measured_by_hand() -> MonitoringEvent:
    """Decode an event with two points by `json.loads`."""
    points = [
        MonitoringPoint(
            point["series"], datetime.fromisoformat(point["time"]), point["tags"], point["fields"]
        )
        for point in json.loads(MEASURED_JSON)["points"]
    ]
    return MonitoringEvent(points)


def rate(decode: Callable[[], Event]) -> Measure:
    """Events a second."""

    def measure() -> float:
        began = perf_counter()
        for _ in range(EVENTS):
            decode()
        return EVENTS / (perf_counter() - began)

    return measure


def main() -> None:
    """Measure, and print the table."""
    assert order_by_trivet() == order_by_hand() == ORDER
    assert measured_by_trivet() == measured_by_hand() == MEASURED
    table = Table("decoding JSON", "events/s")
    for what, decode, by_hand in (
        (f"7 fields, {len(ORDER_JSON)} bytes", order_by_trivet, order_by_hand),
        (f"2 monitoring points, {len(MEASURED_JSON)} bytes", measured_by_trivet, measured_by_hand),
    ):
        figure, ratio = pairs(rate(decode), rate(by_hand))
        table.row(what, figure.median, "`json.loads` and the constructor", ratio, "≥ 4")


if __name__ == "__main__":
    main()
