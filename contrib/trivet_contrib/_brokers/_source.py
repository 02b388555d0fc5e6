"""The source that all brokers share: from a message to the fate of its event, and back.

Owns the promise: a message is acknowledged when every subscriber has ended its event, or has the
event on its disk. Until then the broker keeps the message, and the messages in flight are bounded.
Never knows a particular broker: a `Consumer` speaks to it.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager

import attrs
import trio
from attrs.validators import ge, gt

from trivet import (
    BrokerChannel,
    Event,
    Fate,
    Outcome,
    SourcePlugin,
    SupervisionSettings,
    WrongSettingError,
)

from ._acknowledgements import Acknowledgements, InFlight
from ._client import BrokerUnavailableError, Consumer, Received
from ._messages import Limits, Reader, UnreadableError
from ._reconnecting import Backoff, Reconnector

RELEASE_WITHIN = 2.0
"""Seconds for the last reports and the release of messages at a stop. A message that could not be
released is delivered to another consumer later."""
FETCH_AT_ONCE = 32
"""Messages in flight up to which more are fetched as soon as there is room for one. Above that no
subscriber waits for the next message, and a request for many messages costs hardly more than a
request for one."""
WAIT_FOR_BYTES = 1.0
"""Seconds for which an event waits here for memory; after that each inbox has its policy."""
BYTES_IN_FLIGHT = 64 * 1024 * 1024
"""Bytes of memory for the messages in flight and their events. The size of the next messages is
unknown before they come: they are taken to be as large as the largest of the last ones."""
CHECK_ROOM_EVERY = 0.05
"""Seconds between two checks for room, while others fill the inboxes."""
BLOCKED = 60.0
"""Seconds without room for one message, and without an event that ends, until the source is
degraded."""


def differs_from(other: str) -> Callable[[object, attrs.Attribute[str], str], None]:
    """A validator that refuses the setting `other` as the place of dead letters.

    Dead letters that are put where they came from would come again for ever.
    """

    def check(plugin: object, _field: attrs.Attribute[str], value: str) -> None:
        if value and value == getattr(plugin, other):
            raise ValueError(
                f"it is the source's own `{other}`: a dead letter that is put there comes again"
            )

    return check


class BrokerSource(SourcePlugin):
    """Fetches messages, publishes them as events, and acknowledges the messages that are done.

    A connector derives from this class, and says how to connect.
    """

    supervision = SupervisionSettings(critical=True)  # Without its broker it is not ready.

    event: type[Event] | None = None
    """The event type of every message. Without it a message is a CloudEvent that names its type."""
    prefetch: int = attrs.field(default=256, validator=ge(1))
    """Messages in flight, at most."""
    delivery_limit: int = attrs.field(default=5, validator=ge(1))
    """How often a message is delivered before it becomes a dead letter."""
    drain: float = attrs.field(default=3.0, validator=ge(0))
    """Seconds for which a stop waits for the messages in flight; the others are then given back."""
    reconnect_max: float = attrs.field(default=15.0, validator=gt(0))
    """Seconds between two attempts to connect, at most."""

    _acks: Acknowledgements
    _types: set[type[Event]]
    """The event types that have come, or will come."""
    _reader: Reader
    _broker: Reconnector[Consumer]
    _largest: int
    """Bytes of the largest message that has come lately."""

    @abstractmethod
    def connect(self) -> AbstractAsyncContextManager[Consumer]:
        """Connect, and check what the settings ask for.

        Raises:
            BrokerUnavailableError: the broker does not answer.
            BrokerRefusedError: the broker answers, and a setting is wrong.
        """

    @property
    @abstractmethod
    def origin(self) -> str:
        """The source of an event whose message names none."""

    @abstractmethod
    def describe_channels(self) -> Iterable[BrokerChannel]:
        """The stream or the queue, for `GET /asyncapi.json`."""

    @property
    def only_event(self) -> list[type[Event]] | None:
        """The event type of every message; None where each message names its own."""
        return None if self.event is None else [self.event]

    async def initialize(self) -> None:
        """Find wrong settings. The broker may become available later."""
        self._acks = Acknowledgements(self.app.durable, self.delivery_limit, self._log_dead_letter)
        self._types = set()
        self._largest = 1
        self._reader = Reader(self.app.events, self.event, self.origin)
        if self.event is not None:
            self._types.add(self.event)
            name = self.event.__event_name__
            if not self.app.events.is_open(self.event):
                opened = f"to take it from outside, write `open_events = [{name!r}]` at the top"
                raise WrongSettingError("event", f"{name!r} is the program's own; {opened}")
            if not self.app.listens(self.event):
                raise WrongSettingError("event", f"no active plugin listens to {name!r}")
        self._broker = Reconnector[Consumer](self, self.connect, at_most=self.reconnect_max)
        await self._broker.check()

    async def run(self) -> None:
        """Fetch and publish, report ended messages, and extend the messages in flight."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._broker.run)
            nursery.start_soon(self._report)
            nursery.start_soon(self._extend)
            await self._fetch()

    async def close(self) -> None:
        """Wait a little for the messages in flight, and give the others back."""
        acks = self._acks
        with trio.move_on_after(self.drain):
            while len(acks.in_flight) > len(acks.to_publish):
                await acks.wait_for_change()
        reason = f"no answer within {RELEASE_WITHIN:g} s"
        with trio.move_on_after(RELEASE_WITHIN):
            try:
                async with self.connect() as consumer:
                    await self._release(consumer)
                    return
            except BrokerUnavailableError as error:
                reason = str(error)
        left = len(acks.in_flight) + len(acks.done) + len(acks.failed) + len(acks.dead)
        if not left:
            return
        self.log.warning("messages could not be given back", count=left, reason=reason)

    async def _release(self, consumer: Consumer) -> None:
        try:
            await self._report_all(consumer)
        except BrokerUnavailableError as error:  # It may be the dead letters alone that fail.
            await consumer.release()
            reason = str(error)
            self.log.warning("some messages could not be reported, and come again", reason=reason)
        else:
            await consumer.release()

    # From the broker to the subscribers.

    async def _fetch(self) -> None:
        acks, backoff = self._acks, Backoff(1.0)
        while True:
            count = await self._wait_for_room()
            if acks.to_publish:
                waiting = min(count, len(acks.to_publish))
                records = [acks.to_publish.popleft() for _ in range(waiting)]
                if not await self._publish(records):
                    await backoff.wait()
                continue
            backoff.reset()
            messages = await self._broker.call(lambda consumer: consumer.fetch(count))  # noqa: B023
            records = list[InFlight]()
            with trio.CancelScope(shield=True):  # A message in flight has to be published.
                records = await self._read(messages)
            if records:
                await self._publish(records)

    async def _wait_for_room(self) -> int:
        """How many messages there is room for, here and at every subscriber."""
        acks, is_blocked = self._acks, False
        until, ended = trio.current_time() + BLOCKED, self._acks.ended
        while True:
            free = len(acks.to_publish) or self.prefetch - len(acks.in_flight) - len(acks.dead)
            if acks.in_flight and not acks.to_publish:
                free = min(free, (BYTES_IN_FLIGHT - acks.bytes) // self._largest)
            room = min([free, *map(self.app.room, self._types)])
            few = 0 if acks.to_publish else (len(acks.in_flight) - FETCH_AT_ONCE) // 2
            if room >= max(1, few):
                if is_blocked:
                    self.recover()
                return int(room)
            with trio.move_on_after(CHECK_ROOM_EVERY):
                await acks.wait_for_change()
            if acks.ended != ended:
                until, ended = trio.current_time() + BLOCKED, acks.ended
            elif not is_blocked and trio.current_time() >= until:
                is_blocked = True
                self.degrade(self._why_blocked(free))

    def _why_blocked(self, free: int) -> str:
        full = sorted(each.__event_name__ for each in self._types if self.app.room(each) < 1)
        if free < 1 or not full:
            return f"none of the {len(self._acks.in_flight)} messages in flight ends"
        return f"no subscriber has room for {', '.join(full)}, and no event ends"

    async def _read(self, messages: Sequence[Received]) -> list[InFlight]:
        """The messages that hold an event, now in flight; unreadable ones become dead letters."""
        acks, now, types, reader = self._acks, trio.current_time(), self._types, self._reader
        limits, at_most = Limits(self.app.buffer_bytes), self.delivery_limit
        records: list[InFlight] = []
        for message in messages:
            if message.tag in acks.in_flight:
                continue
            if message.deliveries > at_most:  # It may kill each program that reads it.
                reason = f"delivered {message.deliveries - 1} times, and never done"
                acks.dead_letter(message, reason)
                continue
            try:
                delivery = reader.read(message, limits)
                if delivery is None:
                    delivery = await reader.read_large(message, limits)
            except UnreadableError as error:
                acks.dead_letter(message, str(error))
                continue
            cls = type(delivery.event)
            if cls not in types:
                if not self.app.listens(cls):
                    reason = f"no active plugin listens to {cls.__event_name__!r}"
                    acks.dead_letter(message, reason)
                    continue
                types.add(cls)
            records.append(acks.add(message, delivery, now))
        self._largest = max([self._largest // 2, 1, *(record.size for record in records)])
        return records

    async def _publish(self, records: Sequence[InFlight]) -> bool:
        """Publish events; returns whether each is in some inbox, or has ended."""
        outcomes, left = list[Outcome](), deque(records)
        try:
            while left:
                together = await self._take_fitting(left)
                new = await self.app.publish_many([record.delivery for record in together])
                for record, outcome in zip(together, new, strict=True):
                    record.on_published(outcome)
                outcomes += new
        except trio.Cancelled:
            self._acks.to_publish.extend(left)  # No subscriber has them: the stop need not wait.
            raise
        if not self._acks.to_publish:
            self.recover()
            return True
        refused: set[str] = set()
        for outcome in outcomes:
            if outcome.unrouted:
                refused.add(f"no plugin listens to {outcome.event}")
            fates = outcome.fates.items()
            refused |= {f"{name} refuses events" for name, fate in fates if fate is Fate.REJECTED}
        self.degrade("; ".join(sorted(refused)) or "events were refused")
        return False

    async def _take_fitting(self, records: deque[InFlight]) -> list[InFlight]:
        """Take out the first records, as many as the inboxes have memory for, but at least one."""
        with trio.move_on_after(WAIT_FOR_BYTES):
            while records[0].delivery.size > self._room_bytes:
                with trio.move_on_after(CHECK_ROOM_EVERY):
                    await self._acks.wait_for_change()
        room = self._room_bytes
        if sum(record.delivery.size for record in records) <= room:
            together = list(records)
            records.clear()
            return together
        together = [records.popleft()]
        room -= together[0].delivery.size
        while records and records[0].delivery.size <= room:
            room -= records[0].delivery.size
            together.append(records.popleft())
        return together

    @property
    def _room_bytes(self) -> float:
        return min(map(self.app.room_bytes, self._types), default=math.inf)

    # From the subscribers to the broker.

    def _log_dead_letter(self, message: Received, reason: str) -> None:
        self.log.error("message put to the dead letters", message_id=message.tag, reason=reason)

    async def _report(self) -> None:
        while True:
            await self._acks.wait_for_reports()
            await trio.lowlevel.checkpoint()  # Messages that end in this turn are reported as well.
            await self._broker.call(self._report_all)

    async def _report_all(self, consumer: Consumer) -> None:
        """Report ended messages; a report that may not have arrived is sent again later."""
        acks = self._acks
        if done := list(acks.done):
            missing = await consumer.acknowledge(done)
            acks.reported(done=done)
            if missing:  # Another consumer may have had them meanwhile, and handled them twice.
                self.log.warning("messages were no longer in flight when done", count=missing)
        if failed := list(acks.failed):
            lost = await consumer.retry(failed)
            acks.reported(failed=failed)
            for message, reason in lost:
                acks.dead_letter(message, f"it has failed, and {reason}")
        if dead := list(acks.dead):
            await consumer.dead_letter(dead)
            acks.reported(dead=dead)

    async def _extend(self) -> None:
        """Keep slow messages from being delivered to another consumer."""
        while True:
            visibility = await self._broker.call(_visibility)
            await trio.sleep(min(visibility / 4, 3600))
            now = trio.current_time()
            slow = [
                record
                for record in self._acks.in_flight.values()
                # A message that was not extended for longer may be at another consumer by now.
                if visibility / 4 <= now - record.extended_at + 0.001
                and now - record.extended_at < visibility
            ]
            if slow:
                messages = [record.message for record in slow]
                await self._broker.call(lambda consumer: consumer.extend(messages))  # noqa: B023
                for record in slow:
                    record.extended_at = now


async def _visibility(consumer: Consumer) -> float:
    return consumer.visibility or math.inf
