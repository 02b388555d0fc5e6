"""The latencies of an inbox: how long events wait, and how long attempts take."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trivet import Batch, BatchPlugin, DeliverySettings, Event, EventPlugin, Runtime
from trivet._inbox import _latencies
from trivet._inbox._histogram import BOUNDS, Distribution, Histogram
from trivet._inbox._latencies import TIMED_EVERY, Sampling
from trivet.testing import open_plugins


class Poured(Event):
    seconds: float = 0.0


class Spilled(Event):
    pass


class Pourer(EventPlugin[Poured | Spilled]):
    async def handle_event(self, event: Poured | Spilled) -> None:
        if isinstance(event, Poured) and event.seconds:
            await trio.sleep(event.seconds)


class Impatient(Pourer):
    delivery = DeliverySettings(time_limit=1.0)


class Looping(EventPlugin[Poured | Spilled]):
    async def run(self) -> None:
        async for event in self.inbox:
            if isinstance(event, Poured):
                await trio.sleep(event.seconds)


class Lossy(Pourer):
    delivery = DeliverySettings(retry=True)

    async def handle_event(self, event: Poured | Spilled) -> None:
        await super().handle_event(event)
        raise ValueError("spilled")


class InBatches(BatchPlugin[Poured]):
    delivery = DeliverySettings(batch_size=100, batch_age=5.0)

    async def handle_batch(self, events: Batch[Poured]) -> None:
        await trio.sleep(events[0].seconds)


def handling(runtime: Runtime, event: str = "poured") -> Distribution:
    """The attempts of the only plugin."""
    (found,) = runtime.latencies().values()
    return found.handling[event]


@pytest.mark.parametrize("plugin", [Pourer, Looping])
async def test_the_time_of_an_attempt(plugin: type[Pourer], autojump_clock: MockClock) -> None:
    """An attempt lasts until the handler ends, or the loop asks for the next event."""
    async with open_plugins(plugin) as runtime:
        await runtime.publish(Poured(2.0))
        await trio.sleep(10.0)
        await runtime.publish(Spilled())
        await wait_all_tasks_blocked()
        found = handling(runtime)
        assert found.total == 1
        assert found.seconds == pytest.approx(2.0)
        assert found.counts[BOUNDS.index(2.0)] == 1


async def test_each_event_type_has_its_own(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Latencies are told apart by the event's type."""
    monkeypatch.setattr(_latencies, "PAUSE", 0.0)
    async with open_plugins(Pourer) as runtime:
        await runtime.publish(Poured(4.0), wait=True)
        await runtime.publish(Spilled(), wait=True)
        assert handling(runtime).seconds == pytest.approx(4.0)
        assert handling(runtime, "spilled").seconds == 0.0


async def test_an_event_waits_until_it_is_handed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wait of an event begins when it is accepted, and ends when the plugin gets it."""
    async with open_plugins(Pourer) as runtime:
        monkeypatch.setattr("trivet._delivery._publisher.wall_time", lambda: 1000.0)
        monkeypatch.setattr("trivet._inbox._latencies.wall_time", lambda: 1003.0)
        await runtime.publish(Poured())
        await wait_all_tasks_blocked()
        found = runtime.latencies()["pourer"].waiting["poured"]
        assert found.seconds == pytest.approx(3.0, abs=0.1)


async def test_a_clock_that_was_set_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """An event that seems to have come later than it was handed out has not waited at all."""
    async with open_plugins(Pourer) as runtime:
        monkeypatch.setattr("trivet._inbox._latencies.wall_time", lambda: 0.0)
        await runtime.publish(Poured())
        await wait_all_tasks_blocked()
        found = runtime.latencies()["pourer"].waiting["poured"]
        assert (found.counts[0], found.seconds) == (1, 0.0)


async def test_each_attempt_counts_and_the_wait_only_once(autojump_clock: MockClock) -> None:
    """Every attempt is counted; the wait before the second one is a back-off, and no queue's."""
    async with open_plugins(Lossy) as runtime:
        await runtime.publish(Poured(1.0), wait=True)
        found = runtime.latencies()["lossy"]
        attempts = runtime.statistics()["lossy"].retried + 1
        assert attempts > 1
        assert found.handling["poured"].total == attempts
        assert found.handling["poured"].seconds == pytest.approx(attempts * 1.0)
        assert found.waiting["poured"].total == 1


