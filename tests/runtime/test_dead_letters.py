"""Dead letters, by the command line: on a stopped program's store, and while the program runs."""

from __future__ import annotations

import threading
from collections.abc import Generator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from sqlite3 import Connection

import pytest
import trio
from trio.testing import MockClock

from trivet import Delivery, Event, PermanentError, StoreSettings
from trivet._delivery import _dead_letters as module
from trivet._delivery._dead_letters import DeadLetters
from trivet._delivery._durable import WINDOW, DurableInbox
from trivet._delivery._journal import Journal
from trivet._delivery._records import Append, Backlog, Bury, DeadLetterFacts, Row
from trivet._delivery._retries import FIRST
from trivet._delivery._schema import transaction
from trivet._delivery._store import Store
from trivet._delivery._stored import pack, pack_history, unpack_history
from trivet._events import EventTypes
from trivet._policies import DeliveryPolicy


class Ping(Event):
    number: int


# A replay beside the program that owns the file


def test_a_replay_is_not_overtaken_between_its_transactions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often the owner looks meanwhile, and takes numbers that nobody else has used, what
    is replayed after that comes after it: a program never looks back for what it has passed."""
    path = tmp_path / "store"
    with closing(Journal.open(path)) as journal:
        first = journal.new_numbers()
        numbers = range(first, first + 3)
        rows = [Append(Row("p", number, None, b"{}", b"dead")) for number in numbers]
        facts = DeadLetterFacts("ping", "1", "test", 1.0, "no", b"[]")
        journal.commit([], rows)
        journal.commit([Bury("p", number, facts) for number in numbers], [])
        @contextmanager
        def looked_at(connection: Connection) -> Generator[None]:
            with transaction(connection):
                yield
            assert journal.changed_by_others()
            journal.renew_numbers()
            row = Row("p", journal.new_numbers(), None, b"{}", b"new")
            assert journal.commit([], [Append(row)]) is None

        monkeypatch.setattr(module, "SLICE", 1)
        monkeypatch.setattr(module, "transaction", looked_at)
        with DeadLetters(path) as letters:
            assert letters.replay() == 3
        waiting = [row.payload for row in journal.read("p", 0, 100)]
        assert waiting == [b"dead", b"new"] * 3


@pytest.mark.parametrize("after", [0.0, 0.5])
async def test_a_replay_counts_as_accepted_whenever_it_is_read(
    tmp_path: Path, autojump_clock: MockClock, after: float
) -> None:
    """Who reads the store on for a backlog comes by what was replayed, before the store has looked
    or in the same moment: what the inbox has accepted is the sum of what has become of it."""
    path = tmp_path / "store"
    store = Store(StoreSettings(path=path), in_loop=True)
    inbox = DurableInbox("p", DeliveryPolicy(durable=True), store, EventTypes([Ping]))
    async with store.opened():
        number = WINDOW + 10
        for each in range(number):
            inbox.offer(Delivery(event=Ping(each)))
        inbox.reject(await inbox.receive(), PermanentError("no"))
        await trio.sleep(1.5)  # It looks at what has changed every second.
        with DeadLetters(path) as letters:
            assert letters.replay() == 1
        await trio.sleep(after)
        with suppress(trio.WouldBlock):  # At once: the store's task has not run meanwhile.
            while True:
                inbox.accept(inbox.receive_nowait())
        while inbox.statistics().handled < number:
            inbox.accept(await inbox.receive())
        with pytest.raises(trio.WouldBlock):  # It looks into the file for more.
            inbox.receive_nowait()
        await trio.sleep(2)
        statistics = inbox.statistics()
        assert (statistics.handled, statistics.dead_lettered) == (number, 1)
        assert (statistics.queued, statistics.accepted) == (0, number + 1)


async def test_what_ends_while_the_store_is_counted_takes_no_room_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the store believes to be in the file after it was counted is what is there, although
    the events of that moment have ended since."""
    counts, counting, go_on = Journal.counts, threading.Event(), threading.Event()

    def slowly(journal: Journal) -> Mapping[str, Backlog]:
        counted = counts(journal)
        counting.set()
        assert go_on.wait(10)
        return counted

    path = tmp_path / "store"
    events = [Delivery[Event](event=Ping(number), id=str(number)) for number in range(3)]
    most = max(pack(event).size for event in events)
    store = Store(StoreSettings(path=path, max_bytes=most))
    inbox = DurableInbox("p", DeliveryPolicy(durable=True), store, EventTypes([Ping]))
    async with store.opened():
        inbox.offer(events[0])
        inbox.reject(await inbox.receive(), PermanentError("no"))
        inbox.offer(events[1])
        delivery = await inbox.receive()
        monkeypatch.setattr(Journal, "counts", slowly)
        with DeadLetters(path) as letters:
            assert letters.purge() == 1
        await trio.to_thread.run_sync(counting.wait)
        inbox.accept(delivery)
        go_on.set()
    assert store.has_room(most)


async def test_a_dead_letter_tells_of_the_crashes(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """That `run()`, or the process, crashed with it in hand is in its history, beside the attempts
    that failed; otherwise it would have died of nothing."""
    path = tmp_path / "store"
    packed = pack(Delivery(event=Ping(1), id="1"))
    with closing(Journal.open(path)) as journal:
        once = pack_history(FIRST.failed("OSError: no", at=1.0, took=1.0).crashed())
        number = journal.new_numbers()
        row = Row("p", number, None, packed.envelope, packed.payload, once, crashes=2)
        assert journal.commit([], [Append(row)]) is None
    store = Store(StoreSettings(path=path), in_loop=True)
    policy = DeliveryPolicy(durable=True, delivery_limit=3)
    inbox = DurableInbox("p", policy, store, EventTypes([Ping]))
    async with store.opened():
        inbox.offer(Delivery(event=Ping(2), id="2"))
        for _ in range(3):
            assert (await inbox.receive()).id == "2"
            inbox.lifetime_ended(crashed=True)
    with DeadLetters(path) as letters:
        found = {letter.id: unpack_history(letter.history) for letter in letters.list()}
    assert (found["1"].attempts, found["1"].crashes) == (1, 3)
    assert (found["2"].attempts, found["2"].crashes) == (0, 3)
