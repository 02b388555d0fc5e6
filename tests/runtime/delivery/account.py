"""The account of a log that lives of a program wrote, and the rules that hold for it.

Owns the records of the log, and what is promised of an event whose process was killed.
Never knows how a life is lived, nor how it ends.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable
from enum import Enum, auto
from itertools import pairwise

import attrs

RECORD = struct.Struct("<cB6xQ")
"""A record: its kind, the plugin, and the event's number. No record lies across two pages of the
file, where a kill could cut it in two."""
OFFERED, SENT, STORED, TAKEN, KNOWN, AGAIN = b"O", b"L", b"S", b"T", b"K", b"A"
"""Published, to be repeated if there is no answer; sent as a line, which has no id to be known by;
given to the store, in whose order events are delivered; and the answers, of which `AGAIN` is for an
event that had been answered in an earlier life."""
BEGUN, FAILED, ENDED = b"B", b"F", b"E"
"""The handler's first statement, its failure, its last statement."""
REPLAYED = b"R"
"""The number is that of the dead letters that an operator has replayed."""


@attrs.frozen
class Rules:
    """The rules of one plugin."""

    plugin: str
    at_once: int
    """Events that it may have in flight."""
    lane_of: Callable[[int], int] | None
    """The lane of an event, in which first deliveries are in order; None where there is no order.
    """
    is_batched: bool = False
    """Whether several events end with one statement; those of a lane may then be in flight at
    once."""
    wants: Callable[[int], bool] = lambda _: True
    """Whether an event is for it."""


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
    """The facts of one event, for one plugin."""

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
    """The account of one plugin's events, and its rules."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.events: dict[int, Facts] = {}
        self.life = 0
        self.counts: Counter[str] = Counter()
        self.unanswered: set[int] = set()
        """Events to be published again."""
        self.recent: list[int] = []
        """Events with ids that were answered in the latest life."""
        self._repeated: set[int] = set()
        """Events that were unanswered at its beginning."""
        self._in_flight: set[int] = set()
        self._first: dict[int, list[int]] = {}
        """The events in the order of their first deliveries, by lane."""
        self._place = 0
        self._steps: dict[bytes, Callable[[int, Facts], None]] = {
            OFFERED: self._offered,
            SENT: self._sent,
            STORED: self._stored,
            TAKEN: self._taken,
            KNOWN: self._known,
            AGAIN: self._again,
            BEGUN: self._begun,
            FAILED: self._failed,
            ENDED: self._ended,
        }

    def begin_life(self) -> None:
        """Note that a life begins."""
        self.recent.clear()
        self._repeated = set(self.unanswered)

    def note(self, kind: bytes, number: int, place: int) -> None:
        """Take in a record."""
        self._place = place
        self._steps[kind](number, self.events.setdefault(number, Facts()))

    def end_life(self, last: list[int], *, killed: bool) -> None:
        """Note that a life has ended.

        Args:
            last: the events whose ends are the last that the life has written down, the latest
                last; of a batch all, otherwise at most one.
            killed: whether it was killed, and has not stopped.
        """
        assert killed or not self._in_flight
        for number in self._in_flight:
            self.events[number].state = State.LEFT
        self._in_flight.clear()
        for number in last[-1 if not self.rules.is_batched else 0 :]:
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

    def _sent(self, number: int, facts: Facts) -> None:
        assert not facts.offers, f"line {number} was sent again"
        facts.offers.append(self._place)

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
        if self.events[number].in_last_life:
            self.recent.append(number)

    def _again(self, number: int, facts: Facts) -> None:
        assert facts.is_answered
        self.counts["repeated in a later life"] += 1

    def _begun(self, number: int, facts: Facts) -> None:
        rules = self.rules
        assert rules.wants(number), f"event {number} is for others"
        assert facts.offers, f"event {number} was never published"
        assert facts.state is not State.DONE, f"event {number} was handed out again"
        assert number not in self._in_flight
        assert len(self._in_flight) < rules.at_once, f"{number}, beside {self._in_flight}"
        self.counts["duplicates"] += facts.state is not State.WAITING
        if rules.lane_of is not None:
            lane = rules.lane_of(number)
            beside = [each for each in self._in_flight if rules.lane_of(each) == lane]
            assert rules.is_batched or not beside, f"{beside} and {number} at once"
            if not facts.was_begun:
                self._first.setdefault(lane, []).append(number)
        self._in_flight.add(number)
        facts.was_begun, facts.state = True, State.IN_FLIGHT

    def _failed(self, number: int, facts: Facts) -> None:
        self._in_flight.remove(number)
        facts.state = State.WAITING
        self.counts["failed attempts"] += 1

    def _ended(self, number: int, facts: Facts) -> None:
        self._in_flight.remove(number)
        facts.state = State.DONE

    def close(self) -> None:
        """Hold the whole of it against the rules, when all is drained and no dead letter left."""
        done = {
            number
            for number, facts in self.events.items()
            if facts.state in (State.DONE, State.PERHAPS_DONE)
        }
        answered = {number for number, facts in self.events.items() if facts.is_answered}
        missing = sorted(answered - done)
        assert not missing, f"{len(missing)} acknowledged events are missing: {missing[:20]}"
        assert not self.unanswered
        begun = {number for number, facts in self.events.items() if facts.was_begun}
        assert begun == done, f"begun, and never handled: {sorted(begun - done)[:20]}"
        for lane, events in self._first.items():
            places = [(self.events[each].place, each) for each in events]
            wrong = [(one, other) for one, other in pairwise(places) if one > other]
            assert not wrong, f"lane {lane}: not in the order of acceptance: {wrong[:20]}"
        self.counts["acknowledged"] = len(answered)
        self.counts["handled"] = len(done)
        self.counts["handled, unanswered lines"] = len(done - answered)


class Accounts:
    """The accounts of all plugins, by the number that each has in the records."""

    def __init__(self, rules: list[Rules]) -> None:
        self.all = [Account(each) for each in rules]
        self.replayed = 0
        self.highest = -1
        self._place = 0

    def read(self, log: bytes, *, killed: bool) -> None:
        """Take in what one life has written."""
        for account in self.all:
            account.begin_life()
        last: list[tuple[bytes, int, int]] = []
        kind: bytes
        plugin: int
        number: int
        for kind, plugin, number in RECORD.iter_unpack(log):
            self._place += 1
            if kind == REPLAYED:  # Written by a thread, in the midst of a task's turn.
                self.replayed += number
                continue
            if last and last[-1][:2] != (kind, plugin):
                last.clear()
            last.append((kind, plugin, number))
            its = [self.all[plugin]]
            if kind in (OFFERED, SENT):
                self.highest = max(self.highest, number)
                its = [account for account in self.all if account.rules.wants(number)]
            for account in its:
                account.note(kind, number, self._place)
        for at, account in enumerate(self.all):
            ended = [number for kind, plugin, number in last if (kind, plugin) == (ENDED, at)]
            account.end_life(ended if killed else [], killed=killed)

    @property
    def unanswered(self) -> set[int]:
        """Events that some plugin is not known to have."""
        return {number for account in self.all for number in account.unanswered}
