"""The sink that all brokers share: batches of events, which wait until the broker has them.

Owns the promise: an event ends when the broker has confirmed it, and an event that the broker does
not take costs no other event.
Never knows a particular broker: a `Producer` speaks to it.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial

import attrs
import trio
from attrs.validators import gt

from trivet import (
    Batch,
    BatchPlugin,
    BrokerChannel,
    Delivery,
    DeliverySettings,
    Event,
    PermanentError,
    SupervisionSettings,
    TrivetError,
)

from .._documents import UnwritableError
from .._turns import LARGE, Turns, off_loop
from ._client import (
    BrokerUnavailableError,
    ConnectionLostError,
    Message,
    MessageRefusedError,
    Producer,
    UnsendableMessagesError,
)
from ._messages import Format, write
from ._reconnecting import Reconnector

SENT_TOGETHER = 1 << 20
"""Bytes of messages that are sent together, at most; a larger message is sent alone."""
FAILURES_TOGETHER = 2
"""Failures of a batch after which its events are sent one at a time."""
LOST_CONNECTIONS = 3
"""How often the connection may be lost while one event alone is sent."""


class UnsendableEventError(PermanentError):
    """An event can never be sent."""


class SuspectedPoisonError(TrivetError):
    """The broker ended the connection each time that an event was sent alone.

    The delivery's `retry…` settings decide whether it is tried again.
    """


@attrs.define(eq=False)
class _Unsent:
    """An event as a message that the broker has not confirmed yet."""

    delivery: Delivery[Event]
    message: Message
    lost_connections: int = 0
    """How often the connection was lost while this message alone was sent."""

    @property
    def size(self) -> int:
        """Bytes, an estimate."""
        return len(self.message.body) + sum(map(len, self.message.headers.values()))


class BrokerSink(BatchPlugin[Event]):
    """Sends events. While the broker is unavailable they wait in the inbox, however long it takes.

    A sink listens to every type of event: `events` in its delivery section chooses among them.
    """

    supervision = SupervisionSettings(critical=True)  # Without its broker it is not ready.
    delivery = DeliverySettings(
        time_limit=0,  # An unavailable broker is no failure of an event.
        batch_size=256,
        batch_age=0.02,
    )

    format: Format = "binary"
    """A message: a CloudEvent, `binary` or `structured`, or the plain `json` of the data."""
    reconnect_max: float = attrs.field(default=15.0, validator=gt(0))
    """Seconds between two attempts to connect, at most."""

    _broker: Reconnector[Producer]

    @abstractmethod
    def connect(self) -> AbstractAsyncContextManager[Producer]:
        """Connect, and check what the settings ask for.

        Raises:
            BrokerUnavailableError: the broker does not answer.
            BrokerRefusedError: the broker answers, and a setting is wrong.
        """

    @abstractmethod
    def describe_channels(self) -> Iterable[BrokerChannel]:
        """The stream, the queue or the exchange, for `GET /asyncapi.json`."""

    async def initialize(self) -> None:
        """Find wrong settings. The broker may become available later."""
        self._broker = Reconnector[Producer](self, self.connect, at_most=self.reconnect_max)
        await self._broker.check()

    async def run(self) -> None:
        """Send the events of the inbox."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._broker.run)
            await super().run()
            nursery.cancel_scope.cancel()

    async def handle_batch(self, events: Batch[Event]) -> None:
        """Send a batch, and repeat that until the broker has it.

        Events that failed before are sent one at a time, after the others. After two failures the
        other events of the batch are sent one at a time as well: a single event may be the cause.
        """
        unsent = await self._written(events.deliveries)
        await self._send([each for each in unsent if each.delivery.attempt == 1], failures=0)
        retried = [each for each in unsent if each.delivery.attempt > 1]
        await self._send(retried, failures=FAILURES_TOGETHER)

    async def _written(self, deliveries: Sequence[Delivery[Event]]) -> list[_Unsent]:
        """The events as messages; an event that cannot be written is rejected."""
        unsent: list[_Unsent] = []
        turns = Turns()
        for delivery in deliveries:
            if turns.is_over():
                await turns.next()
            try:
                if delivery.size > LARGE:
                    message = await off_loop(delivery.size, partial(write, delivery, self.format))
                else:
                    message = write(delivery, self.format)
                unsent.append(_Unsent(delivery, message))
            except UnwritableError as error:
                self.inbox.reject(delivery, UnsendableEventError(str(error)))
        return unsent

    async def _send(self, left: Sequence[_Unsent], failures: int) -> None:
        """Send all messages in order; a message that the broker has is not sent again."""
        while left:
            part = _first_of(left) if failures < FAILURES_TOGETHER else left[:1]
            taken = set[int]()
            try:
                await self._send_part(part, taken)
            except BrokerUnavailableError as error:
                is_one_to_blame = isinstance(error, MessageRefusedError)
                failures = FAILURES_TOGETHER if is_one_to_blame else failures + 1
            others = [each for index, each in enumerate(part) if index not in taken]
            left = [*others, *left[len(part) :]]
            if left:  # These may fail. Without any left, the end of the batch accepts the rest.
                for index in taken:
                    self.inbox.accept(part[index].delivery)

    async def _send_part(self, part: Sequence[_Unsent], taken: set[int]) -> None:
        """Send these once; `taken` receives the index of each that has ended, sent or rejected."""
        messages = [each.message for each in part]
        try:
            await self._broker.attempt(lambda producer: producer.send(messages, taken))
        except UnsendableMessagesError as error:
            for index, reason in error.reasons.items():
                self._reject(part, index, taken, UnsendableEventError(reason))
        except MessageRefusedError as error:
            if len(part) > 1:
                raise
            self._reject(part, 0, taken, UnsendableEventError(str(error)))
        except ConnectionLostError as error:
            part[0].lost_connections += len(part) == 1
            if part[0].lost_connections < LOST_CONNECTIONS:
                raise
            self._reject(part, 0, taken, SuspectedPoisonError(str(error)))
        else:
            taken.update(range(len(part)))

    def _reject(
        self, part: Sequence[_Unsent], index: int, taken: set[int], error: Exception
    ) -> None:
        self.inbox.reject(part[index].delivery, error)
        taken.add(index)


def _first_of(unsent: Sequence[_Unsent]) -> Sequence[_Unsent]:
    """The first messages, as many as are sent together, but at least one."""
    room = SENT_TOGETHER
    for index, each in enumerate(unsent):
        room -= each.size
        if room < 0:
            return unsent[: max(1, index)]
    return unsent
