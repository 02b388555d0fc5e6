"""Events in one process, through memory: a plugin beside a bare channel and a bare call.

    python tests/bench/bench_delivery.py [--quick]

One task publishes as fast as it can, each event built in the loop, to plugins that do nothing with
it, in the default settings. Beside it, in turns: a stock memory channel of 64 with a reader for
each subscriber; asyncio's queue of 64 with one; the bare `await` of as many handlers; and the least
that keeps the contract: the same envelope and outcome, a deque, and the two coroutines that a
publisher and a handler are. The events of channels and queues are attrs classes with a dict, or,
where the row says so, Trivet's events. The second table has events and settings that cost more than
the plain ones, beside these. What counts is the processor's time. "At low load" is the time from
the publisher to the handler, 500 events a second.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from statistics import quantiles
from time import perf_counter, process_time, time
from typing import Any

import attrs
import structlog
import trio
from pairs import QUICK, Table, in_trio, pairs

from trivet import (
    Batch,
    BatchPlugin,
    Delivery,
    DeliverySettings,
    Envelope,
    Event,
    EventPlugin,
    Fate,
    Outcome,
    Plugin,
    open_runtime,
)
from trivet._events._delivery import NO_ORIGIN

EVENTS = 20_000 if QUICK else 100_000
"""In one round, divided by the number of subscribers."""
AT_LOW_LOAD = 200 if QUICK else 1000


class Ping(Event):
    """The event that is published."""

    number: int


class Sink(EventPlugin[Ping]):
    """Does nothing; there are as many classes of it as there are subscribers."""

    async def handle_event(self, event: Ping) -> None:
        """Do nothing."""


def sinks(count: int) -> list[type[Plugin]]:
    """A number of plugin classes."""
    return [type(f"Sink{number}", (Sink,), {}) for number in range(count)]


async def through_trivet(subscribers: int) -> float:
    """Events a second, from the first `publish` to the last handler."""
    events = EVENTS // subscribers
    async with open_runtime(plugins=sinks(subscribers)) as runtime:
        began = process_time()
        for number in range(events - 1):
            await runtime.publish(Ping(number))
        await runtime.publish(Ping(events), wait=True)
        return events / (process_time() - began)


async def deliveries(subscribers: int) -> float:
    """Deliveries a second of processor time, of two thousand events at least."""
    plugins = sinks(subscribers)
    count = max(EVENTS // subscribers, 2000)
    async with open_runtime(plugins=plugins) as runtime:
        await runtime.publish(Ping(0))
        began = process_time()
        for number in range(count):
            await runtime.publish(Ping(number))
        return count * subscribers / (process_time() - began)


@attrs.frozen(slots=False)
class Plain:
    """The event in channels and queues: an attrs class with a dict."""

    number: int


async def through_channels(subscribers: int, kind: Callable[[int], Any] = Plain) -> float:
    """Events a second, by a `send` for each subscriber."""
    events = EVENTS // subscribers

    async def read(channel: trio.MemoryReceiveChannel[Any]) -> None:
        async for event in channel:
            await handle(event)

    channels = [trio.open_memory_channel[Any](64) for _ in range(subscribers)]
    began = process_time()
    async with trio.open_nursery() as nursery:
        for _, receive in channels:
            nursery.start_soon(read, receive)
        for number in range(events):
            event = kind(number)
            for send, _ in channels:
                await send.send(event)
        for send, _ in channels:
            send.close()
    return events / (process_time() - began)


def through_queue(kind: Callable[[int], Any]) -> Callable[[], float]:
    """Events a second, by asyncio's queue of 64 and one reader."""

    async def put() -> float:
        queue = asyncio.Queue[Any](64)
        reader = asyncio.create_task(read(queue))
        began = process_time()
        for number in range(EVENTS):
            await queue.put(kind(number))
        await queue.put(None)
        await reader
        return EVENTS / (process_time() - began)

    async def read(queue: asyncio.Queue[Any]) -> None:
        while (event := await queue.get()) is not None:
            await handle(event)

    return lambda: asyncio.run(put())


