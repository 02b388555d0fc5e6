"""The durable inbox: what it accepted outlives the plugin, the stop and the program."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock, wait_all_tasks_blocked

from trivet import (
    Delivery,
    DeliverySettings,
    Event,
    EventDecodeError,
    EventPlugin,
    Fate,
    Outcome,
    PermanentError,
    Plugin,
    PluginStatusEvent,
    Runtime,
    Settings,
    StallSettings,
    Status,
    StoreSettings,
    SupervisionSettings,
    current_delivery,
    open_runtime,
)
from trivet._delivery import _beyond
from trivet._delivery._beyond import WINDOW
from trivet._delivery._bounded import BoundedInbox
from trivet._program._loader import load
from trivet._store import _packing as _stored
from trivet._store import _store
from trivet._store._dead_letters import DeadLetters
from trivet._store._journal import Journal
from trivet._store._packing import Packed
from trivet._store._records import DeadLetter, JournalInUseError, JournalUnavailableError
from trivet.testing import open_plugins


class Order(Event):
    number: int
    customer: str = ""
    extra: Any = None


class Billing(EventPlugin[Order]):
    """Bills orders: those with a number below `fails` fail, and it waits for `gate`."""

    delivery = DeliverySettings(durable=True, max_attempts=3, retry_initial=0.0)
    fails: int = 0

    async def initialize(self) -> None:
        self.gate = trio.Event()
        self.gate.set()
        self.got: list[tuple[int, int]] = []

    async def handle_event(self, event: Order) -> None:
        self.got.append((event.number, current_delivery().attempt))
        await self.gate.wait()
        if event.number < self.fails:
            raise ValueError(f"order {event.number}")
        if event.number == 1313:
            raise PermanentError("thirteen")

    @property
    def numbers(self) -> list[int]:
        """The numbers that it got, without the attempts."""
        return [number for number, _ in self.got]


class Parcel(Event):
    number: int
    contents: str = ""


class Shipping(EventPlugin[Parcel]):
    """Ships parcels."""

    delivery = DeliverySettings(durable=True)

    async def initialize(self) -> None:
        self.got: list[int] = []

    async def handle_event(self, event: Parcel) -> None:
        self.got.append(event.number)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of the store."""
    return tmp_path / "state" / "store.sqlite3"


@asynccontextmanager
async def program(
    path: Path, *plugins: type[Plugin], store: dict[str, Any] | None = None, **tables: Any
) -> AsyncGenerator[Runtime]:
    """A program on this store."""
    settings = Settings(
        plugins=tables,
        store=StoreSettings(path=path, **(store or {})),
        stalls=StallSettings(enabled=False),
    )
    async with open_runtime(settings, plugins=plugins or [Billing]) as runtime:
        yield runtime


def dead_letters(path: Path) -> list[DeadLetter]:
    """The dead letters in the file."""
    with DeadLetters(path) as letters:
        return letters.list()


def orders(*numbers: int) -> list[Delivery[Event]]:
    """Orders with ids of their own."""
    return [Delivery.of(Order(number), id=f"o-{number}") for number in numbers]


async def test_an_event_is_stored_before_its_publisher_is_told(path: Path) -> None:
    """Another process can read an event from the file when its publisher is told."""
    async with program(path) as runtime:
        runtime.get(Billing).gate = trio.Event()
        outcome = await runtime.publish(Order(1))
        # The standard library's shell, so to speak: another process that knows no Trivet.
        count = (
            "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); print(*c.execute(sys.argv[2]))"
        )
        command = [sys.executable, "-c", count, str(path), "select count(*) from event"]
        done = await trio.run_process(command, capture_stdout=True)
        runtime.get(Billing).gate.set()
    assert outcome.fates == {"billing": Fate.QUEUED}
    assert done.stdout == b"(1,)\n"


