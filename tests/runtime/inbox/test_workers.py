"""How events are handled: for how long, how often, and how many at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest
import structlog
import trio
from trio.testing import MockClock

from trivet import (
    Batch,
    BatchPlugin,
    Delivery,
    DeliverySettings,
    Event,
    EventPlugin,
    Fate,
    HandlerTimeoutError,
    PermanentError,
    RetryAfter,
    Status,
    current_delivery,
)
from trivet.testing import open_plugins

from ..places import line_of


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
    """A late handler is cancelled, counted and named with its line; the next event is handled."""
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
    (note,) = line["exc_info"].__notes__
    first, *stack = note.splitlines()
    assert first == f"it stood at {__file__}:{line_of(Path(__file__), 'trio.sleep(seconds)')}"
    assert any("work_hard" in shown for shown in stack)
    assert stack[0].strip().startswith(f'File "{__file__}"')


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
    """Each of several events side by side has its own time limit."""
    settings: Any = {"worker": {"delivery": {"concurrency": 3, "time_limit": 5.0}}}
    async with open_plugins(Worker, settings=settings) as runtime:
        for seconds in (100, 4, 3, 4.5, 100, 1):
            await runtime.publish(Work(seconds))
        while runtime.statistics()["worker"].queued + runtime.statistics()["worker"].in_flight:
            await trio.sleep(0.5)
    assert sorted(Worker.done) == [1, 3, 4, 4.5]
    assert runtime.statistics()["worker"].timed_out == 2


async def test_a_handler_that_does_not_end_is_logged(autojump_clock: MockClock) -> None:
    """A handler that shields itself is logged once more when the limit has passed again."""
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
    """An event that the end of the draining cancels is abandoned, not late."""
    settings: Any = {"worker": {"delivery": {"time_limit": 1000.0}}}
    async with open_plugins(Worker, settings=settings) as runtime:
        await runtime.publish(Work(500))
        await trio.testing.wait_all_tasks_blocked()
    statistics = runtime.statistics()["worker"]
    assert (statistics.abandoned, statistics.timed_out) == (1, 0)


async def test_an_idle_plugin_with_a_limit_is_drained_at_once(autojump_clock: MockClock) -> None:
    """The watch of a time limit does not keep an idle plugin from ending."""
    async with open_plugins(Worker):
        pass
    assert trio.current_time() == 0.0


# Deadlines


async def test_a_handler_is_cut_off_at_the_deadline_of_its_event(autojump_clock: MockClock) -> None:
    """A handler is cancelled at the deadline, its event expires, and the next one is handled."""
    async with open_plugins(Patient) as runtime:
        late = await runtime.publish(Work(100), wait=True, deadline=trio.current_time() + 3)
        assert trio.current_time() == pytest.approx(3.0)
        in_time = await runtime.publish(Work(1), wait=True, deadline=trio.current_time() + 3)
        no_deadline = await runtime.publish(Work(10), wait=True)
        statistics = runtime.statistics()["patient"]
    assert late.fates == {"patient": Fate.EXPIRED}
    assert in_time.fates == no_deadline.fates == {"patient": Fate.HANDLED}
    assert Patient.done == [1, 10]
    assert (statistics.expired, statistics.failed, statistics.handled) == (1, 0, 2)


async def test_a_handler_that_ignores_its_deadline_has_handled_its_event(
    autojump_clock: MockClock,
) -> None:
    """An event that was done stays done, and the next one does not feel the deadline."""
    async with open_plugins(Patient) as runtime:
        late = await runtime.publish(
            Work(5, shield=True), wait=True, deadline=trio.current_time() + 3
        )
        following = await runtime.publish(Work(4), wait=True)
    assert late.fates == following.fates == {"patient": Fate.HANDLED}


async def test_the_sooner_of_limit_and_deadline_counts(autojump_clock: MockClock) -> None:
    """An event beyond its time limit has failed, and one beyond its deadline has expired."""
    async with open_plugins(Worker) as runtime:
        expired = await runtime.publish(Work(9), wait=True, deadline=trio.current_time() + 1)
        failed = await runtime.publish(Work(9), wait=True, deadline=trio.current_time() + 5)
        assert trio.current_time() == pytest.approx(3.0)
    assert (expired.worst, failed.worst) == (Fate.EXPIRED, Fate.FAILED)


class Patient(Worker):
    delivery = DeliverySettings(time_limit=0)


# Retries


class Flaky(EventPlugin[Work]):
    delivery = DeliverySettings(retry=True, max_attempts=3)
    fails: int = 2

    async def initialize(self) -> None:
        self.attempts: list[tuple[float, float, int]] = []

    async def handle_event(self, event: Work) -> None:
        attempt = current_delivery().attempt
        self.attempts.append((trio.current_time(), event.seconds, attempt))
        if event.seconds == 13:
            raise PermanentError("thirteen")
        if event.seconds == 14:
            raise RetryAfter(120)
        if attempt <= self.fails:
            raise ValueError(event.seconds)


async def test_a_failed_event_is_tried_again(autojump_clock: MockClock) -> None:
    """A failed event is tried again after a wait; no other overtakes it, and its publisher learns
    the end."""
    async with open_plugins(Flaky, settings={"flaky": {"fails": 2}}) as runtime:
        first = runtime.publish(Work(1), wait=True)
        async with trio.open_nursery() as nursery:
            results: list[Fate | None] = []

            @nursery.start_soon
            async def publish() -> None:
                results.append((await first).worst)

            await trio.testing.wait_all_tasks_blocked()
            statistics = runtime.statistics()["flaky"]
            assert (statistics.backing_off, statistics.retried) == (1, 1)
            await runtime.publish(Work(2))
        assert results == [Fate.HANDLED]
        attempts = runtime.get(Flaky).attempts
        assert [attempt[1:] for attempt in attempts][:3] == [(1, 1), (1, 2), (1, 3)]
        assert 0 < attempts[1][0] <= 5
        assert attempts[1][0] < attempts[2][0] <= attempts[1][0] + 7.5


async def test_an_event_that_fails_too_often_is_given_up(autojump_clock: MockClock) -> None:
    """An event in memory that has used up its attempts has failed."""
    async with open_plugins(Flaky, settings={"flaky": {"fails": 9}}) as runtime:
        assert (await runtime.publish(Work(1), wait=True)).worst is Fate.FAILED
        statistics = runtime.statistics()["flaky"]
        assert (statistics.failed, statistics.retried) == (1, 2)
        assert [attempt[2] for attempt in runtime.get(Flaky).attempts] == [1, 2, 3]


async def test_a_permanent_error_ends_the_event(autojump_clock: MockClock) -> None:
    """A `PermanentError` ends the event at once, and not the plugin."""
    async with open_plugins(Flaky) as runtime:
        assert (await runtime.publish(Work(13), wait=True)).worst is Fate.FAILED
        assert trio.current_time() == 0.0
        assert runtime.hosts["flaky"].status is Status.RUNNING


async def test_retry_after_is_honoured(autojump_clock: MockClock) -> None:
    """An event is not tried again before the time in `RetryAfter`."""
    async with open_plugins(Flaky) as runtime:
        await runtime.publish(Work(14), wait=True)
        times = [time for time, _, _ in runtime.get(Flaky).attempts]
        assert times == [0.0, pytest.approx(120.0), pytest.approx(240.0)]


async def test_no_wait_beyond_the_deadline(autojump_clock: MockClock) -> None:
    """An attempt that would begin after the deadline is not waited for."""
    async with open_plugins(Flaky) as runtime:
        outcome = await runtime.publish(Work(14), wait=True, deadline=trio.current_time() + 60)
        assert trio.current_time() == 0.0
        assert outcome.worst is Fate.EXPIRED


async def test_a_stop_does_not_wait_for_the_next_attempt(autojump_clock: MockClock) -> None:
    """A stop abandons an event in memory that backs off."""
    async with open_plugins(Flaky) as runtime:
        await runtime.publish(Work(14))
        await trio.testing.wait_all_tasks_blocked()
    assert trio.current_time() == 0.0
    assert runtime.statistics()["flaky"].abandoned == 1


# Batches


class Shipping(BatchPlugin[Work]):
    delivery = DeliverySettings(batch_size=3, batch_age=2.0, retry=True, max_attempts=2)

    async def initialize(self) -> None:
        self.batches: list[tuple[list[float], str]] = []

    async def handle_batch(self, events: Batch[Work]) -> None:
        seconds = [event.seconds for event in events]
        self.batches.append((seconds, events.closed_by))
        if -1 in seconds:
            raise ValueError("minus one")
        for delivery in events.deliveries:
            if delivery.event.seconds == 13:
                self.inbox.reject(delivery, PermanentError("thirteen"))
            if delivery.event.seconds == 7:
                self.inbox.keep(delivery)


async def test_a_batch_plugin_gets_batches(autojump_clock: MockClock) -> None:
    """A batch plugin gets batches closed by size, by age and by the stop, and all are handled."""
    async with open_plugins(Shipping) as runtime:
        await runtime.publish_many([Delivery.of(Work(number)) for number in (1, 2, 3, 4)])
        await trio.testing.wait_all_tasks_blocked()
        assert runtime.get(Shipping).batches == [([1, 2, 3], "size")]
        await trio.sleep(2)
        await runtime.publish(Work(5))
        shipping = runtime.get(Shipping)
    assert shipping.batches == [([1, 2, 3], "size"), ([4], "age"), ([5], "stop")]
    assert runtime.statistics()["shipping"].handled == 5


async def test_the_operator_says_how_large_a_batch_is(autojump_clock: MockClock) -> None:
    """A full batch is full by size or by bytes."""
    size = len(msgspec.json.encode(Work(1.5)))
    settings: Any = {"shipping": {"delivery": {"batch_size": 9, "batch_bytes": 2 * size}}}
    async with open_plugins(Shipping, settings=settings) as runtime:
        await runtime.publish_many([Delivery.of(Work(1.5)) for _ in range(4)])
        await trio.testing.wait_all_tasks_blocked()
        assert runtime.get(Shipping).batches == [([1.5, 1.5], "bytes")] * 2


async def test_a_batch_that_fails_is_tried_again_as_a_whole(autojump_clock: MockClock) -> None:
    """A batch that fails is tried again, and given up, as a whole, with one warning."""
    with structlog.testing.capture_logs() as logs:
        async with open_plugins(Shipping) as runtime:
            events = [Delivery.of(Work(number), id=str(number)) for number in (1, -1, 3)]
            outcomes = await runtime.publish_many(events, wait=True)
            assert [seconds for seconds, _ in runtime.get(Shipping).batches] == [[1, -1, 3]] * 2
    assert {outcome.worst for outcome in outcomes} == {Fate.FAILED}
    (line,) = [log for log in logs if log["log_level"] == "warning"]
    assert line["event"] == "events failed, and are tried again"
    assert (line["count"], line["first"], line["attempt"]) == (3, "1", 1)
    assert line["error"] == "ValueError: minus one"
    failed = [log for log in logs if log["event"] == "event failed"]
    assert [(log["event_id"], log.get("repeated")) for log in failed] == [("1", None), ("3", 2)]


async def test_an_item_of_a_batch_can_be_rejected_or_kept(autojump_clock: MockClock) -> None:
    """A handler may reject or keep an event of its batch, and the others are handled."""
    async with open_plugins(Shipping) as runtime:
        outcomes = await runtime.publish_many([Delivery.of(Work(n)) for n in (1, 13, 7)])
        await trio.testing.wait_all_tasks_blocked()
        assert len(outcomes) == 3
        statistics = runtime.statistics()["shipping"]
        assert (statistics.handled, statistics.failed, statistics.in_flight) == (1, 1, 1)
    assert runtime.statistics()["shipping"].abandoned == 1


async def test_a_batch_that_takes_too_long_is_cut_off(autojump_clock: MockClock) -> None:
    """The time limit of a batch plugin is for a whole batch."""

    class Slow(BatchPlugin[Work]):
        delivery = DeliverySettings(batch_size=2, time_limit=1.0)

        async def handle_batch(self, events: Batch[Work]) -> None:
            await trio.sleep(events[0].seconds)

    async with open_plugins(Slow) as runtime:
        events = [Delivery.of(Work(number)) for number in (9, 0, 0, 0)]
        outcomes = await runtime.publish_many(events, wait=True)
        assert trio.current_time() == pytest.approx(1.0)
    expected = [Fate.FAILED, Fate.FAILED, Fate.HANDLED, Fate.HANDLED]
    assert [outcome.worst for outcome in outcomes] == expected


async def test_an_event_that_expires_while_a_batch_is_filled_is_left_out(
    autojump_clock: MockClock,
) -> None:
    """An event that expires while its batch is filled is left out, and an empty batch is not
    handled."""
    settings: Any = {"shipping": {"delivery": {"batch_age": 5.0}}}
    async with open_plugins(Shipping, settings=settings) as runtime:
        late = await runtime.publish(Work(1), wait=True, deadline=trio.current_time() + 1)
        await runtime.publish(Work(2), deadline=trio.current_time() + 1)
        in_time = await runtime.publish(Work(3), wait=True)
        assert runtime.get(Shipping).batches == [([3], "age")]
    assert (late.worst, in_time.worst) == (Fate.EXPIRED, Fate.HANDLED)


async def test_a_batch_has_neighbours_of_a_key(autojump_clock: MockClock) -> None:
    """One batch at a time keeps a key's order; of several batches, each has one of its events."""
    settings: Any = {"shipping": {"delivery": {"ordering_key": "shield"}}}
    for concurrency, sizes in ((1, [3, 1]), (2, [1, 1, 1, 1])):
        settings["shipping"]["delivery"]["concurrency"] = concurrency
        async with open_plugins(Shipping, settings=settings) as runtime:
            events = [Delivery.of(Work(number)) for number in (1, 2, 3, 4)]
            await runtime.publish_many(events, wait=True)
            batches = runtime.get(Shipping).batches
        assert [len(seconds) for seconds, _ in batches] == sizes
        assert [seconds for batch, _ in batches for seconds in batch] == [1, 2, 3, 4]
