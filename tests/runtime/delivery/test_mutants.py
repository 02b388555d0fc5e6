"""The models are worth something: each of these faults is noticed by one of them.

A fault is one method of the delivery that does not do what it should. Each is looked for by the
same programs at every run, and none of them needs many.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from trivet import Delivery, Event, Fate
from trivet._delivery._admission import Admission
from trivet._delivery._beyond import Beyond
from trivet._delivery._bounded import BoundedInbox
from trivet._delivery._endings import Endings
from trivet._delivery._held import Held
from trivet._delivery._in_flight import InFlight
from trivet._delivery._on_disk import OnDisk
from trivet._delivery._progress import Progress
from trivet._delivery._queue import Queue
from trivet._delivery._repeats import Repeats
from trivet._faults._containment import members
from trivet._inbox._counts import Counts
from trivet._inbox._readers import Readers
from trivet._store._ends import Ends
from trivet._store._journal import Journal
from trivet._store._records import Forget, Update
from trivet._store._register import LeftOver, Register
from trivet._store._store import Store
from trivet._store._subscribers import Audience, Subscribers
from trivet._store._tables import Tables

from . import model as durable
from . import test_conservation as memory

pytestmark = pytest.mark.model

PROGRAMS = 300
"""Programs that are tried at a time, at most."""
TIMES = 12
"""How often others are tried. A few faults go unnoticed at first, since the programs depend on the
numbers in the source, too."""


@attrs.frozen
class Mutant:
    """One method, and what it does instead; that is given the method first."""

    owner: type
    method: str
    instead: Callable[..., Any]
    besides: tuple[Mutant, ...] = ()
    """Others, without which the fault has no consequence."""

    def infect(self, patch: pytest.MonkeyPatch) -> None:
        """Let the fault be there."""
        real = getattr(self.owner, self.method)

        def mutant(*args: Any, **more: Any) -> Any:
            return self.instead(real, *args, **more)

        patch.setattr(self.owner, self.method, mutant)
        for other in self.besides:
            other.infect(patch)


def nothing(*_: Any, **__: Any) -> None:
    """Is done."""


def settles_no(kind: type) -> Callable[..., None]:
    """The store forgets this kind of what it should write."""

    def settle(real: Callable[..., None], store: Store, settlement: object, **more: Any) -> None:
        if not isinstance(settlement, kind):
            real(store, settlement, **more)

    return settle


def does_not_count_drops(real: Callable[..., None], counts: Counts, fate: Fate) -> None:
    """Count other events only."""
    if fate is not Fate.DROPPED:
        real(counts, fate)


def stays_in_flight(
    real: Callable[..., bool], in_flight: InFlight, delivery: Delivery[Event]
) -> bool:
    """Only say that it was released."""
    return delivery in in_flight


def forgets_who_waits(real: Callable[..., None], readers: Readers) -> None:
    """Wake the first reader, and no other."""
    readers.wake()


def has_always_room(*_: Any) -> bool:
    """Say that there is room, whatever is there."""
    return True


def is_never_known(*_: Any) -> None:
    """Take every event for a new one."""


def returns_at_once(
    real: Callable[..., None], queue: Queue, delivery: Delivery[Event], until: float
) -> None:
    """Come back at once."""
    real(queue, delivery, -1.0)


def returns_never(
    real: Callable[..., None], queue: Queue, delivery: Delivery[Event], until: float
) -> None:
    """Wait for ever. A wait that were over, with nothing to take, would keep a reader busy."""
    real(queue, delivery, math.inf)


def is_handed_out_beside_others(
    real: Callable[..., None], queue: Queue, delivery: Delivery[Event], until: float
) -> None:
    """Go to the end, and let nobody wait for it."""
    queue.ready.append(delivery)


def loses_what_was_in_flight(
    real: Callable[..., None], inbox: BoundedInbox, *, crashed: bool
) -> None:
    """Nothing is given back."""
    inbox._in_flight.clear()  # pyright: ignore[reportPrivateUsage]
    real(inbox, crashed=crashed)


def forgets_a_row(
    real: Callable[..., None], beyond: Beyond, page: Any, limit: int, rows: list[Any]
) -> None:
    """Leave out the second one, if there is one."""
    real(beyond, page, limit, rows[:1] + rows[2:])


def forgets_one_of_a_lane(
    real: Callable[..., None], queue: Queue, lane: Any, numbers: Any, found: Iterable[Any]
) -> None:
    """The first one."""
    real(queue, lane, numbers, list(found)[1:])


def blames_at_a_stop(real: Callable[..., bool], backing: OnDisk) -> bool:
    """Take a stop for a crash."""
    in_flight = backing._parts.in_flight  # pyright: ignore[reportPrivateUsage]
    for delivery in in_flight:
        backing.retried(delivery, delivery, in_flight.history(delivery).crashed(), 0.0)
    return real(backing)


def blames_what_was_cancelled(
    real: Callable[..., None], inbox: BoundedInbox, *, crashed: bool
) -> None:
    """Take the end of every lifetime for a crash."""
    real(inbox, crashed=True)


def blames_nobody(real: Callable[..., LeftOver], register: Register, opening: int) -> LeftOver:
    """A kill is a stop."""
    return attrs.evolve(real(register, opening), blamed=[])


def are_passed(real: Callable[..., None], progress: Progress, numbers: list[int]) -> None:
    """Only note that they were read."""
    for number in numbers:
        progress.passed(number)


def releases_none(
    real: Callable[..., Any], in_flight: InFlight, deliveries: Iterable[Delivery[Event]]
) -> list[Delivery[Event]]:
    """Only say that they were released."""
    return [each for each in deliveries if each in in_flight]


def forgets_all(
    real: Callable[..., None], repeats: Repeats, events: Iterable[Any], subscriber: str
) -> None:
    """End them as if each were dropped."""
    for event in events:
        repeats.ended(event, Fate.DROPPED, subscriber)


def is_not_looked_after(
    real: Callable[..., int], ends: Ends, subscriber: Any, cursor: int, ended: set[int]
) -> int:
    """Trust the cursor."""
    return cursor


def is_known(*_: Any) -> bool:
    """Write nothing."""
    return True


def removes(real: Callable[..., None], ends: Ends, number: int) -> None:
    """Remove it, whoever has not ended it."""
    ends._remove(number)  # pyright: ignore[reportPrivateUsage]


def reclaims_all_passed(real: Callable[..., None], ends: Ends, audience: int) -> None:
    """Take the highest cursor for the lowest."""
    members = ends._subscribers.members(audience)  # pyright: ignore[reportPrivateUsage]
    high = max((each.cursor for each in members), default=0)
    connection = ends._connection  # pyright: ignore[reportPrivateUsage]
    connection.execute("DELETE FROM event WHERE audience = ? AND number <= ?", (audience, high))


def is_for_the_first(
    real: Callable[..., Audience], subscribers: Subscribers, names: list[str]
) -> Audience:
    """Leave the others out."""
    return real(subscribers, names[:1])


def loses_receipts(real: Callable[..., None], backing: OnDisk, *args: Any) -> None:
    """Tell nobody of what is on disk only."""
    real(backing, *args)
    backing._held.receipts.clear()  # pyright: ignore[reportPrivateUsage]


def knows_nothing(*_: Any) -> bool:
    """Never."""
    return False


def is_always_one(*_: Any) -> int:
    """Return 1, whatever was before."""
    return 1


IN_MEMORY = {
    "a back-off never returns": Mutant(Queue, "back_off", returns_never),
    "a back-off returns at once": Mutant(Queue, "back_off", returns_at_once),
    "others overtake what backs off": Mutant(Queue, "back_off", is_handed_out_beside_others),
    "a lane is never released": Mutant(Queue, "_release", nothing),
    "a lane waits for what has ended": Mutant(Queue, "done", nothing),
    "what is dropped is not counted": Mutant(Counts, "add", does_not_count_drops),
    "a repetition is not noted": Mutant(Repeats, "take_in", nothing),
    "a repetition is not told its end": Mutant(Repeats, "ended", nothing),
    "a repetition is not known": Mutant(Repeats, "knows", knows_nothing),
    "no reader is woken": Mutant(Readers, "wake", nothing),
    "only one reader is woken": Mutant(Readers, "wake_all", forgets_who_waits),
    "no publisher is let in": Mutant(Admission, "admit", nothing),
    "a publisher that is cancelled stays": Mutant(Admission, "withdraw", nothing),
    "a closed inbox lets publishers wait": Mutant(Admission, "close", nothing),
    "there is always room": Mutant(Admission, "_has_room", has_always_room),
    "a duplicate is let in": Mutant(Admission, "_duplicate", is_never_known),
    "what has ended stays in flight": Mutant(InFlight, "release", stays_in_flight),
    "what is kept is not": Mutant(InFlight, "keep", nothing),
    "attempts are forgotten": Mutant(InFlight, "remember", nothing),
    "a crash loses what was in flight": Mutant(
        BoundedInbox, "lifetime_ended", loses_what_was_in_flight
    ),
}
ON_DISK = {
    "an end is not written": Mutant(Store, "end", nothing),
    "the ends of a batch are not written": Mutant(Store, "end_all", nothing),
    "the inbox tells nobody that a batch is in flight": Mutant(
        OnDisk, "handed_out_together", nothing
    ),
    "a failure is not written": Mutant(Store, "settle", settles_no(Update)),
    "what is dropped stays known": Mutant(Store, "settle", settles_no(Forget)),
    "what is handled is not in the register": Mutant(Register, "done", nothing),
    "what is in flight is not in the register": Mutant(Register, "take", nothing),
    "a crash is nobody's fault": Mutant(Register, "left_over", blames_nobody),
    "a stop is somebody's fault": Mutant(OnDisk, "leave", blames_at_a_stop),
    "a cancellation is somebody's fault": Mutant(
        BoundedInbox, "lifetime_ended", blames_what_was_cancelled
    ),
    "the inbox tells nobody that an event is in flight": Mutant(OnDisk, "handed_out", nothing),
    "the inbox tells nobody that an event is queued again": Mutant(OnDisk, "returned", nothing),
    "an event waits for a row that is being written": Mutant(Beyond, "refill", nothing),
    "duplicates do not wait for the disk": Mutant(Admission, "_duplicate", is_never_known),
    "a kill in a stop is somebody's fault": Mutant(Register, "stop_begins", nothing),
    "a row of a page is forgotten": Mutant(Beyond, "_load", forgets_a_row),
    "a row of a lane is forgotten": Mutant(Queue, "load", forgets_one_of_a_lane),
    "numbers are used again": Mutant(Journal, "new_numbers", is_always_one),
    "what is replayed is not found": Mutant(Beyond, "found", nothing),
    "the receipt of what is on disk is lost": Mutant(OnDisk, "written", loses_receipts),
    "a publisher is not told of the stop": Mutant(Held, "excuse_all", nothing),
    "the cursor passes events that are in memory": Mutant(
        Progress, "begin_all", are_passed, (Mutant(Ends, "_before_unread", is_not_looked_after),)
    ),
    "the events of a batch stay in flight": Mutant(InFlight, "release_all", releases_none),
    "the ids of a batch are forgotten": Mutant(Repeats, "handled_all", forgets_all),
    "attempts are forgotten": Mutant(InFlight, "remember", nothing),
    "the end of an event that is not the first is not written": Mutant(
        Ends, "_end_out_of_order", is_known
    ),
    "an event goes with its first end out of order": Mutant(Ends, "_remove_if_complete", removes),
    "events go that one subscriber has passed": Mutant(Ends, "_reclaim", reclaims_all_passed),
    "an event is stored for its first subscriber only": Mutant(
        Subscribers, "audience", is_for_the_first
    ),
    "the kept counts are not kept": Mutant(Tables, "_count", nothing),
    "written events are not taken in": Mutant(OnDisk, "_take_in", nothing),
    "a back-off never returns": Mutant(Queue, "back_off", returns_never),
    "a lane is never released": Mutant(Queue, "_release", nothing),
}


def complaint(model: Any, times: int = TIMES) -> AssertionError | None:
    """The model's first complaint about the fault that is there now; None where all is well."""
    found = (first_complaint(model, number) for number in range(times))
    return next((each for each in found if each is not None), None)