async def test_unhandled_events_are_handled_after_the_next_start(path: Path) -> None:
    """Events left by a stop are handled in order by the next program, each as its first attempt."""
    async with program(path) as runtime:
        runtime.get(Billing).gate = trio.Event()
        await runtime.publish_many(orders(1, 2, 3))
        await wait_all_tasks_blocked()
        runtime.hurry()
    left = runtime.statistics()["billing"]
    assert (left.accepted, left.queued, left.in_flight, left.abandoned) == (3, 3, 0, 0)
    async with program(path) as runtime:
        found = runtime.statistics()["billing"]
        assert found.accepted == 3
        await runtime.publish(Order(4), wait=True)
        assert runtime.get(Billing).got == [(1, 1), (2, 1), (3, 1), (4, 1)]
    statistics = runtime.statistics()["billing"]
    assert (statistics.accepted, statistics.handled, statistics.queued) == (4, 4, 0)
    async with program(path) as runtime:
        assert runtime.statistics()["billing"].accepted == 0


async def test_an_event_that_fails_too_often_becomes_a_dead_letter(path: Path) -> None:
    """A dead letter has the event, the plugin and each error, and other events are handled."""
    async with program(path, billing={"fails": 2}) as runtime:
        outcomes = await runtime.publish_many(orders(1, 2), wait=True)
        assert [outcome.worst for outcome in outcomes] == [Fate.DEAD_LETTERED, Fate.HANDLED]
        assert runtime.get(Billing).got == [(1, 1), (1, 2), (1, 3), (2, 1)]
        statistics = runtime.statistics()["billing"]
        assert (statistics.dead_lettered, statistics.handled, statistics.retried) == (1, 1, 2)
    (letter,) = dead_letters(path)
    assert (letter.plugin, letter.event, letter.id, letter.source) == (
        "billing",
        "order",
        "o-1",
        "trivet",
    )
    assert letter.reason == "ValueError: order 1"
    assert letter.history.count(b"ValueError: order 1") == 3
    assert b'"number":1' in letter.payload


async def test_a_permanent_error_makes_a_dead_letter_at_once(path: Path) -> None:
    """An event that fails with a permanent error is a dead letter after one attempt."""
    async with program(path) as runtime:
        assert (await runtime.publish(Order(1313), wait=True)).worst is Fate.DEAD_LETTERED
        assert runtime.get(Billing).got == [(1313, 1)]
    assert len(dead_letters(path)) == 1


async def test_attempts_are_counted_over_a_restart_of_the_program(path: Path) -> None:
    """An event does not begin anew with each start: what has used its attempts up has one more."""
    async with program(path, billing={"fails": 9}) as runtime:
        plugin = runtime.get(Billing)
        plugin.gate = gate = trio.Event()
        await runtime.publish(Order(5))
        while not plugin.got:
            await trio.sleep(0.01)
        runtime.begin_stop()
        trio.lowlevel.spawn_system_task(_set_when_stopping, runtime, gate)
    assert plugin.got == [(5, 1), (5, 2), (5, 3)]
    async with program(path, billing={"fails": 9}) as runtime:
        while not runtime.statistics()["billing"].dead_lettered:
            await trio.sleep(0.01)
        assert runtime.get(Billing).got == [(5, 4)]
    (letter,) = dead_letters(path)
    assert letter.history.count(b"order 5") == 4


async def test_a_stop_sends_nothing_to_the_dead_letters(path: Path) -> None:
    """An event that fails for the last time while a stop drains has one more attempt later."""
    async with program(path) as runtime:
        runtime.get(Billing).gate = gate = trio.Event()
        await runtime.publish(Order(1313))
        await wait_all_tasks_blocked()
        runtime.begin_stop()
        trio.lowlevel.spawn_system_task(_set_when_stopping, runtime, gate)
    statistics = runtime.statistics()["billing"]
    assert (statistics.accepted, statistics.dead_lettered) == (1, 0)
    assert statistics.queued == 1
    assert dead_letters(path) == []
    async with program(path) as runtime:
        await runtime.publish(Order(1), wait=True)
    assert len(dead_letters(path)) == 1


