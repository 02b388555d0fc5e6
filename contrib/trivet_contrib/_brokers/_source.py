"""What the sources of all brokers share: from a message to what became of its event, and back.

Owns the promise: a message is acknowledged when every subscriber has ended its event, or has it on
its disk; until then the broker has it, and how many are in hand is bounded.
Never knows any broker: that is what a `Consumer` is for.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager

import attrs
import trio
from attrs.validators import ge, gt

from trivet import (
    Event,
    Fate,
    Outcome,
    PluginStatusEvent,
    SourcePlugin,
    SupervisionSettings,
    WrongSettingError,
)

from ._client import AwayError, Consumer, Received
from ._ledger import InHand, Ledger
from ._messages import Reader, UnreadableError
from ._reconnecting import Backoff, Link

GIVE_BACK = 2.0
"""Seconds for telling the broker, at a stop, what is done and what is not. Who cannot be told takes
it over later."""
FEW = 32
"""Messages in hand, up to which more are fetched as soon as there is room for one. With more than
that nobody waits for the next, and to ask the broker for many at once costs hardly more."""
WAIT_FOR_BYTES = 1.0
"""Seconds for which an event waits here for room in memory; then each inbox has its policy."""
BYTES_IN_HAND = 64 * 1024 * 1024
"""Bytes of memory for the messages in hand and their events. How large the next messages are nobody
knows before they come: they are taken to be as large as those that have come lately."""
LOOK_AGAIN = 0.05
"""Seconds after which it is looked again whether there is room, where others fill the inboxes."""
BLOCKED = 60.0
"""Seconds without room for a single message, nor an event that ends, after which it is said."""


def is_another(other: str) -> Callable[[object, attrs.Attribute[str], str], None]:
    """Refuse a place for dead letters that is where they come from: they would die for ever."""

    def check(plugin: object, _field: attrs.Attribute[str], value: str) -> None:
        if value and value == getattr(plugin, other):
            raise ValueError(
                f"it is the source's own `{other}`: what is put there would come again"
            )

    return check


class BrokerSource(SourcePlugin):
    """Fetches messages, publishes them as events, and acknowledges those that are done.

    A connector derives from it, and says how to connect.
    """

    supervision = SupervisionSettings(critical=True)  # While its broker is away it is not ready.

    event: type[Event] | None = None
    """The type that messages are published as. Without it they are CloudEvents that say it."""
    prefetch: int = attrs.field(default=256, validator=ge(1))
    """Messages in hand, at most."""
    delivery_limit: int = attrs.field(default=5, validator=ge(1))
    """How often a message is delivered before it is put to the dead letters."""
    drain: float = attrs.field(default=3.0, validator=ge(0))
    """Seconds to wait at a stop for what is in hand; what is not done then goes back."""
    reconnect_max: float = attrs.field(default=15.0, validator=gt(0))
    """Seconds between two attempts to connect, at most."""

    _ledger: Ledger
    _types: set[type[Event]]
    """Those that have come, or are going to."""
    _reader: Reader
    _link: Link[Consumer]
    _largest: int
    """Bytes of the largest message that has come lately."""

    @abstractmethod
    def connect(self) -> AbstractAsyncContextManager[Consumer]:
        """Connect, and check what the settings ask for.

        Raises:
            AwayError: the broker does not answer.
            RefusedError: it does, and a setting is wrong.
        """

    @property
    @abstractmethod
    def origin(self) -> str:
        """The source of events whose message does not say it."""

    async def initialize(self) -> None:
        """Find wrong settings. A broker that is away may come later than this."""
        self._ledger = Ledger(self.app.durable, self.delivery_limit, self._mourn)
        self._types = set()
        self._largest = 1
        self._reader = Reader(self.app.events, self.event, self.app.buffer_bytes)
        if self.event is not None:
            self._types.add(self.event)
            name = self.event.__event_name__
            if self.event is PluginStatusEvent:
                raise WrongSettingError("event", f"{name!r} does not come from outside")
            if not self.app.listens(self.event):
                raise WrongSettingError("event", f"no active plugin listens to {name!r}")
        self._link = Link[Consumer](self, self.connect, at_most=self.reconnect_max)
        await self._link.check()

    async def run(self) -> None:
        """Fetch and publish, tell the broker what is done, and what is still in hand."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._link.run)
            nursery.start_soon(self._tell)
            nursery.start_soon(self._extend)
            await self._fetch()

    async def close(self) -> None:
        """Wait a little for what is in hand, and give the rest back."""
        ledger = self._ledger
        with trio.move_on_after(self.drain):
            while len(ledger.in_hand) > len(ledger.again):
                await ledger.wait_for_fewer()
        reason = f"no answer within {GIVE_BACK:g} s"
        with trio.move_on_after(GIVE_BACK):
            try:
                async with self.connect() as consumer:
                    await self._take_leave(consumer)
                    return
            except AwayError as error:
                reason = str(error)
        left = len(ledger.in_hand) + len(ledger.done) + len(ledger.failed) + len(ledger.dead)
        if not left:
            return
        self.log.warning("messages could not be given back", count=left, reason=reason)

    async def _take_leave(self, consumer: Consumer) -> None:
        try:
            await self._tell_all(consumer)
        except AwayError as error:  # Where it is the dead letters, the rest goes back all the same.
            await consumer.leave()
            self.log.warning("not all was told, and comes again", reason=str(error))
        else:
            await consumer.leave()

    # From the broker to the subscribers.

    async def _fetch(self) -> None:
        ledger, backoff = self._ledger, Backoff(1.0)
        while True:
            count = await self._wait_for_room()
            if ledger.again:
                taken = [ledger.again.popleft() for _ in range(min(count, len(ledger.again)))]
                if not await self._publish(taken):
                    await backoff.wait()
                continue
            backoff.reset()
            messages = await self._link.call(lambda consumer: consumer.fetch(count))  # noqa: B023
            taken = list[InHand]()
            with trio.CancelScope(shield=True):  # What is in the ledger is to be published.
                taken = await self._take(messages)
            if taken:
                await self._publish(taken)

    async def _wait_for_room(self) -> int:
        """How many messages there is room for, here and at every subscriber."""
        ledger, is_blocked = self._ledger, False
        until, ended = trio.current_time() + BLOCKED, self._ledger.ended
        while True:
            free = len(ledger.again) or self.prefetch - len(ledger.in_hand) - len(ledger.dead)
            if ledger.in_hand and not ledger.again:
                free = min(free, (BYTES_IN_HAND - ledger.bytes) // self._largest)
            room = min([free, *map(self.app.room, self._types)])
            few = 0 if ledger.again else (len(ledger.in_hand) - FEW) // 2
            if room >= max(1, few):
                if is_blocked:
                    self.recover()
                return int(room)
            with trio.move_on_after(LOOK_AGAIN):
                await ledger.wait_for_fewer()
            if ledger.ended != ended:
                until, ended = trio.current_time() + BLOCKED, ledger.ended
            elif not is_blocked and trio.current_time() >= until:
                is_blocked = True
                self.degrade(self._why_blocked(free))

    def _why_blocked(self, free: int) -> str:
        full = sorted(each.__event_name__ for each in self._types if self.app.room(each) < 1)
        if free < 1 or not full:
            return f"none of the {len(self._ledger.in_hand)} messages in hand ends"
        return f"nobody has room for {', '.join(full)}, and nothing ends"

    async def _take(self, messages: Sequence[Received]) -> list[InHand]:
        """Those that can be read, and are not in hand already."""
        ledger, now, origin = self._ledger, trio.current_time(), self.origin
        taken: list[InHand] = []
        for message in messages:
            if message.tag in ledger.in_hand:
                continue
            if message.deliveries > self.delivery_limit:  # It may be what kills its readers.
                ledger.bury(message, f"delivered {message.deliveries - 1} times, and never done")
                continue
            try:
                delivery = await self._reader.read(message, origin)
            except UnreadableError as error:
                ledger.bury(message, str(error))
                continue
            if not self.app.listens(type(delivery.event)):
                name = delivery.event.__event_name__
                ledger.bury(message, f"no active plugin listens to {name!r}")
                continue
            self._types.add(type(delivery.event))
            taken.append(ledger.add(message, delivery, now))
        self._largest = max([self._largest // 2, 1, *(record.size for record in taken)])
        return taken

    async def _publish(self, records: Sequence[InHand]) -> bool:
        """Publish; says whether all of them have come in somewhere, or have ended."""
        outcomes, left = list[Outcome](), deque(records)
        try:
            while left:
                together = await self._that_fit(left)
                new = await self.app.publish_many([record.delivery for record in together])
                for record, outcome in zip(together, new, strict=True):
                    record.published(outcome.refusals)
                outcomes += new
        except trio.Cancelled:
            self._ledger.again.extend(left)  # Nobody has them, and the stop need not wait for them.
            raise
        if not self._ledger.again:
            self.recover()
            return True
        refused: set[str] = set()
        for outcome in outcomes:
            if outcome.unrouted:
                refused.add(f"nobody listens to {outcome.event}")
            fates = outcome.fates.items()
            refused |= {f"{name} refuses events" for name, fate in fates if fate is Fate.REJECTED}
        self.degrade("; ".join(sorted(refused)) or "events were refused")
        return False

    async def _that_fit(self, records: deque[InHand]) -> list[InHand]:
        """Take out the first of them, for which the inboxes have the memory; one in any case."""
        with trio.move_on_after(WAIT_FOR_BYTES):
            while records[0].delivery.size > self._room_bytes:
                with trio.move_on_after(LOOK_AGAIN):
                    await self._ledger.wait_for_fewer()
        room = self._room_bytes
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

    def _mourn(self, message: Received, reason: str) -> None:
        self.log.error("message put to the dead letters", message_id=message.tag, reason=reason)

    async def _tell(self) -> None:
        while True:
            await self._ledger.wait_for_news()
            await trio.lowlevel.checkpoint()  # What ends with it is told with it.
            await self._link.call(self._tell_all)

    async def _tell_all(self, consumer: Consumer) -> None:
        """Tell the broker; what it may not have heard is told again."""
        ledger = self._ledger
        if done := list(ledger.done):
            missing = await consumer.acknowledge(done)
            ledger.forget(done=done)
            if missing:  # Perhaps with somebody else meanwhile, and handled twice.
                self.log.warning("messages were no longer in hand when done", count=missing)
        if failed := list(ledger.failed):
            lost = await consumer.retry(failed)
            ledger.forget(failed=failed)
            for message, reason in lost:
                ledger.bury(message, f"it has failed, and {reason}")
        if dead := list(ledger.dead):
            await consumer.bury(dead)
            ledger.forget(dead=dead)

    async def _extend(self) -> None:
        """Keep from others what takes long here."""
        while True:
            visibility = await self._link.call(_visibility)
            await trio.sleep(min(visibility / 4, 3600))
            now = trio.current_time()
            held = [
                record
                for record in self._ledger.in_hand.values()
                # What was not seen for longer may be in hand elsewhere by now.
                if visibility / 4 <= now - record.seen + 0.001 and now - record.seen < visibility
            ]
            if held:
                messages = [record.message for record in held]
                await self._link.call(lambda consumer: consumer.extend(messages))  # noqa: B023
                for record in held:
                    record.seen = now


async def _visibility(consumer: Consumer) -> float:
    return consumer.visibility or math.inf
