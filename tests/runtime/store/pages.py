"""Every page of a store's file, damaged in turn, and a program that goes on with it.

Owns the file, the ways to damage it, and what must hold then:

* Each event that waited for a plugin is handled by it, or is one of its dead letters; only events
  of the damaged page may be among these.
* The program goes on: it takes in new events, and leaves nothing in the file.
* Dead letters are lost only with their page, and the log says how many.
* Only where the page is of the schema, the program refuses to start, and leaves the file as it is.

    python -m tests.runtime.store.pages --seed 1

damages each page in each way, and `--every 10` each tenth.
"""

from __future__ import annotations

import argparse
import random
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import ClassVar

import attrs
import trio
from structlog.testing import capture_logs

from trivet import (
    Delivery,
    DeliverySettings,
    Event,
    EventPlugin,
    Fate,
    Settings,
    StallSettings,
    StoreSettings,
    open_runtime,
)
from trivet._events._history import FIRST
from trivet._store._commit import Append
from trivet._store._dead_letters import DeadLetters
from trivet._store._journal import Journal
from trivet._store._packing import pack, pack_history
from trivet._store._records import (
    Bury,
    DeadLetter,
    DeadLetterFacts,
    Delete,
    JournalUnavailableError,
    Seen,
    Settlement,
    Update,
)

PAGE = 4096
EVENTS = 600
BURIED = range(200, 260)
PLUGINS = ("billing", "audit", "archive")
WITHIN = 30.0
"""Seconds in which a program has to handle everything."""


class Order(Event):
    number: int
    text: str = ""


class Books(EventPlugin[Order]):
    """Notes what it handles."""

    delivery = DeliverySettings(durable=True)
    got: ClassVar[Counter[tuple[str, int]]] = Counter()

    async def handle_event(self, event: Order) -> None:
        self.got[self.name, event.number] += 1


class Billing(Books):
    pass


class Audit(Books):
    pass


class Archive(Books):
    pass


@attrs.frozen
class Damage:
    """The damage of one page."""

    page: int
    """Its number, from 0."""
    how: str
    content: bytes

    def __str__(self) -> str:
        return f"page {self.page} {self.how}"


@attrs.define
class Sound:
    """A sound file, and what is in it."""

    raw: bytes
    waits: dict[str, set[int]]
    """The events that wait, by plugin."""
    letters: int
    """Dead letters."""

    @property
    def pages(self) -> int:
        return len(self.raw) // PAGE

    def page(self, number: int) -> bytes:
        return self.raw[number * PAGE : (number + 1) * PAGE]

    def events_on(self, number: int) -> set[int]:
        """The events of which a part is on a page."""
        found = re.findall(rb'<(\d+)>|"number":(\d+)', self.page(number))
        return {int(one or other) for one, other in found}

    def damages(self, seed: int) -> Iterator[Damage]:
        """Each way to damage each page."""
        dice = random.Random(seed)
        for page in range(self.pages):
            yield Damage(page, "zeroed", bytes(PAGE))
            yield Damage(page, "of noise", dice.randbytes(PAGE))
            for other in dice.sample(range(self.pages), 3):
                if self.page(other) != self.page(page):
                    yield Damage(page, f"with the content of page {other}", self.page(other))


def make(path: Path) -> Sound:
    """Write a file with all that there can be: it has pages of each table, and free ones."""
    waits = {name: {at for at in range(EVENTS) if is_for(name, at)} for name in PLUGINS}

    async def packed() -> list[Append]:
        appends: list[Append] = []
        for at in range(EVENTS):
            event = Order(at, f"<{at}>" * (1500 if at % 50 == 7 else 10))
            one = pack(Delivery.of(event, id=f"o-{at}", source="test"))
            plugins = [name for name in PLUGINS if is_for(name, at)]
            seen = [("billing", Seen("test", f"o-{at}", time.time() + 1e6))]
            appends.append(Append(0, one.envelope, one.payload, plugins, seen))
        return appends

    with closing(Journal.open(path)) as journal:
        first = journal.new_numbers()
        appends = trio.run(packed)
        for at, append in enumerate(appends):
            append.number = first + at
        assert journal.commit([], appends) is None

        def end(plugin: str, numbers: set[int], cursor: int) -> None:
            ends: list[Settlement] = [
                Delete(plugin, [first + at], [appends[at].size])
                for at in sorted(numbers & waits[plugin])
            ]
            assert journal.commit(ends, [], {plugin: first + cursor}) is None
            waits[plugin] -= numbers

        end("billing", {*range(100)}, 99)
        end("audit", {*range(50)}, 49)
        end("billing", {*range(120, 180, 2)}, 99)
        failed = pack_history(FIRST)
        updates = [
            Update("audit", first + at, failed, None) for at in range(300, 500) if at % 3 != 2
        ]
        assert journal.commit(updates, []) is None
        facts = DeadLetterFacts("order", "", "test", time.time(), "never", failed)
        buried = [Bury("billing", first + at, facts, appends[at].size) for at in BURIED]
        assert journal.commit(buried, [], {"billing": first + 99}) is None
        waits["billing"] -= {*BURIED}
    return Sound(path.read_bytes(), waits, len(BURIED))


