"""One life of a program with four durable plugins, which ends by a kill, or by a stop.

Owns the plugins, the publishers and the operator of that program, and notes all that happens in a
log that outlives it. Never knows what is promised: `account` does.

Events come one by one, in batches, and as lines by HTTP. An operator replays dead letters.
"""

from __future__ import annotations

import os
import random
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any, ClassVar
from unittest.mock import patch

import attrs
import httpx
import trio

from trivet import (
    Batch,
    BatchPlugin,
    Delivery,
    DeliverySettings,
    Event,
    EventPlugin,
    Fate,
    Outcome,
    Runtime,
    Settings,
    StallSettings,
    StoreSettings,
    current_delivery,
    open_runtime,
)
from trivet._store._commit import Writing
from trivet._store._dead_letters import Criteria, DeadLetters
from trivet._store._store import Store
from trivet.testing import serving

from .account import (
    AGAIN,
    BEGUN,
    ENDED,
    FAILED,
    KNOWN,
    OFFERED,
    RECORD,
    REPLAYED,
    SENT,
    STORED,
    TAKEN,
    Rules,
)

KEYS = 16
CONCURRENCY = 4
BATCH = 20
PUBLISHERS = 16
SENDERS = 2
BACKLOG = 2000
"""Events that wait, above which the publishers pause: enough for most to be on disk only."""
DRAINS_WITHIN = 120.0
"""Seconds."""
STORE = "store.sqlite3"
SOURCE = "crash"


def key_of(number: int) -> int:
    """The ordering key of an event; one in three has the same, so that many wait for each other."""
    return 0 if number % 3 == 0 else number % KEYS


def is_picked(number: int) -> bool:
    """Whether an event is for `picky`, too."""
    return number % 5 < 2


class Numbered(Event):
    number: int
    key: int
    picked: bool

    @classmethod
    def of(cls, number: int) -> Numbered:
        """The event with this number."""
        return cls(number=number, key=key_of(number), picked=is_picked(number))


class Notes:
    """A mix-in that notes what a handler does, and fails now and then."""

    at: ClassVar[int]
    """The plugin's number in the records."""
    fails: ClassVar[float] = 0.003
    dice: ClassVar[random.Random]

    async def handle(self, numbers: list[int], takes: float) -> None:
        """Handle events within some seconds."""
        note(BEGUN, *numbers, plugin=self.at)
        try:
            await trio.sleep(takes)
            assert self.dice.random() >= self.fails, "once more"
        except BaseException:
            note(FAILED, *numbers, plugin=self.at)
            raise
        note(ENDED, *numbers, plugin=self.at)


class Keeper(Notes, EventPlugin[Numbered]):
    """Keeps the order of keys, in handlers side by side; a few take long."""

    at = 0
    delivery = DeliverySettings(
        durable=True, ordering_key="key", concurrency=CONCURRENCY, retry_initial=0.02
    )

    async def handle_event(self, event: Numbered) -> None:
        is_line = current_delivery().source != SOURCE
        assert is_line or current_delivery().id == str(event.number)
        long = event.number % 1009 == 0
        await self.handle([event.number], 0.1 if long else self.dice.choice([0.0, 0.0, 0.001]))


class Batcher(Notes, BatchPlugin[Numbered]):
    """Takes events in batches, in the order of the log."""

    at = 1
    delivery = DeliverySettings(
        durable=True, batch_size=BATCH, batch_age=0.01, retry_initial=0.02, time_limit=0
    )

    async def handle_batch(self, events: Batch[Numbered]) -> None:
        await self.handle([event.number for event in events], self.dice.choice([0.0, 0.001, 0.005]))


class Doubter(Notes, EventPlugin[Numbered]):
    """Fails often, and gives up soon: most of the dead letters are its own."""

    at = 2
    fails = 0.1
    delivery = DeliverySettings(
        durable=True, concurrency=CONCURRENCY, retry_initial=0.02, max_attempts=2
    )

    async def handle_event(self, event: Numbered) -> None:
        await self.handle([event.number], 0.0)