@pytest.mark.parametrize("is_plain", [True, False])
async def test_an_attempt_that_is_cancelled(is_plain: bool, autojump_clock: MockClock) -> None:
    """An attempt that its time limit ends has taken so long, on the fast path and off it."""
    async with open_plugins(Impatient) as runtime:
        await runtime.publish(Poured(5.0), wait=not is_plain)
        await trio.sleep(10.0)
        assert handling(runtime).seconds == pytest.approx(1.0)


async def test_a_batch(autojump_clock: MockClock) -> None:
    """Each event of a batch has taken as long as the batch, without the time to gather it."""
    async with open_plugins(InBatches) as runtime:
        for _ in range(100):
            await runtime.publish(Poured(2.0))
        await trio.sleep(20.0)
        found = handling(runtime)
        assert found.total == 100
        assert found.seconds == pytest.approx(200.0)


@pytest.mark.parametrize("plugin", [Pourer, Looping])
async def test_of_many_events_some_stand_for_all(plugin: type[Pourer]) -> None:
    """However few are timed, as many are counted as there were, but for the last."""
    events = 100 * TIMED_EVERY
    async with open_plugins(plugin) as runtime:
        for _ in range(events):
            await runtime.publish(Poured())
        await runtime.publish(Spilled())
        await wait_all_tasks_blocked()
        assert events - TIMED_EVERY <= handling(runtime).total <= events


async def test_few_events_are_all_timed(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events with a pause before each are timed one by one."""
    monkeypatch.setattr(_latencies, "PAUSE", 0.0)
    async with open_plugins(Pourer) as runtime:
        for _ in range(5):
            await runtime.publish(Poured(0.5))
            await trio.sleep(1.0)
        assert handling(runtime).total == 5


def test_events_that_are_timed_besides_stand_for_themselves() -> None:
    """The weights of sixteen events add up to sixteen, whoever is timed between."""
    sampling = Sampling()
    weights = [sampling.for_itself(float(number)) for number in range(3)]
    assert sum(weights) + sampling.for_others() == TIMED_EVERY
    assert sampling.for_others() == TIMED_EVERY
    for number in range(2 * TIMED_EVERY):
        sampling.for_itself(float(number))
    assert sampling.for_others() == 1


def test_bounds_belong_to_the_bucket_below() -> None:
    """A bound belongs to its own bucket; what is longer than all bounds is in the last."""
    histogram = Histogram()
    for seconds in (1.0, 1.5, 1e6, -1.0):
        histogram.add(seconds)
    found = dict(histogram.distribution().cumulative)
    assert (found[0.5], found[1.0], found[2.0], found[256.0], found[None]) == (1, 2, 3, 3, 4)


def test_the_durations_of_some_minutes() -> None:
    """Two instants have the durations between them; several distributions add up."""
    histogram = Histogram()
    histogram.add(1.0)
    before = histogram.distribution()
    histogram.add(8.0, weight=3)
    since = histogram.distribution().since(before)
    assert (since.total, since.seconds) == (3, 24.0)
    assert Distribution.merged([before, since]) == histogram.distribution()


def test_the_durations_of_another_inbox_with_the_same_name() -> None:
    """All durations of an inbox are new where the earlier ones are those of one that is gone."""
    gone, come = Histogram(), Histogram()
    gone.add(0.5)
    gone.add(30.0)
    for _ in range(5):
        come.add(0.5)
    assert come.distribution().since(gone.distribution()) == come.distribution()


@pytest.mark.parametrize(
    ("share", "low", "high"), [(0.0, 0.0, 1.0), (0.5, 0.5, 1.0), (0.99, 2.0, 4.0), (1.0, 2.0, 4.0)]
)
def test_a_quantile_is_in_its_bucket(share: float, low: float, high: float) -> None:
    """A quantile lies between the bounds of the bucket that has it."""
    histogram = Histogram()
    histogram.add(1.0, weight=90)
    histogram.add(3.0, weight=10)
    found = histogram.distribution().quantile(share)
    assert found is not None
    assert low <= found <= high
