"""The admission to an inbox, where its backing takes time to accept an event."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trivet import Delivery, Event, Fate, TrivetError
from trivet._delivery._backing import Accepted, Parts
from trivet._delivery._bounded import BoundedInbox
from trivet._delivery._in_memory import InMemory
from trivet._delivery._pending_offer import PendingOffer
from trivet._events._delivery_settings import DeliveryPolicy
from trivet._events._outcome import Refusal
from trivet._store._commit import Commit, Writing


class Note(Event):
    text: str


class Slow(InMemory):
    """A backing that accepts an event, or refuses it, when the test says so."""

    outlives = True

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        self.accepting: list[tuple[Delivery[Event], Accepted]] = []
        self.waiting: list[Delivery[Event]] = []

    def accept(self, delivery: Delivery[Event], then: Accepted) -> Writing | None:
        """See `Backing`."""
        self.accepting.append((delivery, then))
        self.taken += 1
        return Writing(0, b"", b"", [], delivery=delivery, commit=Commit())

    def has_room(self, delivery: Delivery[Event], free: float, buffer_bytes: float) -> bool:
        """See `Backing`."""
        return super().has_room(delivery, free - self.taken, buffer_bytes)

    def begins_to_wait(self, delivery: Delivery[Event]) -> None:
        """See `Backing`."""
        self.waiting.append(delivery)

    def waits_no_more(self, delivery: Delivery[Event]) -> None:
        """See `Backing`."""
        self.waiting.remove(delivery)

    def refusal(self, delivery: Delivery[Event]) -> Refusal | None:
        """See `Backing`."""
        text = getattr(delivery.event, "text", "")
        return Refusal("unwritable") if text == "unwritable" else None

    def answer(self, error: TrivetError | None = None) -> None:
        """Accept the first event, or say why it cannot be."""
        delivery, then = self.accepting.pop(0)
        self.taken -= 1
        if error is None:
            self._parts.put(delivery)
        then([delivery], error)


class Desk:
    """An inbox with such a backing."""

    def __init__(self, **said: object) -> None:
        made: list[Slow] = []

        def make(parts: Parts) -> Slow:
            made.append(Slow(parts))
            return made[0]

        policy = DeliveryPolicy(**said)  # type: ignore[arg-type]
        self.inbox = BoundedInbox("p", policy, backing=make)
        self.admission = self.inbox.admission
        self.backing = made[0]

    def offer(self, text: str, event_id: str | None = None) -> object:
        """Offer an event."""
        return self.admission.offer(Delivery.of(Note(text), id=event_id))

    def written(self, text: str, event_id: str | None = None) -> None:
        """Offer an event that has to be stored first."""
        assert isinstance(self.offer(text, event_id), Writing)

    def duplicate(self, text: str, event_id: str) -> PendingOffer:
        """Offer the duplicate of an event that is being stored."""
        offer = self.offer(text, event_id)
        assert isinstance(offer, PendingOffer)
        return offer

    def counts(self) -> tuple[int, int, int, int]:
        """How many were accepted, are queued, were duplicates, and were rejected."""
        now = self.inbox.statistics()
        return now.accepted, now.queued, now.duplicate, now.rejected


async def test_an_event_counts_when_it_is_accepted() -> None:
    """An event takes room until it is accepted, and nothing is said of it."""
    desk = Desk(buffer=1)
    desk.written("a")
    assert desk.counts() == (0, 0, 0, 0)
    assert desk.admission.room == 0
    assert desk.offer("b") is None
    desk.backing.answer()
    assert desk.counts() == (1, 1, 0, 0)


async def test_an_event_that_cannot_be_accepted_is_rejected() -> None:
    """Duplicates of an event that cannot be accepted are rejected too, and may be offered again."""
    desk = Desk()
    desk.written("a", "1")
    duplicate = desk.duplicate("a", "1")
    desk.backing.answer(TrivetError("no room"))
    assert duplicate.fate is Fate.REJECTED
    assert desk.counts() == (0, 0, 0, 2)
    desk.written("a", "1")


async def test_the_duplicate_of_an_event_that_is_being_accepted_waits_for_it() -> None:
    """A duplicate is not accepted a second time."""
    desk = Desk()
    desk.written("a", "1")
    duplicate = desk.duplicate("a", "1")
    assert len(desk.backing.accepting) == 1
    assert (duplicate.fate, duplicate.is_waiting) == (None, False)
    desk.backing.answer()
    assert duplicate.fate is Fate.DUPLICATE
    assert desk.counts() == (2, 1, 1, 0)
    assert desk.offer("a", "1") is Fate.DUPLICATE


@pytest.mark.parametrize("ends", ["admitted", "withdrawn", "closed", "a duplicate"])
async def test_a_backing_learns_of_every_wait_and_of_its_end(ends: str) -> None:
    """A backing can drop what it keeps of an event that waits for room, however the wait ends."""
    desk = Desk(buffer=1)
    desk.written("a", "1")
    offer = desk.admission.queue_up(Delivery.of(Note("b"), id="1" if "dup" in ends else None))
    assert desk.backing.waiting == [offer.delivery]
    if ends == "withdrawn":
        desk.admission.withdraw(offer)
    elif ends == "closed":
        desk.admission.close()
    else:
        desk.backing.answer()
        assert desk.inbox.take() is not None
    assert desk.backing.waiting == []
    fates = {"closed": Fate.REJECTED, "a duplicate": Fate.DUPLICATE}
    assert offer.fate is fates.get(ends)
    assert offer.has_room is (ends == "admitted")


async def test_an_event_that_is_written_frees_room_after_it_was_counted() -> None:
    """A publisher that waits is not let in while the event is neither here nor there."""
    desk = Desk(buffer=1)
    desk.written("a")
    offer = desk.admission.queue_up(Delivery.of(Note("b")))
    desk.backing.answer()
    assert offer.is_waiting
    assert desk.counts() == (1, 1, 0, 0)


async def test_a_refusal_for_good_comes_first() -> None:
    """A full inbox does not have a publisher wait with an event that it can never take."""
    desk = Desk(buffer=1)
    desk.written("a")
    refusal = desk.offer("unwritable")
    assert isinstance(refusal, Refusal)
    assert desk.inbox.statistics().unacceptable == 1


async def test_a_pending_offer_is_waited_for() -> None:
    """The wait ends with the decision; there is none where the decision is there."""
    desk = Desk()
    desk.written("a", "1")
    offer = desk.duplicate("a", "1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(offer.wait)
        await wait_all_tasks_blocked()
        desk.backing.answer()
    with trio.CancelScope() as scope:
        scope.cancel()
        await offer.wait()
    assert not scope.cancelled_caught