async def _set_when_stopping(runtime: Runtime, gate: trio.Event) -> None:
    await runtime.hosts["billing"].wait_for_status(Status.STOPPING)
    gate.set()


async def test_a_plugin_that_was_given_up_loses_nothing(path: Path) -> None:
    """The inbox of a plugin that was given up takes events, which an operator's restart has
    handled."""

    class Dying(Billing):
        supervision = SupervisionSettings(restart="temporary")
        is_dead: bool = True

        async def run(self) -> None:
            if self.is_dead:
                self.is_dead = False
                raise RuntimeError("no license")
            await super().run()

    async with program(path, Dying) as runtime:
        await runtime.hosts["dying"].wait_for_status(Status.FAILED)
        outcome = await runtime.publish(Order(1))
        assert outcome.fates == {"dying": Fate.QUEUED}
        runtime.restart("dying")
        await runtime.hosts["dying"].wait_for_status(Status.RUNNING)
        assert (await runtime.publish(Order(2), wait=True)).worst is Fate.HANDLED
        assert runtime.get(Dying).numbers == [1, 2]


async def test_a_crash_of_the_plugin_costs_no_attempt_of_the_others(path: Path) -> None:
    """An event that crashes `run()` up to the limit is a dead letter, and the others go on."""

    class Crashing(Billing):
        supervision = SupervisionSettings(max_restarts=9, backoff_initial=0)
        delivery = DeliverySettings(durable=True, delivery_limit=2)

        async def run(self) -> None:
            async for event in self.inbox:
                self.got.append((event.number, current_delivery().attempt))
                if event.number == 1:
                    raise RuntimeError("one")

        async def initialize(self) -> None:
            if not hasattr(self, "got"):
                await super().initialize()

    async with program(path, Crashing) as runtime:
        outcomes = await runtime.publish_many(orders(1, 2), wait=False)
        assert len(outcomes) == 2
        await runtime.publish(Order(3))
        while runtime.statistics()["crashing"].handled < 1:
            await trio.sleep(0.01)
        assert runtime.get(Crashing).got[:3] == [(1, 1), (1, 2), (2, 1)]
    (letter,) = dead_letters(path)
    assert letter.reason == "run() crashed 2 times with it in flight"


async def test_a_dead_letter_says_what_ended_it(path: Path) -> None:
    """The reason of a dead letter is the crash that ended it, though an attempt had failed
    before."""

    class Crashing(Billing):
        supervision = SupervisionSettings(backoff_initial=0)
        delivery = DeliverySettings(durable=True, delivery_limit=1, retry_initial=0)

        async def run(self) -> None:
            async for delivery in self.inbox.deliveries():
                if delivery.attempt == 2:
                    raise RuntimeError("two")
                self.inbox.reject(delivery, ValueError("one"))

    async with program(path, Crashing) as runtime:
        assert (await runtime.publish(Order(1), wait=True)).worst is Fate.DEAD_LETTERED
    (letter,) = dead_letters(path)
    assert letter.reason == "run() crashed 1 times with it in flight"
    assert letter.history.count(b"ValueError: one") == 1


async def test_a_repetition_is_known_after_a_restart_of_the_program(path: Path) -> None:
    """Duplicates are known by source and id, for as long as the window is."""
    async with program(path) as runtime:
        assert (await runtime.publish(Order(1), id="a", wait=True)).worst is Fate.HANDLED
        assert (await runtime.publish(Order(1), id="a")).worst is Fate.DUPLICATE
    async with program(path) as runtime:
        assert (await runtime.publish(Order(1), id="a")).worst is Fate.DUPLICATE
        other = await runtime.publish(Order(1), id="a", source="elsewhere", wait=True)
        assert other.worst is Fate.HANDLED
    async with program(path, billing={"delivery": {"deduplicate_for": 0}}) as runtime:
        assert (await runtime.publish(Order(1), id="a", wait=True)).worst is Fate.HANDLED