async def handle(event: Any) -> None:
    """Do nothing."""


class Filtered(Sink):
    """Leaves all events out."""

    delivery = DeliverySettings(filter={"number": [-1]})


class Retried(Sink):
    """Would try an event again, had its handler failed."""

    delivery = DeliverySettings(retry=True)


class Keyed(Sink):
    """Would try an event again, and keeps the order of the events of a key."""

    delivery = DeliverySettings(retry=True, ordering_key="partitionkey")


class Batches(BatchPlugin[Ping]):
    """Takes a hundred events at a time."""

    delivery = DeliverySettings(batch_size=100)

    async def handle_batch(self, events: Batch[Ping]) -> None:
        """Do nothing."""


async def through(plugin: type[Plugin], envelope: Callable[[int], Envelope]) -> float:
    """Events a second to one plugin, with some facts in the envelope."""
    events = EVENTS // 2
    async with open_runtime(plugins=[plugin]) as runtime:
        began = process_time()
        for number in range(events - 1):
            await runtime.publish(Ping(number), **envelope(number))
        await runtime.publish(Ping(events), wait=True)
        return events / (process_time() - began)


async def in_hundreds() -> float:
    """Events a second to one plugin, by `publish_many`."""
    async with open_runtime(plugins=[Sink]) as runtime:
        began = process_time()
        for first in range(0, EVENTS // 2, 100):
            events = range(first, first + 100)
            await runtime.publish_many([Delivery.of(Ping(number)) for number in events])
        await runtime.publish(Ping(EVENTS), wait=True)
        return EVENTS // 2 / (process_time() - began)


def nothing(_: int) -> Envelope:
    """No facts."""
    return {}


def an_id(number: int) -> Envelope:
    """An id, by which a repetition would be recognised."""
    return {"id": f"ping-{number}"}


def a_key(number: int) -> Envelope:
    """One of a hundred keys."""
    return {"key": f"key-{number % 100}"}


async def by_calls(subscribers: int) -> float:
    """Events a second, by the bare call of a number of handlers."""
    events = EVENTS // subscribers
    handlers: list[Callable[[Ping], Awaitable[None]]] = [handle] * subscribers
    began = process_time()
    for number in range(events):
        event = Ping(number)
        for each in handlers:
            await each(event)
    return events / (process_time() - began)


async def by_the_least(subscribers: int) -> float:
    """Events a second, by the least code that keeps the contract."""
    events = EVENTS // subscribers
    queues = [deque[Delivery[Ping]]() for _ in range(subscribers)]
    fates = {f"sink{number}": Fate.QUEUED for number in range(subscribers)}

    async def publish(event: Ping) -> Outcome:
        delivery = Delivery(event, "service", time(), NO_ORIGIN, True)
        for queue in queues:
            queue.append(delivery)
        return Outcome(delivery, fates)

    began = process_time()
    for first in range(0, events, 256):
        for number in range(first, min(first + 256, events)):
            await publish(Ping(number))
        for queue in queues:
            while queue:
                await handle(queue.popleft().event)
    return events / (process_time() - began)


LATENCIES: list[float] = []


class Watch(EventPlugin[Ping]):
    """Notes when an event arrives."""

    async def handle_event(self, event: Ping) -> None:
        """Note it."""
        note(event)


def note(event: Ping) -> None:
    """Note the time that an event took until now."""
    LATENCIES.append(perf_counter() - event.number / 1e9)


def now() -> Ping:
    """An event that says when it was published, in nanoseconds."""
    return Ping(round(perf_counter() * 1e9))


async def delay_in_trivet(percentile: int) -> float:
    """Events in the time that one takes at low load: the reciprocal of the delay."""
    LATENCIES.clear()
    async with open_runtime(plugins=[Watch]) as runtime:
        for _ in range(AT_LOW_LOAD):
            await runtime.publish(now())
            await trio.sleep(0.002)
    return 1 / quantiles(LATENCIES, n=100)[percentile - 1]


async def delay_in_channel(percentile: int) -> float:
    """The same through a channel."""
    LATENCIES.clear()

    async def read(channel: trio.MemoryReceiveChannel[Ping]) -> None:
        async for event in channel:
            note(event)

    send, receive = trio.open_memory_channel[Ping](64)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(read, receive)
        for _ in range(AT_LOW_LOAD):
            await send.send(now())
            await trio.sleep(0.002)
        send.close()
    return 1 / quantiles(LATENCIES, n=100)[percentile - 1]


def main() -> None:
    """Measure, and print the table."""
    table = Table("delivery in memory", "events/s")
    for subscribers, aim in ((1, "≥ 7"), (4, ""), (16, "≥ 22"), (64, "")):
        ours = in_trio(through_trivet, subscribers)
        plugins = "1 plugin" if subscribers == 1 else f"{subscribers} plugins"
        rate, ratio = pairs(ours, in_trio(through_channels, subscribers))
        table.row(f"to {plugins}", rate.median, "channels of 64", ratio, aim)
        rate, ratio = pairs(ours, in_trio(by_the_least, subscribers))
        table.row(f"to {plugins}", rate.median, "the least", ratio)
    ours = in_trio(through_trivet, 1)
    rate, ratio = pairs(ours, through_queue(Plain))
    table.row("to 1 plugin", rate.median, "asyncio.Queue(64)", ratio, "≥ 1.25")
    rate, ratio = pairs(ours, through_queue(Ping))
    table.row("to 1 plugin", rate.median, "asyncio.Queue(64), of Trivet's events", ratio)
    rate, ratio = pairs(ours, in_trio(through_channels, 1, Ping))
    table.row("to 1 plugin", rate.median, "a channel of 64, of Trivet's events", ratio)
    rate, ratio = pairs(ours, in_trio(by_calls, 1))
    table.row("to 1 plugin", rate.median, "`await handler(event)`", ratio, "≥ 0.25")
    rate, ratio = pairs(in_trio(by_the_least, 1), in_trio(through_channels, 1))
    table.row("the least, to 1", rate.median, "a channel of 64", ratio)
    table = Table("more than a plain event", "events/s")
    plain = in_trio(through, Sink, nothing)
    for what, measure, aim in (
        ("with an id", in_trio(through, Sink, an_id), "≥ 0.6"),
        ("with a key", in_trio(through, Sink, a_key), ""),
        ("with retries", in_trio(through, Retried, nothing), ""),
        ("with a key, in its order, and retries", in_trio(through, Keyed, a_key), ""),
        ("left out by a filter", in_trio(through, Filtered, nothing), ""),
        ("in batches of 100", in_trio(through, Batches, nothing), ""),
        ("published in hundreds", in_trio(in_hundreds), ""),
    ):
        rate, ratio = pairs(measure, plain)
        table.row(what, rate.median, "a plain event", ratio, aim)
    table = Table("a delivery, by the number of plugins", "deliveries/s")
    for subscribers in (32, 64, 256, 1000):
        rate, ratio = pairs(
            in_trio(deliveries, subscribers), in_trio(deliveries, 16), rounds=2 if QUICK else 5
        )
        table.row(f"to {subscribers} plugins", rate.median, "to 16", ratio.inverse(), "≤ 1.25")
    table = Table("delay at low load", "µs")
    for percentile in (50, 99):
        ours = in_trio(delay_in_trivet, percentile)
        rate, ratio = pairs(ours, in_trio(delay_in_channel, percentile))
        ratio = ratio.inverse()
        table.row(f"p{percentile}", 1e6 / rate.median, "a channel of 64", ratio, "≤ 1.2")


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    main()
