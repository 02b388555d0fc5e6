"""A program with a durable inbox, killed with SIGKILL again and again, and held to account.

One life after the other, a child process opens the same store, publishes numbered events from many
tasks, and handles them. It writes down, in a file that outlives it, each event that it offers, each
answer, and the beginning and the end of each handling. The parent kills it at a random moment,
reads on in that file, and holds what it finds against these rules:

* An event that was acknowledged is handled, or among the dead letters, when all is drained.
* It is handed out again only after a failure, or after a kill with it in flight: begun, and not
  ended. "Ended" is what the handler writes down with its last statement. The inbox marks the event
  as done when the next one is asked for, with no other task's turn in between, so that there is one
  exception: the event whose end is the very last that a life has written down.
* Of the events with the same key one is in flight at a time, and their first deliveries are in the
  order in which the inbox gave them to the store. Publishers that publish at the same time may be
  overtaken by one another before that.
* A publisher that was not answered repeats the event, with the same id, and it is taken in if it
  was not in the store, and otherwise known. No event is taken in twice, however often it comes.

    python tests/runtime/delivery/crash.py --kills 1000 --seed 1
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import select
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
from collections import Counter
from enum import Enum, auto
from itertools import count, pairwise
from pathlib import Path
from typing import Any, ClassVar
from unittest.mock import patch

import attrs
import structlog
import trio

from trivet import (
    Delivery,
    DeliverySettings,
    Event,
    EventPlugin,
    Fate,
    Runtime,
    Settings,
    StallSettings,
    StoreSettings,
    current_delivery,
    open_runtime,
)
from trivet._store._dead_letters import DeadLetters
from trivet._store._journal import Journal
from trivet._store._store import Store

RECORD = struct.Struct("<c7xQ")
"""A record: its kind, and the event's number. No record lies across two pages of the file, where a
kill could cut it in two."""
OFFERED, STORED, TAKEN, KNOWN, AGAIN = b"O", b"S", b"T", b"K", b"A"
"""Published; given to the store, in whose order events are delivered; and the answers, of which
`AGAIN` is for an event that had been answered in an earlier life."""
BEGUN, FAILED, ENDED = b"B", b"F", b"E"
"""The handler's first statement, its failure, its last statement."""

KEYS = 16
CONCURRENCY = 4
PUBLISHERS = 24
BACKLOG = 3000
"""Events that wait, above which the publishers pause: enough for most to be on disk only."""
PLUGIN = "keeper"
STORE = "store.sqlite3"


def key_of(number: int) -> int:
    """The ordering key of an event; one in three has the same, so that many wait for each other."""
    return 0 if number % 3 == 0 else number % KEYS


# The child.


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


class Numbered(Event):
    number: int
    key: int


class Keeper(EventPlugin[Numbered]):
    """Handles most events within a millisecond, a few in more; some attempts fail."""

    name = PLUGIN
    delivery = DeliverySettings(
        durable=True, ordering_key="key", concurrency=CONCURRENCY, retry_initial=0.02
    )
    dice: ClassVar[random.Random]
    log_file: ClassVar[int]

    async def handle_event(self, event: Numbered) -> None:
        note(BEGUN, event.number)
        assert current_delivery().id == str(event.number)
        try:
            takes = 0.1 if event.number % 1009 == 0 else self.dice.choice([0.0, 0.0, 0.001])
            await trio.sleep(takes)
            assert self.dice.random() > 0.003, "once more"
        except BaseException:
            note(FAILED, event.number)
            raise
        note(ENDED, event.number)


def note(kind: bytes, number: int) -> None:
    """Write down what has happened, where a killed process does not take it away."""
    os.write(Keeper.log_file, RECORD.pack(kind, number))


def append_as_noted() -> None:
    """Have every event noted that is given to the store."""
    append = Store.append

    def noted(store: Store, delivery: Delivery[Numbered], *args: Any) -> int:
        note(STORED, delivery.event.number)
        return append(store, delivery, *args)

    patch.object(Store, "append", noted).start()