async def test_two_publishers_of_one_event_at_a_time(path: Path) -> None:
    """Two publishers of one event are told, once it is stored, that it is accepted and a
    duplicate."""
    fates: list[Fate | None] = []
    async with program(path) as runtime:

        async def publish() -> None:
            fates.append((await runtime.publish(Order(1), id="a")).worst)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(publish)
            nursery.start_soon(publish)
    assert set(fates) == {Fate.QUEUED, Fate.DUPLICATE}
    statistics = runtime.statistics()["billing"]
    assert (statistics.accepted, statistics.handled, statistics.duplicate) == (2, 1, 1)


async def test_an_event_whose_type_is_gone_becomes_a_dead_letter(path: Path) -> None:
    """An event whose type the program no longer has becomes a dead letter."""
    settings = {"delivery": {"events": ["order"]}}
    async with program(path, billing=settings) as runtime:
        runtime.get(Billing).gate = trio.Event()
        await runtime.publish_many(orders(1))
        runtime.hurry()

    class Invoice(Event, name="order"):
        """The type that is called an order now."""

        invoice: str

    class NewBilling(EventPlugin[Invoice]):
        name = "billing"
        delivery = DeliverySettings(durable=True)

        async def handle_event(self, event: Invoice) -> None:
            raise AssertionError("no invoice was published")

    async with program(path, NewBilling) as runtime:
        while not runtime.statistics()["billing"].dead_lettered:
            await trio.sleep(0.01)
    (letter,) = dead_letters(path)
    assert "invoice" in letter.reason


async def test_thousands_come_in_order(path: Path) -> None:
    """More than are in memory at a time, published faster than handled; whoever waits is told."""
    count = 10 * WINDOW
    async with program(path) as runtime:
        runtime.get(Billing).gate = gate = trio.Event()
        first = [Delivery.of(Order(number)) for number in range(count)]
        await runtime.publish_many(first)
        outcomes: list[Outcome] = []

        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def wait() -> None:
                outcomes.append(await runtime.publish(Order(count), wait=True))

            await wait_all_tasks_blocked()
            gate.set()
        assert outcomes[0].worst is Fate.HANDLED
        assert runtime.get(Billing).numbers == list(range(count + 1))


async def test_a_slow_customer_holds_up_only_himself(path: Path) -> None:
    """Thousands of events of a stuck key wait on disk, while those behind them are handled."""

    class ByCustomer(Billing):
        delivery = DeliverySettings(durable=True, concurrency=2, ordering_key="customer")

        async def handle_event(self, event: Order) -> None:
            if event.customer == "slow":
                await self.gate.wait()
            self.got.append((event.number, 1))

    count = 4 * WINDOW
    async with program(path, ByCustomer) as runtime:
        plugin = runtime.get(ByCustomer)
        plugin.gate = gate = trio.Event()
        slow = [Delivery.of(Order(number, "slow")) for number in range(count)]
        await runtime.publish_many(slow)
        assert (await runtime.publish(Order(-1, "quick"), wait=True)).worst is Fate.HANDLED
        assert plugin.numbers == [-1]
        gate.set()
        assert (await runtime.publish(Order(count, "slow"), wait=True)).worst is Fate.HANDLED
        assert plugin.numbers == [-1, *range(count + 1)]


async def test_the_store_has_a_limit(path: Path) -> None:
    """Beyond its bytes the policy decides; what ends makes room for who waits."""
    limits = {"max_bytes": 2000}
    async with program(path, store=limits, billing={"delivery": {"block_for": 0.0}}) as runtime:
        runtime.get(Billing).gate = gate = trio.Event()
        outcomes = [await runtime.publish(Order(n, "x" * 300)) for n in range(9)]
        fates = [outcome.worst for outcome in outcomes]
        stored = fates.count(Fate.QUEUED)
        assert 3 <= stored <= 5
        assert fates == [Fate.QUEUED] * stored + [Fate.REJECTED] * (9 - stored)
        gate.set()
        while runtime.statistics()["billing"].handled < stored:
            await trio.sleep(0.01)
        assert (await runtime.publish(Order(10), wait=True)).worst is Fate.HANDLED