class Picky(Notes, EventPlugin[Numbered]):
    """Takes only some events, and falls behind the others."""

    at = 3
    delivery = DeliverySettings(durable=True, filter={"picked": True}, retry_initial=0.02)

    async def handle_event(self, event: Numbered) -> None:
        await self.handle([event.number], 0.001)


PLUGINS: tuple[type[Notes], ...] = (Keeper, Batcher, Doubter, Picky)
NAMES = ("keeper", "batcher", "doubter", "picky")


def one_lane(_: int) -> int:
    """All events have one order."""
    return 0


RULES = [
    Rules("keeper", CONCURRENCY, key_of),
    Rules("batcher", BATCH, one_lane, is_batched=True),
    Rules("doubter", CONCURRENCY, None),
    Rules("picky", 1, one_lane, wants=is_picked),
]


@attrs.frozen
class Orders:
    """The orders for one life."""

    directory: Path
    seed: int
    first: int
    """The first number that no event has had."""
    unanswered: list[int]
    """Events to publish again."""
    answered: list[int]
    """Some that were answered lately, and are not to be taken in again."""
    drains: bool
    """Whether to handle what there is, and stop; otherwise publish until killed."""

    @property
    def log(self) -> Path:
        """The file in which a life writes what happens."""
        return self.directory / "log"

    @property
    def store(self) -> Path:
        """The file of the durable inboxes."""
        return self.directory / STORE


_log_file = -1


def note(kind: bytes, *numbers: int, plugin: int = 0) -> None:
    """Write down what has happened, where a killed process does not take it away."""
    os.write(_log_file, b"".join(RECORD.pack(kind, plugin, number) for number in numbers))


def append_as_noted() -> None:
    """Have every event noted that is given to the store."""
    append = Store.append

    def noted(
        store: Store, delivery: Delivery[Numbered], packed: Any, plugin: str, *args: Any
    ) -> Writing:
        note(STORED, delivery.event.number, plugin=NAMES.index(plugin))
        return append(store, delivery, packed, plugin, *args)

    patch.object(Store, "append", noted).start()


