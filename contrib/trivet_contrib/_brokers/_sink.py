"""What the sinks of all brokers share: batches of events that wait until the broker has them.

Owns the promise: an event is done when the broker has said that it has it, and one that the broker
does not take costs no other.
Never knows any broker: that is what a `Producer` is for.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager

import attrs
import trio
from attrs.validators import gt

from trivet import (
    Batch,
    BatchPlugin,
    Delivery,
    DeliverySettings,
    Event,
    PermanentError,
    SupervisionSettings,
    TrivetError,
)

from ._client import AwayError, CutOffError, Message, MessageRefusedError, Producer, UnsendableError
from ._messages import Format, UnreadableError, write
from ._reconnecting import Link

TOGETHER = 1 << 20
"""Bytes of messages that are sent together, at most; one that is larger is sent alone."""
FAILURES = 2
"""Failures of a batch after which its events are sent one at a time."""
CUTS = 3
"""How often the connection may break while one event alone is sent over it."""


class UnsentError(PermanentError):
    """This event cannot be sent."""


class SuspectError(TrivetError):
    """Each time that this event was sent alone the broker has ended the connection.

    Whether it is tried again is for the delivery's `retry…` to say.
    """


@attrs.define(eq=False)
class _Letter:
    """An event as a message that the broker does not have yet."""

    delivery: Delivery[Event]
    message: Message
    cuts: int = 0
    """How often the connection broke while it alone was sent."""

    @property
    def size(self) -> int:
        """Bytes, more or less."""
        return len(self.message.body) + sum(map(len, self.message.headers.values()))


class BrokerSink(BatchPlugin[Event]):
    """Sends events, and waits for the broker as long as it takes: they wait in the inbox.

    It listens to every type of event: `events` in its delivery section chooses among them.
    """

    supervision = SupervisionSettings(critical=True)  # While its broker is away it is not ready.
    delivery = DeliverySettings(
        time_limit=0,  # A broker that is away is no failure of an event.
        batch_size=256,
        batch_age=0.02,
    )

    format: Format = "binary"
    """What is sent: a CloudEvent, `binary` or `structured`, or the plain `json` of its data."""
    reconnect_max: float = attrs.field(default=15.0, validator=gt(0))
    """Seconds between two attempts to connect, at most."""

    _link: Link[Producer]

    @abstractmethod
    def connect(self) -> AbstractAsyncContextManager[Producer]:
        """Connect, and check what the settings ask for.

        Raises:
            AwayError: the broker does not answer.
            RefusedError: it does, and a setting is wrong.
        """

    async def initialize(self) -> None:
        """Find wrong settings. A broker that is away may come later than this."""
        self._link = Link[Producer](self, self.connect, at_most=self.reconnect_max)
        await self._link.check()

    async def run(self) -> None:
        """Send what is in the inbox."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._link.run)
            await super().run()
            nursery.cancel_scope.cancel()

    async def handle_batch(self, events: Batch[Event]) -> None:
        """Send a batch, again and again until the broker has it.

        Events at which it failed before are sent one at a time, after the others. So are those of
        a batch that has failed twice: it may be at one of them only that the broker does.
        """
        letters = self._letters(events.deliveries)
        await self._send([each for each in letters if each.delivery.attempt == 1], failures=0)
        again = [each for each in letters if each.delivery.attempt > 1]
        await self._send(again, failures=FAILURES)

    def _letters(self, deliveries: Sequence[Delivery[Event]]) -> list[_Letter]:
        """The events that can be written, as messages; the others are given up."""
        letters: list[_Letter] = []
        for delivery in deliveries:
            try:
                letters.append(_Letter(delivery, write(delivery, self.format)))
            except UnreadableError as error:
                self.inbox.reject(delivery, UnsentError(str(error)))
        return letters

    async def _send(self, left: Sequence[_Letter], failures: int) -> None:
        """Send all of them, in order; those that the broker has are not sent again."""
        while left:
            part = _first_of(left) if failures < FAILURES else left[:1]
            taken = set[int]()
            try:
                await self._send_part(part, taken)
            except AwayError as error:
                is_found = isinstance(error, MessageRefusedError)
                failures = FAILURES if is_found else failures + 1
            others = [each for place, each in enumerate(part) if place not in taken]
            left = [*others, *left[len(part) :]]
            if left:  # Which may fail. What is sent last is done when the batch is, at once.
                for place in taken:
                    self.inbox.accept(part[place].delivery)

    async def _send_part(self, part: Sequence[_Letter], taken: set[int]) -> None:
        """Send these once; `taken` gets the place of each that has ended, taken or given up."""
        messages = [each.message for each in part]
        try:
            await self._link.attempt(lambda producer: producer.send(messages, taken))
        except UnsendableError as error:
            for place, reason in error.reasons.items():
                self._give_up(part, place, taken, UnsentError(reason))
        except MessageRefusedError as error:
            if len(part) > 1:
                raise
            self._give_up(part, 0, taken, UnsentError(str(error)))
        except CutOffError as error:
            part[0].cuts += len(part) == 1
            if part[0].cuts < CUTS:
                raise
            self._give_up(part, 0, taken, SuspectError(str(error)))
        else:
            taken.update(range(len(part)))

    def _give_up(
        self, part: Sequence[_Letter], place: int, taken: set[int], error: Exception
    ) -> None:
        self.inbox.reject(part[place].delivery, error)
        taken.add(place)


def _first_of(letters: Sequence[_Letter]) -> Sequence[_Letter]:
    """The first messages, as many as are sent together, at least one."""
    room = TOGETHER
    for place, letter in enumerate(letters):
        room -= letter.size
        if room < 0:
            return letters[: max(1, place)]
    return letters