def is_for(plugin: str, at: int) -> bool:
    """Whether an event is for a plugin: there are three audiences."""
    return plugin == "billing" or (plugin == "audit" and at % 3 != 2) or at % 3 == 0


def try_out(sound: Sound, damage: Damage, path: Path) -> None:
    """Have a program go on with a damaged file, and hold it against the rules."""
    raw = bytearray(sound.raw)
    raw[damage.page * PAGE : (damage.page + 1) * PAGE] = damage.content
    path.write_bytes(raw)
    Books.got.clear()
    with capture_logs() as logs:
        try:
            trio.run(go_on, path)
        except JournalUnavailableError:
            if b"CREATE TABLE" not in sound.page(damage.page):
                raise
            assert path.read_bytes() == raw
            return
        try:
            dead = dead_letters(path)
        except JournalUnavailableError:  # The next start makes the file anew.
            trio.run(go_on, path)
            dead = dead_letters(path)
    kept = sum(letter.reason == "never" for letter in dead)
    named = Counter(letter.plugin for letter in dead if letter.reason != "never")
    for plugin in PLUGINS:
        missing = sound.waits[plugin] - {at for name, at in Books.got if name == plugin}
        assert missing <= sound.events_on(damage.page), (plugin, missing)
        assert len(missing) <= named[plugin], (plugin, missing, named)
    said = sum(line.get("lost_dead_letters", 0) for line in logs)
    assert kept + said >= sound.letters, (kept, said)


def dead_letters(path: Path) -> list[DeadLetter]:
    """All of them."""
    with DeadLetters(path) as letters:
        return letters.list()


async def go_on(path: Path) -> None:
    """Run programs until nothing is left in the file; each takes in an event."""
    for at in range(3):
        settings = Settings(store=StoreSettings(path=path), stalls=StallSettings(enabled=False))
        with trio.fail_after(WITHIN):
            async with open_runtime(settings, plugins=[Billing, Audit, Archive]) as runtime:
                was_empty = not any(each.accepted for each in runtime.statistics().values())
                outcome = await runtime.publish(Order(EVENTS + at), wait=True)
                assert [*outcome.fates.values()] == [Fate.HANDLED] * len(PLUGINS), outcome
                while any(
                    each.queued + each.in_flight + each.backing_off
                    for each in runtime.statistics().values()
                ):
                    await trio.sleep(0.01)
                assert runtime.store is not None
                assert runtime.store.trouble is None, runtime.store.trouble
        # Events that an index did not show come after a restart.
        if was_empty and not any(each.queued for each in runtime.statistics().values()):
            return
    raise AssertionError("something is left in the file")


def main() -> None:
    """Damage pages, and print what did not hold."""
    parser = argparse.ArgumentParser(description="Damage each page of a store in turn.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--page", type=int, default=None)
    options = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="trivet-pages-"))
    sound = make(directory / "sound")
    tried, faults = 0, 0
    for at, damage in enumerate(sound.damages(options.seed)):
        if at % options.every or options.page not in (None, damage.page):
            continue
        shutil.rmtree(directory)
        directory.mkdir()
        tried += 1
        try:
            try_out(sound, damage, directory / "store")
        except Exception as error:
            faults += 1
            say(f"{damage}: {type(error).__name__}: {str(error)[:300]}")
    shutil.rmtree(directory)
    say(f"{sound.pages} pages, damaged {tried} times: {faults} faults")
    sys.exit(bool(faults))


def say(text: str) -> None:
    """Tell who waits for the end."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