class Load:
    """The publishers of one life, and its operator."""

    def __init__(
        self, runtime: Runtime, url: str, orders: Orders, told: Callable[[], None]
    ) -> None:
        self._runtime = runtime
        self._url = url
        self._orders = orders
        self._told = told
        self._dice = random.Random(orders.seed)
        self._numbers = count(orders.first)

    async def run(self) -> None:
        """Repeat what was not answered, then publish until killed; or drain what is there."""
        async with trio.open_nursery() as nursery:
            for number in self._orders.unanswered:
                nursery.start_soon(self._publish, number)
            for number in self._orders.answered:
                nursery.start_soon(self._repeat, number)
            if not self._orders.drains:
                nursery.start_soon(self._publish_batches)
                nursery.start_soon(self._replay_now_and_then)
                for _ in range(SENDERS):
                    nursery.start_soon(self._send_lines)
                for _ in range(PUBLISHERS):
                    nursery.start_soon(self._publish_on)
        with trio.fail_after(DRAINS_WITHIN):
            await self._drain()

    # Publishers.

    async def _publish_on(self) -> None:
        while True:
            number = next(self._numbers)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._publish, number)
                if self._dice.random() < 0.02:  # Somebody is impatient, and repeats it at once.
                    nursery.start_soon(self._publish, number)
            await self._pause()

    async def _publish_batches(self) -> None:
        while True:
            batch = [next(self._numbers) for _ in range(self._dice.randint(1, 30))]
            note(OFFERED, *batch)
            deliveries = [
                Delivery.of(Numbered.of(number), id=str(number), source=SOURCE) for number in batch
            ]
            outcomes = await self._runtime.publish_many(deliveries)
            for number, outcome in zip(batch, outcomes, strict=True):
                self._answered(number, outcome)
            await self._pause()

    async def _send_lines(self) -> None:
        async with httpx.AsyncClient(base_url=self._url, timeout=60) as client:
            while True:
                lines = [next(self._numbers) for _ in range(self._dice.randint(1, 100))]
                note(SENT, *lines)
                response = await client.post(
                    "/events/numbered",
                    content=b"\n".join(line_of(number) for number in lines),
                    headers={"Content-Type": "application/x-ndjson"},
                )
                assert response.status_code == 202, response.text
                assert response.json()["lines"] == len(lines), response.text
                fates = response.json()["fates"]
                picked = [number for number in lines if is_picked(number)]
                for plugin, name in enumerate(NAMES):
                    its = picked if name == "picky" else lines
                    assert fates.get(name, {}).get("queued", 0) == len(its), response.text
                    if its:
                        note(TAKEN, *its, plugin=plugin)
                self._told()
                await self._pause()

    async def _pause(self) -> None:
        while self._waiting() > BACKLOG:
            await trio.sleep(0.01)
        await trio.sleep(self._dice.choice([0, 0, 0.001, 0.02]))

    async def _publish(self, number: int) -> None:
        note(OFFERED, number)
        self._answered(number, await self._offer(number))

    async def _repeat(self, number: int) -> None:
        fates = (await self._offer(number)).fates
        for name, fate in fates.items():
            kind = AGAIN if fate in (Fate.DUPLICATE, Fate.FILTERED) else TAKEN
            if fate is not Fate.FILTERED:
                note(kind, number, plugin=NAMES.index(name))

    async def _offer(self, number: int) -> Outcome:
        return await self._runtime.publish(Numbered.of(number), id=str(number), source=SOURCE)

    def _answered(self, number: int, outcome: Outcome) -> None:
        for name, fate in outcome.fates.items():
            if fate is not Fate.FILTERED:
                kind = {Fate.QUEUED: TAKEN, Fate.DUPLICATE: KNOWN}[fate]
                note(kind, number, plugin=NAMES.index(name))
        self._told()

    # The operator.

    async def _replay_now_and_then(self) -> None:
        while True:
            await trio.sleep(self._dice.uniform(0.02, 0.4))
            await trio.to_thread.run_sync(self._replay, self._dice.choice([None, "doubter"]))

    def _replay(self, plugin: str | None) -> int:
        with DeadLetters(self._orders.store) as letters:
            count = letters.replay(Criteria(plugin=plugin))
        note(REPLAYED, count)
        return count

    async def _drain(self) -> None:
        """Handle all that waits, and all dead letters."""
        replayed = 1
        while replayed:
            while self._waiting():
                await trio.sleep(0.01)
            before = self._accepted()
            await trio.sleep(0.1)  # Within which the last ends are written.
            replayed = await trio.to_thread.run_sync(self._replay, None)
            while self._accepted() < before + replayed:
                await trio.sleep(0.01)

    def _waiting(self) -> int:
        numbers = self._runtime.statistics().values()
        return max(each.queued + each.in_flight + each.backing_off for each in numbers)

    def _accepted(self) -> int:
        return sum(each.accepted for each in self._runtime.statistics().values())


def line_of(number: int) -> bytes:
    """The event as a line."""
    picked = str(is_picked(number)).lower()
    return b'{"number":%d,"key":%d,"picked":%s}' % (number, key_of(number), picked.encode())


async def live(orders: Orders, told: Callable[[], None]) -> None:
    """One life."""
    settings = Settings(store=StoreSettings(path=orders.store), stalls=StallSettings(enabled=False))
    plugins: list[Any] = [*PLUGINS]
    async with open_runtime(settings, plugins=plugins) as runtime, serving(runtime) as url:
        await Load(runtime, url, orders, told).run()


def be_born(orders: Orders) -> tuple[int, int]:
    """Begin a life in a process of its own; returns its id, and what ends with its first answer."""
    told, ready = os.pipe()
    pid = os.fork()
    if pid:
        os.close(ready)
        return pid, told
    try:
        os.close(told)
        global _log_file  # noqa: PLW0603 - one for the process
        _log_file = os.open(orders.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        Notes.dice = random.Random(orders.seed)
        if orders.drains:
            Notes.fails = Doubter.fails = 0.0
        append_as_noted()
        with ExitStack() as stack:
            stack.callback(os.close, ready)
            trio.run(live, orders, stack.close)
        os._exit(0)
    finally:  # Nothing of the parent's may happen in this process.
        traceback.print_exc()
        os._exit(1)
