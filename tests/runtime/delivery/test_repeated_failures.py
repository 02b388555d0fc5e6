"""Failures that repeat: the first of a kind is logged whole, the others by their number."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import Any

import pytest
import structlog
import trio
from trio.testing import MockClock

from trivet import Delivery, DeliverySettings, Event, EventPlugin, Runtime
from trivet._log import _failures
from trivet._log._failures import EVERY
from trivet.testing import open_plugins

Log = MutableMapping[str, Any]


class Paid(Event):
    amount: int = 0


class Refunded(Event):
    amount: int = 0


class Till(EventPlugin[Paid | Refunded]):
    """A plugin whose exceptions depend on the amount."""

    async def handle_event(self, event: Paid | Refunded) -> None:
        if event.amount == 1:
            raise ValueError("no paper")
        if event.amount == 2:
            raise OSError("no drawer")
        if event.amount == 3:
            raise OSError("no drawer")


class Kiosk(Till):
    """Another plugin with the same code."""


class Patient(Till):
    """One that tries each event again."""

    delivery = DeliverySettings(retry=True, max_attempts=3)


@pytest.fixture
def logs() -> Iterator[list[Log]]:
    """The lines of the log."""
    with structlog.testing.capture_logs() as captured:
        yield captured


def failed(logs: list[Log], event: str = "event failed") -> list[Log]:
    """The lines about failures so far."""
    return [log for log in logs if log["event"] == event]


async def publish(runtime: Runtime, *events: Event) -> None:
    """Publish the events, with their numbers as their ids, one after the other."""
    for number, event in enumerate(events):
        await runtime.publish_many([Delivery.of(event, id=f"e-{number}")], wait=True)


async def test_the_same_failure_is_whole_once(logs: list[Log], autojump_clock: MockClock) -> None:
    """The first of a hundred failures of one kind is logged with its traceback; the others are one
    line a minute later, with their number and the last one's envelope. All are counted."""
    async with open_plugins(Till, patience=3 * EVERY) as runtime:
        await publish(runtime, *[Paid(1)] * 100)
        (first,) = failed(logs)
        assert (first["event_id"], "repeated" in first) == ("e-0", False)
        assert isinstance(first["exc_info"], ValueError)
        await trio.sleep(EVERY - 1)
        assert failed(logs) == [first]
        await trio.sleep(2)
        _, rest = failed(logs)
        assert (rest["repeated"], rest["event_id"], rest["event_type"]) == (99, "e-99", "paid")
        assert (rest["error"], rest["plugin"]) == ("ValueError: no paper", "till")
        assert rest["log_level"] == "error"
        assert rest["at"].startswith(f"{__file__}:")
        assert runtime.statistics()["till"].failed == 100


async def test_it_is_a_line_a_minute_while_it_lasts(
    logs: list[Log], autojump_clock: MockClock
) -> None:
    """A failure that goes on is one line a minute, and whole again after a minute without it."""
    async with open_plugins(Till, patience=20 * EVERY) as runtime:
        for _ in range(300):
            await publish(runtime, Paid(1))
            await trio.sleep(1)
        told = [log.get("repeated", "whole") for log in failed(logs)]
        assert told[0] == "whole"
        assert all(each in (59, 60, 61) for each in told[1:])
        assert len(told) in (5, 6)
        await trio.sleep(3 * EVERY)
        before = len(failed(logs))
        await publish(runtime, Paid(1))
        *_, last = failed(logs)
        assert (len(failed(logs)), "exc_info" in last) == (before + 1, True)


async def test_another_kind_is_whole(logs: list[Log], autojump_clock: MockClock) -> None:
    """A failure of another class, from another line, of another event type or plugin is whole the
    first time, however many there were of the others."""
    async with open_plugins(Till, Kiosk) as runtime:
        await publish(runtime, *[Paid(1)] * 10)
        assert len(failed(logs)) == 2
        for number, event in enumerate((Paid(2), Paid(3), Refunded(1), Refunded(3)), start=2):
            await publish(runtime, event)
            assert len(failed(logs)) == 2 * number
            assert {log["plugin"] for log in failed(logs)[-2:]} == {"till", "kiosk"}
        assert all("exc_info" in log for log in failed(logs))


async def test_nothing_counted_is_lost_at_the_end(
    logs: list[Log], autojump_clock: MockClock
) -> None:
    """Failures that were counted are logged when the program ends."""
    async with open_plugins(Till) as runtime:
        await publish(runtime, *[Paid(1)] * 4, *[Paid(2)] * 2, Paid(3))
    told = [(log["event_id"], log.get("repeated")) for log in failed(logs)]
    assert sorted(told, key=str) == [
        *[("e-0", None), ("e-3", 3), ("e-4", None), ("e-5", 1), ("e-6", None)]
    ]


async def test_retries_are_counted_too(logs: list[Log], autojump_clock: MockClock) -> None:
    """An event that is tried again is one line the first time, without a traceback, then a number;
    the end of its attempts is a kind of its own."""
    async with open_plugins(Patient) as runtime:
        await publish(runtime, *[Paid(1)] * 5)
    first, rest = failed(logs, "event failed, and is tried again")
    assert (first["attempt"], first["error"]) == (1, "ValueError: no paper")
    assert (rest["repeated"], rest["event_id"], rest["attempt"]) == (9, "e-4", 2)
    whole, rest = failed(logs)
    assert isinstance(whole["exc_info"], ValueError)
    assert rest["repeated"] == 4


class Choosy(EventPlugin[Paid]):
    """A plugin whose filter is broken."""

    def wants(self, event: Paid) -> bool:
        """Fail for nothing."""
        return bool(1 / event.amount)

    async def handle_event(self, event: Paid) -> None:
        """Take any."""


async def test_filters_that_fail_are_counted_too(
    logs: list[Log], autojump_clock: MockClock
) -> None:
    """A filter that fails with each event is one line, then a number; no event is lost by it."""
    async with open_plugins(Choosy) as runtime:
        await publish(runtime, *[Paid(0)] * 7)
        assert runtime.statistics()["choosy"].handled == 7
    first, rest = failed(logs, "filter failed")
    assert isinstance(first["exc_info"], ZeroDivisionError)
    assert (rest["repeated"], rest["event_id"]) == (6, "e-6")


async def test_the_kinds_are_bounded(
    logs: list[Log], autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond a number of kinds the oldest is told and forgotten; the next of that kind is whole."""
    monkeypatch.setattr(_failures, "MOST", 2)
    async with open_plugins(Till) as runtime:
        await publish(runtime, Paid(1), Paid(1), Paid(2), Paid(3))
        assert [log.get("repeated") for log in failed(logs)] == [None, None, 1, None]
        await publish(runtime, Paid(1))
        assert "exc_info" in failed(logs)[-1]


async def test_a_failure_in_a_group_has_the_place_of_its_first(
    logs: list[Log], autojump_clock: MockClock
) -> None:
    """Groups whose first members are of one kind are of one kind themselves."""

    class Nursery(EventPlugin[Paid]):
        async def handle_event(self, event: Paid) -> None:
            async with trio.open_nursery() as nursery:  # noqa: ASYNC112 - it makes the group
                nursery.start_soon(self.fail)

        async def fail(self) -> None:
            raise KeyError("x")

    async with open_plugins(Nursery) as runtime:
        await publish(runtime, *[Paid()] * 3)
        assert runtime.statistics()["nursery"].failed == 3
    first, rest = failed(logs)
    assert "exc_info" in first
    assert (rest["repeated"], rest["error"]) == (2, "KeyError: 'x'")
