"""What the sinks of all brokers share: batches of events that wait until the broker has them.

Owns the promise: an event is done when the broker has said that it has it.
Never knows any broker: that is what a `Producer` is for.
"""

from __future__ import annotations

from abc import abstractmethod
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
)

from ._broker import Message, Producer, UnsendableError
from ._link import Link
from ._wire import Format, UnreadableError, write


class UnsentError(PermanentError):
    """This event cannot be sent."""


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
        """Send a batch, again and again until the broker has it."""
        left: list[tuple[Delivery[Event], Message]] = []
        for delivery in events.deliveries:
            try:
                left.append((delivery, write(delivery, self.format)))
            except UnreadableError as error:
                self.inbox.reject(delivery, UnsentError(str(error)))
        while left:
            messages = [message for _, message in left]
            try:
                await self._link.call(lambda producer: producer.send(messages))  # noqa: B023
                left = []
            except UnsendableError as error:
                for place, reason in error.reasons.items():
                    self.inbox.reject(left[place][0], UnsentError(reason))
                left = [each for place, each in enumerate(left) if place not in error.reasons]