async def test_the_oldest_is_dropped_where_the_policy_says_so(path: Path) -> None:
    """An event is dropped as in memory, and does not come again after a restart."""
    policy = {"delivery": {"overflow": "drop_oldest", "buffer": 2}}
    async with program(path, billing=policy) as runtime:
        plugin = runtime.get(Billing)
        plugin.gate = gate = trio.Event()
        await runtime.publish(Order(0))
        while not plugin.got:
            await trio.sleep(0.01)
        for number in (1, 2, 3):
            assert (await runtime.publish(Order(number))).worst is Fate.QUEUED
        statistics = runtime.statistics()["billing"]
        assert (statistics.accepted, statistics.dropped, statistics.queued) == (4, 1, 2)
        gate.set()
    assert plugin.numbers == [0, 2, 3]
    async with program(path) as runtime:
        assert runtime.statistics()["billing"].accepted == 0


@pytest.mark.parametrize("extra", [object(), {(1, 2): 3}])
async def test_an_event_that_is_no_json_is_refused(path: Path, extra: object) -> None:
    """An event that JSON cannot express is unacceptable and logged, and the inbox takes the
    next."""
    with capture_logs() as logs:
        async with program(path) as runtime:
            assert (await runtime.publish(Order(1, extra=extra))).worst is Fate.UNACCEPTABLE
            assert (await runtime.publish(Order(2), wait=True)).worst is Fate.HANDLED
    assert [line["plugin"] for line in logs if line["event"] == "event is unacceptable"] == [
        "billing"
    ]


async def test_an_event_that_could_not_be_read_back_is_refused(path: Path) -> None:
    """An event with a `NaN`, which JSON lacks, is unacceptable; one with a field left out is
    not."""

    class Measured(Event):
        value: float
        unit: str | None = None

    class Meter(EventPlugin[Measured]):
        delivery = DeliverySettings(durable=True)

        async def handle_event(self, event: Measured) -> None:
            pass

    async with program(path, Meter) as runtime:
        assert (await runtime.publish(Measured(1.0), wait=True)).worst is Fate.HANDLED
        assert (await runtime.publish(Measured(float("nan")))).worst is Fate.UNACCEPTABLE