class Load:
    """The publishers of one life."""

    def __init__(self, runtime: Runtime, orders: Orders, ready: int) -> None:
        self._runtime = runtime
        self._orders = orders
        self._ready = ready
        self._dice = random.Random(orders.seed)
        self._numbers = count(orders.first)

    async def run(self) -> None:
        """Repeat what was not answered, then publish until killed."""
        async with trio.open_nursery() as nursery:
            for number in self._orders.unanswered:
                nursery.start_soon(self._publish, number)
            for number in self._orders.answered:
                nursery.start_soon(self._repeat, number)
            if not self._orders.drains:
                nursery.start_soon(self._publish_batches)
                for _ in range(PUBLISHERS):
                    nursery.start_soon(self._publish_on)
        while self._waiting():
            await trio.sleep(0.01)

    def _waiting(self) -> int:
        counts = self._runtime.statistics()[PLUGIN]
        return counts.queued + counts.in_flight + counts.backing_off

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
            for number in batch:
                note(OFFERED, number)
            outcomes = await self._runtime.publish_many([delivery(number) for number in batch])
            for number, outcome in zip(batch, outcomes, strict=True):
                self._answered(number, outcome.fates[PLUGIN])
            await self._pause()

    async def _pause(self) -> None:
        while self._waiting() > BACKLOG:
            await trio.sleep(0.01)
        await trio.sleep(self._dice.choice([0, 0, 0.001, 0.02]))

    async def _publish(self, number: int) -> None:
        note(OFFERED, number)
        self._answered(number, await self._offer(number))

    async def _repeat(self, number: int) -> None:
        fate = await self._offer(number)
        note(AGAIN if fate is Fate.DUPLICATE else TAKEN, number)

    async def _offer(self, number: int) -> Fate:
        event = Numbered(number=number, key=key_of(number))
        outcome = await self._runtime.publish(event, id=str(number), source="crash")
        return outcome.fates[PLUGIN]

    def _answered(self, number: int, fate: Fate) -> None:
        note({Fate.QUEUED: TAKEN, Fate.DUPLICATE: KNOWN}[fate], number)
        if self._ready >= 0:
            os.close(self._ready)
            self._ready = -1


def delivery(number: int) -> Delivery[Numbered]:
    """The event in its envelope."""
    event = Numbered(number=number, key=key_of(number))
    return Delivery.of(event, id=str(number), source="crash")


async def live(orders: Orders, ready: int) -> None:
    """One life."""
    settings = Settings(
        store=StoreSettings(path=orders.directory / STORE), stalls=StallSettings(enabled=False)
    )
    async with open_runtime(settings, plugins=[Keeper]) as runtime:
        await Load(runtime, orders, ready).run()


