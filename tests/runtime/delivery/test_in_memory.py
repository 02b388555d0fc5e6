"""An inbox whose events are in memory only, and what its backing is asked."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from trivet import Delivery, Event, Fate, Receipt
from trivet._delivery._backing import Backing
from trivet._delivery._bounded import BoundedInbox
from trivet._delivery._in_memory import InMemory
from trivet._events._delivery_settings import DeliveryPolicy
from trivet._inbox._workers import handle_plain

METHODS = [name for name, value in vars(Backing).items() if callable(value) and name[0] != "_"]


class Step(Event):
    number: int


class Silent(InMemory):
    """A backing of which nothing is asked."""

    def __getattribute__(self, name: str) -> Any:
        if name in METHODS:
            raise AssertionError(f"{name} was called")
        return super().__getattribute__(name)


@pytest.mark.parametrize("said", [{}, {"id": "1"}, {"receipt": Receipt}, {"size": 9}])
async def test_a_plain_inbox_does_not_call_its_backing(
    autojump_clock: MockClock, said: dict[str, Any]
) -> None:
    """Events come in, are handled, fail, and are read one by one and in batches without it."""
    inbox = BoundedInbox("p", DeliveryPolicy(), backing=Silent)
    assert "accept" in METHODS

    def offer(number: int) -> None:
        given = {name: value() if name == "receipt" else value for name, value in said.items()}
        if "id" in given:
            given["id"] = str(number)
        assert inbox.admission.offer(Delivery.of(Step(number), **given)) is Fate.QUEUED

    async def handle(event: Step) -> None:
        if event.number == 1:
            raise ValueError

    for number in range(3):
        offer(number)
    with trio.move_on_after(1):
        await handle_plain(inbox, handle)
    for number in range(3, 6):
        offer(number)
    inbox.accept(await inbox.receive())
    inbox.accept_all(inbox.take_some(9))
    statistics = inbox.statistics()
    assert (statistics.accepted, statistics.handled, statistics.failed) == (6, 5, 1)


def test_an_event_that_cannot_be_handled_has_failed() -> None:
    """An event in memory that cannot be handled has failed, at a stop as well."""
    assert InMemory.failed_as is Fate.FAILED
    assert not InMemory.outlives