def first_complaint(model: Any, number: int) -> AssertionError | None:
    """The model's complaint about one set of programs."""
    sought = settings(
        max_examples=PROGRAMS,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        report_multiple_bugs=False,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )

    @seed(number)
    @sought
    @given(model.programs)
    def obeys(program: Any) -> None:
        model.obey(program)

    try:
        obeys()
    except Exception as error:
        found = [one for one in members(error) if isinstance(one, AssertionError)]
        if not found:  # Then it is not the model that has noticed.
            raise
        return found[0]
    return None


@pytest.mark.parametrize("mutant", IN_MEMORY.values(), ids=IN_MEMORY)
def test_a_fault_in_memory_is_noticed(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    """The conservation test fails where this is the case."""
    mutant.infect(monkeypatch)
    assert complaint(memory) is not None


# A program that its fault breaks off leaves its store open.
@pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning")
@pytest.mark.usefixtures("own_garbage")
@pytest.mark.timeout(600)  # Of what only few programs show, hundreds are tried.
@pytest.mark.parametrize("mutant", ON_DISK.values(), ids=ON_DISK)
def test_a_fault_on_disk_is_noticed(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model of the durable inbox fails where this is the case."""
    mutant.infect(monkeypatch)
    assert complaint(durable) is not None


def is_itself(real: Callable[..., Any], *args: Any, **more: Any) -> Any:
    """Do what the method does."""
    return real(*args, **more)


@pytest.mark.parametrize("model", [memory, durable], ids=["memory", "durable"])
def test_what_is_no_fault_is_not_noticed(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same programs find nothing where a method does what it should."""
    monkeypatch.setitem(globals(), "PROGRAMS", 60)
    Mutant(Endings, "end", is_itself).infect(monkeypatch)
    Mutant(Queue, "back_off", is_itself).infect(monkeypatch)
    assert complaint(model, times=1) is None