async def test_a_publisher_of_an_event_that_cannot_be_read_back_is_told(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An event that cannot be read from the file is a dead letter, and its waiting publisher is
    told."""
    async with program(path) as runtime:
        runtime.get(Billing).gate = gate = trio.Event()
        await runtime.publish_many(orders(*range(2 * WINDOW)))
        fates: list[Fate | None] = []
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def publish() -> None:
                fates.append((await runtime.publish(Order(-1), wait=True)).worst)

            while runtime.statistics()["billing"].accepted <= 2 * WINDOW:
                await trio.sleep(0.01)

            def unpack(envelope: bytes, payload: bytes, *_: object, **__: object) -> None:
                raise EventDecodeError("order", "$", "garbled")

            monkeypatch.setattr(_beyond, "unpack", unpack)
            gate.set()
    assert fates == [Fate.DEAD_LETTERED]


async def test_an_event_that_cannot_be_stored_harms_no_other(path: Path) -> None:
    """An unacceptable event, while publishers wait for room, costs neither them nor the plugin."""
    policy = {"delivery": {"buffer": 1, "block_for": 20.0}}
    cycle: list[object] = []
    cycle.append(cycle)
    async with program(path, billing=policy) as runtime:
        plugin = runtime.get(Billing)
        plugin.gate = gate = trio.Event()
        await runtime.publish(Order(0))
        while not plugin.got:
            await trio.sleep(0.01)
        await runtime.publish(Order(1))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(runtime.publish, Order(2))
            await wait_all_tasks_blocked()
            for extra in (object(), cycle):
                outcome = await runtime.publish(Order(3, extra=extra))
                assert outcome.worst is Fate.UNACCEPTABLE
            gate.set()
        assert runtime.hosts["billing"].restarts == 0
    assert plugin.numbers == [0, 1, 2]


async def test_an_event_that_waits_for_room_on_disk_is_packed_once(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An event that waits for room on disk is packed once, by its publisher."""
    written: list[int] = []

    def pack(delivery: Delivery[Any]) -> Packed:
        """Note which event is written."""
        written.append(delivery.event.number)
        return pack_it(delivery)

    pack_it = _stored.pack
    monkeypatch.setattr(_stored, "pack", pack)
    policy = {"delivery": {"block_for": 20.0}}
    async with program(path, store={"max_bytes": 2000}, billing=policy) as runtime:
        plugin = runtime.get(Billing)
        plugin.gate = gate = trio.Event()
        await runtime.publish(Order(0, "x" * 300))
        await runtime.publish(Order(1, "x" * 900))
        async with trio.open_nursery() as nursery:
            for order in (Order(2, "x" * 1200), Order(3)):
                nursery.start_soon(runtime.publish, order)
                await wait_all_tasks_blocked()
            plugin.gate = second_gate = trio.Event()
            gate.set()
            while plugin.numbers != [0, 1]:  # The end of the first makes too little room.
                await trio.sleep(0.01)
            nursery.start_soon(runtime.publish, Order(4))
            await wait_all_tasks_blocked()
            second_gate.set()
    assert plugin.numbers == written == [0, 1, 2, 3, 4]


async def test_the_end_of_one_plugins_event_makes_room_for_anothers(path: Path) -> None:
    """A publisher that waits for room in the store is let in whoever has made the room."""
    table = {"delivery": {"block_for": 20.0}}
    async with program(
        path, Billing, Shipping, store={"max_bytes": 2000}, shipping=table
    ) as runtime:
        billing, shipping = runtime.get(Billing), runtime.get(Shipping)
        billing.gate = trio.Event()
        await runtime.publish(Order(1, "x" * 1500))
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(runtime.publish, Parcel(2, "x" * 1200))
                await wait_all_tasks_blocked()
                billing.gate.set()
        with trio.fail_after(10):
            while not shipping.got:
                await trio.sleep(0.01)
    assert shipping.got == [2]


async def test_a_wait_that_begins_late_holds_nobody_up(autojump_clock: MockClock) -> None:
    """An event that was offered is stored whether or not anybody waits, and a publisher between
    the offer and its wait waits for its own event alone."""
    async with open_plugins(Billing) as runtime:
        late = runtime.offer(Order(1))
        assert late is not None
        await wait_all_tasks_blocked()
        assert runtime.get(Billing).numbers == [1]
        with trio.fail_after(1):
            await runtime.publish(PluginStatusEvent("billing", Status.RUNNING, Status.STARTING))
            await late
        await runtime.publish(Order(2))
        await wait_all_tasks_blocked()
        assert runtime.get(Billing).numbers == [1, 2]


async def test_no_worker_spins_while_the_store_fails(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An event that is due waits for a failing store, and not in a busy loop."""
    table: Any = {"fails": 9, "delivery": {"retry_initial": 60.0, "max_attempts": 2}}
    async with open_plugins(Billing, settings={"billing": table}) as runtime:
        await runtime.publish(Order(1))
        await wait_all_tasks_blocked()
        asked: list[float] = []
        ask = BoundedInbox.receive_nowait

        def counting(inbox: BoundedInbox) -> Delivery[Event]:
            asked.append(trio.current_time())
            return ask(inbox)

        monkeypatch.setattr(BoundedInbox, "receive_nowait", counting)
        with monkeypatch.context() as clogged:
            clogged.setattr(_store.Store, "is_clogged", True)
            await trio.sleep(120)
            assert len(asked) <= 2
        vars(runtime.get(Billing).inbox)["_backing"].resume()
        await trio.sleep(1)
        assert runtime.get(Billing).got == [(1, 1), (1, 2)]


async def test_nobody_waits_for_a_plugin_that_was_given_up(path: Path) -> None:
    """A publisher that waits for a plugin that was given up is told that its event is kept."""

    class Dying(Billing):
        supervision = SupervisionSettings(restart="temporary")

        async def run(self) -> None:
            await dies.wait()
            raise RuntimeError("no license")

    dies = trio.Event()
    async with program(path, Dying) as runtime:
        outcomes: list[Outcome] = []
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def publish() -> None:
                outcomes.append(await runtime.publish(Order(1), wait=True))

            await runtime.publish(Order(2))
            dies.set()
        outcomes.append(await runtime.publish(Order(3), wait=True))
    assert [outcome.worst for outcome in outcomes] == [Fate.QUEUED, Fate.QUEUED]


async def test_a_stop_may_come_before_the_store_is_open(path: Path) -> None:
    """A stop may begin before the store is open."""
    settings = Settings(store=StoreSettings(path=path))
    runtime = Runtime(load(settings, plugins=[Billing]))
    runtime.begin_stop()
    assert runtime.stopping.is_set()


async def test_events_of_one_call_are_one_transaction(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events of one call are one transaction for all durable subscribers together."""

    class Audit(Billing):
        pass

    sizes: list[int] = []
    commit = Journal.commit

    def counting(self: Journal, settlements: Any, appends: Any, *cursors: Any) -> Any:
        if appends:
            sizes.append(len(appends))
        return commit(self, settlements, appends, *cursors)

    monkeypatch.setattr(Journal, "commit", counting)
    async with program(path, Billing, Audit) as runtime:
        await runtime.publish_many(orders(*range(50)))
    assert sizes == [50]


async def test_one_program_owns_the_store(path: Path) -> None:
    """A second program with the same store does not start, and names the file."""
    async with program(path):
        with pytest.raises(JournalInUseError, match=r"store\.sqlite3"):
            async with program(path):
                pass


def test_a_file_that_is_no_store_is_left_alone(tmp_path: Path) -> None:
    """A file that is no store is named in the error, and gets nothing beside it but the lock."""
    other, directory = tmp_path / "notes.txt", tmp_path / "state"
    other.write_text("not a database\n" * 100)
    directory.mkdir()
    for path, reason in ((other, "it is not a SQLite database"), (directory, "it is a directory")):
        with pytest.raises(JournalUnavailableError, match=f"{path.name}: {reason}"):
            Journal.open(path)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"notes.txt", "notes.txt.lock", "state"}
    assert other.read_text().startswith("not a database")


async def test_events_of_a_plugin_that_is_not_there_are_kept(path: Path) -> None:
    """Events of a plugin that is not active are kept, with a warning."""

    class Shipping(Billing):
        pass

    async with program(path) as runtime:
        runtime.get(Billing).gate = trio.Event()
        await runtime.publish(Order(1))
        runtime.hurry()
    with capture_logs() as logs:
        async with program(path, Shipping):
            pass
    (line,) = [line for line in logs if "not active" in line["event"]]
    assert (line["plugin"], line["count"]) == ("billing", 1)
    async with program(path) as runtime:
        await runtime.publish(Order(2), wait=True)
        assert runtime.get(Billing).numbers == [1, 2]


async def test_a_replay_is_a_new_acceptance_for_one_plugin(path: Path) -> None:
    """A letter is delivered to the plugin that failed, while the program runs, and to no other."""

    class Audit(Billing):
        pass

    async with program(path, Billing, Audit, billing={"fails": 5}) as runtime:
        await runtime.publish(Order(1), wait=True, id="o-1")
        runtime.get(Billing).fails = 0
        replayed = 0
        while not replayed:  # It is written a moment after it was decided.
            await trio.sleep(0.01)
            with DeadLetters(path) as letters:
                replayed = letters.replay()
        while not runtime.statistics()["billing"].handled:
            await trio.sleep(0.01)
        assert runtime.get(Billing).got[-1] == (1, 1)
        await runtime.publish(Order(2), wait=True)
        assert runtime.get(Audit).numbers == [1, 2]
        statistics = runtime.statistics()["billing"]
        assert (statistics.accepted, statistics.handled, statistics.dead_lettered) == (3, 2, 1)
    assert dead_letters(path) == []


async def test_an_event_type_can_ask_for_it(path: Path) -> None:
    """A listener to the type is durable, unless its author or the operator says otherwise."""

    class Payment(Event, delivery=DeliverySettings(durable=True)):
        amount: int

    class Books(EventPlugin[Payment]):
        async def handle_event(self, event: Payment) -> None:
            raise PermanentError("closed")

    async with program(path, Books) as runtime:
        assert (await runtime.publish(Payment(1), wait=True)).worst is Fate.DEAD_LETTERED
    async with program(path, Books, books={"delivery": {"durable": False}}) as runtime:
        assert runtime.store is None
        assert (await runtime.publish(Payment(1), wait=True)).worst is Fate.FAILED


async def test_a_plugin_that_is_down_burns_no_attempts(autojump_clock: MockClock) -> None:
    """An hour of failed starts is no attempt at the events that wait meanwhile."""

    class Locked(Billing):
        supervision = SupervisionSettings(on_start_failure="retry")

        async def initialize(self) -> None:
            if trio.current_time() < 3600:
                raise OSError("the database does not answer")
            await super().initialize()

    async with open_plugins(Locked) as runtime:
        outcome = await runtime.publish(Order(1), wait=True)
        assert trio.current_time() >= 3600
        assert runtime.get(Locked).got == [(1, 1)]
        assert runtime.hosts["locked"].restarts > 100
    assert outcome.worst is Fate.HANDLED


@pytest.mark.process
async def test_an_event_that_kills_the_process_each_time_becomes_a_dead_letter(path: Path) -> None:
    """An event is a dead letter after as many deaths of the process as the delivery limit
    allows."""
    code = f"""
import os, sys, trio
from pathlib import Path
from trivet import *

class Order(Event):
    number: int

class Billing(EventPlugin[Order]):
    delivery = DeliverySettings(durable=True)

    async def handle_event(self, event):
        os._exit(9)

async def main():
    settings = Settings(store=StoreSettings(path=Path({str(path)!r})))
    async with open_runtime(settings, plugins=[Billing]) as runtime:
        if sys.argv[1] == "publish":
            await runtime.publish(Order(13))
        while not runtime.statistics()["billing"].dead_lettered:
            await trio.sleep(0.01)

trio.run(main)
"""
    codes: list[int] = []
    for action in ("publish", "wait", "wait", "wait"):
        command = [sys.executable, "-c", code, action]
        process = await trio.run_process(command, check=False, capture_stderr=True)
        codes.append(process.returncode)
    assert codes == [9, 9, 9, 0]
    (letter,) = dead_letters(path)
    assert letter.reason == "the process died 3 times with it in flight"


async def test_a_test_of_a_plugin_needs_no_file(autojump_clock: MockClock) -> None:
    """In the test kit the store is in memory, and an hour of attempts takes no time."""
    settings: Any = {
        "billing": {"fails": 9, "delivery": {"max_attempts": 200, "retry_initial": 60.0}}
    }
    settings["billing"]["delivery"] |= {"retry_max": 60.0, "retry_for": 3600.0}
    async with open_plugins(Billing, settings=settings) as runtime:
        assert (await runtime.publish(Order(1), wait=True)).worst is Fate.DEAD_LETTERED
    assert 3000 < trio.current_time() < 3601


@pytest.mark.process
def test_without_a_durable_plugin_there_is_no_sqlite() -> None:
    """SQLite is not imported where no plugin is durable."""
    code = "import sys, trivet, trivet._process._serve; assert 'sqlite3' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=50)