def be_born(orders: Orders) -> tuple[int, int]:
    """Begin a life in a process of its own; returns its id, and what ends with its first answer."""
    told, ready = os.pipe()
    pid = os.fork()
    if pid:
        os.close(ready)
        return pid, told
    try:
        os.close(told)
        Keeper.dice = random.Random(orders.seed)
        Keeper.log_file = os.open(orders.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        append_as_noted()
        trio.run(live, orders, ready)
        os._exit(0)
    finally:  # Nothing of the parent's may happen in this process.
        traceback.print_exc()
        os._exit(1)


# The parent.


class State(Enum):
    """The state of an event, for all that the log says."""

    WAITING = auto()
    IN_FLIGHT = auto()
    LEFT = auto()
    """A life was killed with it in flight."""
    DONE = auto()
    PERHAPS_DONE = auto()
    """Its end was the last record that a life has written."""


@attrs.define
class Facts:
    """The facts of one event."""

    offers: list[int] = attrs.field(factory=list[int])
    """The place in the log of the first offer in each life in which there was one."""
    last_life: int = -1
    """In which it was offered."""
    in_last_life: int = 0
    """How often it was offered then."""
    taken_in: int = -1
    """In which life it was said to be taken in."""
    known_in: int = -1
    """In which life it was said to be known already."""
    place: int = -1
    """The place in the log at which it was given to the store for the last time."""
    state: State = State.WAITING
    was_begun: bool = False

    @property
    def is_answered(self) -> bool:
        return self.taken_in >= 0 or self.known_in >= 0


class Account:
    """The account of the log, and its rules."""

    def __init__(self) -> None:
        self.events: dict[int, Facts] = {}
        self.life = 0
        self.counts: Counter[str] = Counter()
        self.unanswered: set[int] = set()
        self.recent: list[int] = []
        """Events that were answered in the latest life."""
        self._repeated: set[int] = set()
        """Events that were unanswered at its beginning."""
        self._in_flight: dict[int, int] = {}
        """Events in flight, by their keys."""
        self._first: dict[int, list[int]] = {}
        """The events in the order of their first deliveries, by key."""
        self._place = 0
        self._last: tuple[bytes, int] = (b"", 0)

    def read(self, log: bytes, *, killed: bool) -> None:
        """Take in what one life has written."""
        self.recent.clear()
        self._repeated = set(self.unanswered)
        self._last = (b"", 0)
        steps = {
            OFFERED: self._offered,
            STORED: self._stored,
            TAKEN: self._taken,
            KNOWN: self._known,
            AGAIN: self._again,
            BEGUN: self._begun,
            FAILED: self._failed,
            ENDED: self._ended,
        }
        for kind, number in RECORD.iter_unpack(log):
            self._place += 1
            steps[kind](number, self.events.setdefault(number, Facts()))
            self._last = kind, number
        self._end_life(killed=killed)

    def _end_life(self, *, killed: bool) -> None:
        assert killed or not self._in_flight
        assert len(self._in_flight) <= CONCURRENCY
        for number in self._in_flight.values():
            self.events[number].state = State.LEFT
        self._in_flight.clear()
        kind, number = self._last
        if killed and kind == ENDED:
            self.events[number].state = State.PERHAPS_DONE
            self.counts["ended with the kill"] += 1
        for number in self._repeated - self.unanswered:
            is_new = self.events[number].taken_in == self.life
            self.counts["unanswered, not stored" if is_new else "unanswered, stored"] += 1
        self.life += 1

    def _offered(self, number: int, facts: Facts) -> None:
        if facts.last_life != self.life:
            facts.offers.append(self._place)
            facts.last_life, facts.in_last_life = self.life, 0
        facts.in_last_life += 1
        if not facts.is_answered:
            self.unanswered.add(number)

    def _stored(self, number: int, facts: Facts) -> None:
        assert facts.offers, f"event {number} was stored, and never published"
        facts.place = self._place

    def _taken(self, number: int, facts: Facts) -> None:
        assert facts.taken_in < 0, f"event {number} was taken in twice"
        assert facts.known_in in (-1, self.life), f"event {number} was taken in, and known before"
        facts.taken_in = self.life
        self._is_answered(number)

    def _known(self, number: int, facts: Facts) -> None:
        facts.known_in = self.life
        if facts.taken_in < 0:
            earlier = facts.offers if facts.in_last_life > 1 else facts.offers[:-1]
            assert earlier, f"event {number} was known before it was published"
            assert facts.place >= 0, f"event {number} was known, and never stored"
        self._is_answered(number)

    def _is_answered(self, number: int) -> None:
        self.unanswered.discard(number)
        self.recent.append(number)

    def _again(self, number: int, facts: Facts) -> None:
        assert facts.is_answered
        self.counts["repeated in a later life"] += 1

    def _begun(self, number: int, facts: Facts) -> None:
        key = key_of(number)
        assert facts.offers, f"event {number} was never published"
        assert key not in self._in_flight, f"{self._in_flight[key]} and {number} at once"
        assert facts.state is not State.DONE, f"event {number} was handed out again"
        self.counts["duplicates"] += facts.state is not State.WAITING
        if not facts.was_begun:
            self._first.setdefault(key, []).append(number)
        self._in_flight[key] = number
        facts.was_begun, facts.state = True, State.IN_FLIGHT

    def _failed(self, number: int, facts: Facts) -> None:
        del self._in_flight[key_of(number)]
        facts.state = State.WAITING
        self.counts["failed attempts"] += 1

    def _ended(self, number: int, facts: Facts) -> None:
        del self._in_flight[key_of(number)]
        facts.state = State.DONE

    def close(self, dead: set[int]) -> None:
        """Hold the whole of it against the rules, when everything is drained."""
        done = {
            number
            for number, facts in self.events.items()
            if facts.state in (State.DONE, State.PERHAPS_DONE)
        }
        answered = {number for number, facts in self.events.items() if facts.is_answered}
        missing = sorted(answered - done - dead)
        assert not missing, f"{len(missing)} acknowledged events are missing: {missing[:20]}"
        assert not self.unanswered
        never_left = [each for each in dead if self.events[each].state is State.DONE]
        assert not never_left, f"handled, and among the dead letters: {never_left[:20]}"
        for key, events in self._first.items():
            places = [(self.events[each].place, each) for each in events]
            wrong = [(one, other) for one, other in pairwise(places) if one > other]
            assert not wrong, f"key {key}: not in the order of acceptance: {wrong[:20]}"
        self.counts["acknowledged"] = len(answered)
        self.counts["handled"] = len(done)
        self.counts["dead letters"] = len(dead)


def kill_again_and_again(directory: Path, kills: int, seed: int) -> Account:
    """The lives, the account of each, and a last one that is let to drain and to stop."""
    dice, account = random.Random(seed), Account()
    read = 0
    for life in range(kills + 1):
        orders = Orders(
            directory,
            seed=dice.randrange(1 << 30),
            first=max(account.events, default=-1) + 1,
            unanswered=sorted(account.unanswered),
            answered=dice.sample(account.recent, min(5, len(account.recent))),
            drains=life == kills,
        )
        status = live_and_die(orders, dice)
        expected = 0 if orders.drains else -signal.SIGKILL
        assert status == expected, f"life {life} ended with {status}"
        written = orders.log.read_bytes()[read:] if orders.log.exists() else b""
        read += len(written)
        account.read(written, killed=not orders.drains)
        if life % 100 == 99:
            duplicates = account.counts["duplicates"]
            say(f"{life + 1} kills: {len(account.events)} events, {duplicates} duplicates")
    account.close(buried(directory / STORE))
    return account


def live_and_die(orders: Orders, dice: random.Random) -> int:
    """One life from its birth to its end; returns the exit code."""
    pid, told = be_born(orders)
    try:
        if not orders.drains:
            wait_and_kill(pid, told, dice)
        _, status = os.waitpid(pid, 0)
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        raise
    finally:
        os.close(told)
    return os.waitstatus_to_exitcode(status)


def wait_and_kill(pid: int, told: int, dice: random.Random) -> None:
    """Kill it 10 to 400 milliseconds after its first answer; now and then while it starts."""
    if dice.random() < 0.05:
        select.select([told], [], [], dice.uniform(0.0, 0.1))
    else:
        answered, _, _ = select.select([told], [], [], 60.0)
        assert answered, "nothing was acknowledged within a minute"
        time.sleep(dice.uniform(0.01, 0.4))
    os.kill(pid, signal.SIGKILL)


def buried(store: Path) -> set[int]:
    """The dead letters; nothing else may be left in the store."""
    journal = Journal.open(store)
    assert journal.counts() == {}, journal.counts()
    journal.close()
    with DeadLetters(store) as letters:
        found = letters.list()
    for letter in found:
        assert letter.reason == "the process died 3 times with it in flight", letter
    return {int(letter.id) for letter in found}


ROWS = (
    "acknowledged",
    "handled",
    "dead letters",
    "duplicates",
    "ended with the kill",
    "failed attempts",
    "unanswered, stored",
    "unanswered, not stored",
    "repeated in a later life",
)


def say(text: str) -> None:
    """Tell who waits for the end."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> None:
    """Kill, and print what has become of the events."""
    parser = argparse.ArgumentParser(description="Kill a program again and again.")
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    directory = Path(tempfile.mkdtemp(prefix="trivet-crash-"))
    began = time.monotonic()
    try:
        account = kill_again_and_again(directory, options.kills, options.seed)
    except BaseException:
        say(f"seed {options.seed}; what it was like is in {directory}")
        raise
    shutil.rmtree(directory)
    say(f"{options.kills:>10} kills")
    for row in ROWS:
        say(f"{account.counts[row]:>10} {row}")
    say(f"{time.monotonic() - began:>10.1f} seconds")


if __name__ == "__main__":
    main()
