"""The driver of random programs, with a store or without: events, readers, and the clock.

Owns the steps that let time pass and end readers.
Never knows what the inboxes promise: each model holds its own books.
"""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

import attrs
import trio
from trio.testing import MockClock

from trivet import Delivery, Event, Fate


class Numbered(Event):
    number: int
    """Another one for each event that is published, repetition or not."""
    wanted: bool = True
    """The field that filters ask for."""


class Ping(Numbered):
    pass


class Pong(Numbered):
    pass


HANDLED = "handled"
EXPIRED = "expired"
End = Exception | str
"""How a test's reader ends an attempt: `HANDLED`, `EXPIRED`, or with an error."""

WAITING = (Fate.QUEUED, Fate.BACKING_OFF)


def number_of(delivery: Delivery[Event]) -> int:
    """Its event's number."""
    assert isinstance(delivery.event, Numbered)
    return delivery.event.number


@attrs.define(eq=False)
class Reader:
    """One task that waits for one event."""

    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    ended: trio.Event = attrs.field(factory=trio.Event)


class HasReaders(Protocol):
    """A subscriber, as far as this file knows it."""

    @property
    def readers(self) -> list[Reader]: ...


S = TypeVar("S", bound=HasReaders)


class Driver(Generic[S]):
    """The steps of a random program that say nothing of an inbox."""

    clock: MockClock
    subscribers: dict[str, S]

    def subscriber(self, number: int) -> S:
        """The subscriber with this number, counted round and round."""
        return [*self.subscribers.values()][number % len(self.subscribers)]

    async def let_run(self) -> None:
        """Let the tasks run for one round; the step after it meets them half way."""
        await trio.lowlevel.checkpoint()

    async def let_time_pass(self, seconds: float) -> None:
        self.clock.jump(seconds)

    async def cancel_reader(self, of: int, which: int) -> None:
        readers = self.subscriber(of).readers
        if readers:
            readers[which % len(readers)].scope.cancel()

    async def end_readers(self, of: int) -> None:
        """Cancel the tasks and see them end, as a lifetime's end does."""
        for reader in [*self.subscriber(of).readers]:
            reader.scope.cancel()
            await reader.ended.wait()
