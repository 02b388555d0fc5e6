"""A handler may take only so long for one event."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import structlog
import trio
from trio.testing import MockClock

from trivet import DeliverySettings, Event, EventPlugin, Fate, HandlerTimeoutError, Status
from trivet.testing import open_plugins


class Work(Event):
    seconds: float
    shield: bool = False


class Worker(EventPlugin[Work]):
    delivery = DeliverySettings(time_limit=2.0)
    done: ClassVar[list[float]]

    async def initialize(self) -> None:
        type(self).done = []

    async def handle_event(self, event: Work) -> None:
        with trio.CancelScope(shield=event.shield):
            await self.work_hard(event.seconds)
        self.done.append(event.seconds)

    async def work_hard(self, seconds: float) -> None:
        await trio.sleep(seconds)


async def test_a_handler_that_takes_too_long_costs_its_event(autojump_clock: MockClock) -> None:
    """It is cancelled, counted and named with where it stood; the next event is handled."""
    with structlog.testing.capture_logs() as logs:
        async with open_plugins(Worker) as runtime:
            late = await runtime.publish(Work(100), wait=True, id="slow")
            assert trio.current_time() == pytest.approx(2.0)
            assert late.fates == {"worker": Fate.FAILED}
            assert (await runtime.publish(Work(1), wait=True)).fates == {"worker": Fate.HANDLED}
            assert runtime.hosts["worker"].status is Status.RUNNING
        statistics = runtime.statistics()["worker"]
    assert (statistics.failed, statistics.timed_out, statistics.handled) == (1, 1, 1)
    (line,) = [log for log in logs if log["event"] == "event failed"]
    assert (line["plugin"], line["event_id"]) == ("worker", "slow")
    assert isinstance(line["exc_info"], HandlerTimeoutError)
    assert "longer than 2 s" in str(line["exc_info"])
    assert "work_hard" in str(line["exc_info"])


async def test_each_event_has_the_whole_limit(autojump_clock: MockClock) -> None:
    """Many events that each keep the limit take as long as they take."""
    async with open_plugins(Worker) as runtime:
        for _ in range(20):
            await runtime.publish(Work(1.9))
        await runtime.publish(Work(0), wait=True)
        assert len(Worker.done) == 21
        assert trio.current_time() == pytest.approx(38.0)
    assert runtime.statistics()["worker"].failed == 0


async def test_a_slow_event_does_not_cost_its_neighbour(autojump_clock: MockClock) -> None:
    """With several side by side, each is late for itself."""
    settings: Any = {"worker": {"delivery": {"concurrency": 3, "time_limit": 5.0}}}
    async with open_plugins(Worker, settings=settings) as runtime:
        for seconds in (100, 4, 3, 4.5, 100, 1):
            await runtime.publish(Work(seconds))
        while runtime.statistics()["worker"].queued + runtime.statistics()["worker"].in_hand:
            await trio.sleep(0.5)
    assert sorted(Worker.done) == [1, 3, 4, 4.5]
    assert runtime.statistics()["worker"].timed_out == 2


async def test_a_handler_that_does_not_end_is_told_of(autojump_clock: MockClock) -> None:
    """One that shields itself is named once more when the limit has passed again."""
    with structlog.testing.capture_logs() as logs:
        async with open_plugins(Worker) as runtime:
            late = await runtime.publish(Work(100, shield=True))
            next_one = await runtime.publish(Work(1), wait=True)
            assert trio.current_time() == pytest.approx(101.0)
            assert next_one.fates == {"worker": Fate.HANDLED}
    told = [log for log in logs if log["event"].startswith("handler does not end")]
    assert [log["plugin"] for log in told] == ["worker"]
    assert runtime.statistics()["worker"].timed_out == 1
    assert late.accepted


async def test_a_stop_is_not_taken_for_a_limit(autojump_clock: MockClock) -> None:
    """What the end of the draining cancels is abandoned, not late."""
    settings: Any = {"worker": {"delivery": {"time_limit": 1000.0}}}
    async with open_plugins(Worker, settings=settings) as runtime:
        await runtime.publish(Work(500))
        await trio.testing.wait_all_tasks_blocked()
    statistics = runtime.statistics()["worker"]
    assert (statistics.abandoned, statistics.timed_out) == (1, 0)


async def test_an_idle_plugin_with_a_limit_is_drained_at_once(autojump_clock: MockClock) -> None:
    """The watch does not keep a plugin from ending."""
    async with open_plugins(Worker):
        pass
    assert trio.current_time() == 0.0
