"""The stock `run` of plugins with an inbox."""

from __future__ import annotations

from itertools import pairwise
from typing import cast

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import wait_all_tasks_blocked

from trivet import (
    Delivery,
    Event,
    EventPlugin,
    EventSendingPlugin,
    MonitoringEvent,
    MonitoringPlugin,
    MonitoringPoint,
    SendingEvent,
    current_delivery,
)
from trivet._inbox._quantum import READ

from .stubs import Ping, Pong, an_inbox, make


async def test_handle_event_gets_the_events_in_order() -> None:
    """The stock `run` hands over one event after the other, until the inbox closes."""
    handled: list[Event] = []

    class Listener(EventPlugin[Ping | Pong]):
        async def handle_event(self, event: Ping | Pong) -> None:
            assert current_delivery().event is event
            await trio.lowlevel.checkpoint()
            handled.append(event)

    inbox = an_inbox(Ping(1), Pong(2), Ping(3))
    inbox.close()
    await make(Listener, inbox=inbox).run()
    assert handled == [Ping(1), Pong(2), Ping(3)]
    assert inbox.statistics().handled == 3


async def test_an_exception_costs_one_event() -> None:
    """An exception is counted and logged with the event's identity, and the plugin goes on."""
    handled: list[int] = []

    class Picky(EventPlugin[Ping]):
        async def handle_event(self, event: Ping) -> None:
            if event.number == 2:
                raise ValueError("two")
            handled.append(event.number)

    inbox = an_inbox(Ping(1))
    inbox.admission.offer(Delivery.of(Ping(2), id="e2", request_id="1,r"))
    inbox.admission.offer(Delivery.of(Ping(3)))
    inbox.close()
    with capture_logs() as lines:
        await make(Picky, inbox=inbox).run()
    assert handled == [1, 3]
    statistics = inbox.statistics()
    assert (statistics.handled, statistics.failed, statistics.accepted) == (2, 1, 3)
    (line,) = lines
    assert (line["event_id"], line["event_type"], line["request_id"]) == ("e2", "ping", "1,r")
    assert (line["log_level"], line["plugin"]) == ("error", "p")
    assert isinstance(line["exc_info"], ValueError)


@pytest.mark.parametrize("workers", [1, 3])
async def test_concurrency(workers: int) -> None:
    """At most `concurrency` handlers run at once."""
    busy, most = 0, 0
    go_on = trio.Event()

    class Slow(EventPlugin[Ping]):
        async def handle_event(self, event: Ping) -> None:
            nonlocal busy, most
            busy += 1
            most = max(most, busy)
            await go_on.wait()
            busy -= 1

    inbox = an_inbox(*(Ping(number) for number in range(5)))
    inbox.close()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(make(Slow, inbox=inbox, workers=workers).run)
        await wait_all_tasks_blocked()
        assert (busy, inbox.statistics().in_flight) == (workers, workers)
        go_on.set()
    assert most == workers
    assert inbox.statistics().handled == 5


async def test_a_flooded_plugin_lets_others_have_their_turn() -> None:
    """A handler that never waits gives way after a number of events."""
    handled: list[int] = []

    class Greedy(EventPlugin[Ping]):
        async def handle_event(self, event: Ping) -> None:
            handled.append(event.number)

    inbox = an_inbox(*(Ping(number) for number in range(3 * READ)))
    inbox.close()
    plugin = make(Greedy, inbox=inbox)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(plugin.run)
        seen = [0]
        while len(handled) < 3 * READ:
            await trio.lowlevel.checkpoint()
            seen.append(len(handled))
    most = max(later - earlier for earlier, later in pairwise(seen))
    assert most <= 2 * READ  # The last in one round of the tasks may be the first in the next.


async def test_lunas_two_kinds_pass_their_events_on() -> None:
    """`flush_points` gets the points of an event, `send_events` the event."""
    got: list[object] = []

    class Flushing(MonitoringPlugin):
        async def flush_points(self, points: list[MonitoringPoint]) -> None:
            got.append(points)

    class Sending(EventSendingPlugin):
        async def send_events(self, event: SendingEvent) -> None:
            got.append(event)

    points: list[MonitoringPoint] = []
    await make(Flushing).handle_event(MonitoringEvent(points))
    event = cast(SendingEvent, object())
    await make(Sending).handle_event(event)
    assert got[0] is points
    assert got[1] is event
