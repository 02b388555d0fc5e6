"""Filters of a subscription: the operator's, and the author's `wants`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from structlog.testing import capture_logs
from trio.testing import MockClock

from trivet import (
    ConfigurationError,
    DeliverySettings,
    Event,
    EventPlugin,
    Fate,
    MonitoringEvent,
    MonitoringPoint,
)
from trivet._events._filters import check_filter, compile_filter
from trivet.testing import open_plugins

NOW = datetime(2026, 1, 2, tzinfo=UTC)


class Order(Event):
    country: str
    total: float = 0.0
    labels: dict[str, Any] | None = None


def points(*routes: str) -> MonitoringEvent:
    """A monitoring event with a point for each route."""
    return MonitoringEvent(
        [MonitoringPoint("requests", NOW, {"route": route, "status": 200}, {}) for route in routes]
    )


@pytest.mark.parametrize(
    ("chosen", "event", "is_let_through"),
    [
        ({"country": "SE"}, Order("SE"), True),
        ({"country": "SE"}, Order("NO"), False),
        ({"country": ["SE", "NO"]}, Order("NO"), True),
        ({"country": "SE", "total": 5.0}, Order("SE", 5.0), True),
        ({"country": "SE", "total": 5.0}, Order("SE", 6.0), False),
        ({"labels.size": "XL"}, Order("SE", 0, {"size": "XL"}), True),
        ({"labels.size": "XL"}, Order("SE", 0, {"colour": "red"}), False),
        ({"labels.size": "XL"}, Order("SE"), False),
        ({"labels.all": 2}, Order("SE", 0, {"all": [1, 2]}), True),
        ({"points.tags.route": "GET:/b"}, points("GET:/a", "GET:/b"), True),
        ({"points.tags.route": "GET:/c"}, points("GET:/a", "GET:/b"), False),
        ({"points.tags.status": [200, 500]}, points("GET:/a"), True),
    ],
)
def test_each_path_must_lead_to_one_of_its_values(
    chosen: dict[str, Any], event: Event, is_let_through: bool
) -> None:
    """A path leads into fields, dictionaries and elements of lists, to one of its values."""
    assert compile_filter(chosen)(event) is is_let_through


def test_a_path_that_no_event_has_is_refused() -> None:
    """A path whose first part no event has is refused, with the nearest right spelling."""
    with pytest.raises(ConfigurationError, match=r"no event has a field 'contry'.*'country'"):
        check_filter({"contry": "SE"}, [Order])


def test_an_empty_filter_is_refused() -> None:
    """An empty filter, which would let all events through, is refused."""
    with pytest.raises(ConfigurationError, match="leave it out"):
        check_filter({}, [Order])


class Shipping(EventPlugin[Order]):
    async def initialize(self) -> None:
        self.got: list[str] = []

    async def handle_event(self, event: Order) -> None:
        self.got.append(event.country)


class Picky(Shipping):
    free: str = "NO"

    def wants(self, event: Order) -> bool:
        if event.country == "??":
            raise ValueError("no such country")
        return event.country != self.free


async def test_filtered_events_are_counted(autojump_clock: MockClock) -> None:
    """`filtered` is a fate of an accepted event, which takes no room in the inbox."""
    settings: Any = {"shipping": {"delivery": {"filter": {"country": ["SE", "NO"]}}}}
    async with open_plugins(Shipping, settings=settings) as runtime:
        passed = await runtime.publish(Order("DK"), wait=True)
        taken = await runtime.publish(Order("SE"), wait=True)
        statistics = runtime.statistics()["shipping"]
        assert runtime.get(Shipping).got == ["SE"]
    assert (passed.fates, taken.fates) == ({"shipping": Fate.FILTERED}, {"shipping": Fate.HANDLED})
    assert passed.accepted
    assert (statistics.accepted, statistics.filtered, statistics.handled) == (2, 1, 1)


async def test_an_author_filters_by_code(autojump_clock: MockClock) -> None:
    """`wants` sees the settings; where it raises, the event is delivered and the fault logged."""
    settings: Any = {"picky": {"delivery": {"filter": {"country": ["SE", "NO", "??"]}}}}
    with capture_logs() as logs:
        async with open_plugins(Picky, settings=settings) as runtime:
            fates = [
                (await runtime.publish(Order(country), wait=True)).worst
                for country in ("SE", "NO", "DK", "??")
            ]
            assert runtime.get(Picky).got == ["SE", "??"]
    assert fates == [Fate.HANDLED, Fate.FILTERED, Fate.FILTERED, Fate.HANDLED]
    (line,) = [line for line in logs if line["event"] == "filter failed"]
    assert line["plugin"] == "picky"
    assert isinstance(line["exc_info"], ValueError)


async def test_no_filter_gets_out_of_a_publish(autojump_clock: MockClock) -> None:
    """No exception of a filter reaches the publisher, not even one that ends programs."""

    class Ending(EventPlugin[Order]):
        def wants(self, event: Order) -> bool:
            raise SystemExit

        async def handle_event(self, event: Order) -> None:
            assert event == Order("SE")

    with capture_logs() as logs:
        async with open_plugins(Ending) as runtime:
            outcome = await runtime.publish(Order("SE"), wait=True)
    assert outcome.worst is Fate.HANDLED
    assert [line["plugin"] for line in logs if line["event"] == "filter failed"] == ["ending"]


@pytest.mark.parametrize(
    ("delivery", "message"),
    [
        ({"filter": {"contry": "SE"}}, r"shipping.delivery.filter: no event has a field 'contry'"),
        ({"ordering_key": "contry"}, r"ordering_key: no event .* field 'contry'.*'country'"),
        ({"max_attempts": 5}, r"delivery.max_attempts: nothing is tried again without `retry"),
        ({"batch_size": 5}, r"shipping.delivery.batch_size: 'shipping' is not a BatchPlugin"),
    ],
)
async def test_misplaced_settings(delivery: dict[str, Any], message: str) -> None:
    """A setting that the events or the plugin cannot have is refused with its key."""
    with pytest.raises(ConfigurationError, match=message):
        async with open_plugins(Shipping, settings={"shipping": {"delivery": delivery}}):
            pass


async def test_the_author_is_refused_too(autojump_clock: MockClock) -> None:
    """The author's choices are checked as the operator's are."""

    class Wrong(Shipping):
        delivery = DeliverySettings(ordering_key="nothing")

    with pytest.raises(ConfigurationError, match="ordering_key"):
        async with open_plugins(Wrong):
            pass
