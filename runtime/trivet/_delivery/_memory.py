"""The inbox in memory: who gets in, who is handed out, and an account of every event that came by.

Owns admission (who gets in when it is full), what is in flight, and the counters.
Never knows other inboxes, nor the supervisor that closes this one.

What changes more than one thing is protected against KeyboardInterrupt, which in a program that
embeds Trivet may come between any two steps; what is the author's is not.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from time import perf_counter
from typing import Any

import attrs
import structlog
import trio

from .._events._delivery import Delivery, utc_now
from .._events._delivery import delivery_of_task as current
from .._events._delivery_settings import DeliveryPolicy, OnFull
from .._events._event import Event
from .._events._fates import ENDED, Fate
from .._events._filters import Matches
from .._events._history import FIRST, History
from .._events._outcome import Refusal
from .._faults._advice import explained, where_and_why
from .._faults._containment import one_line
from .._faults._errors import HandlerTimeoutError
from .._inbox._inbox import Inbox, InboxStatistics
from ._queue import Queue
from ._repeats import Identity, Repeats, identity
from ._retries import next_wait

TURN, GLANCE, SECONDS = 192, 16, 0.001
"""How long one reader goes on before every other task has its turn: so many events, or so many
seconds, by a clock that is looked at once in a while, and that is the machine's in tests too."""

# To look an enum's member up by its name takes longer than to count an event.
QUEUED, IN_FLIGHT, HANDLED = Fate.QUEUED, Fate.IN_FLIGHT, Fate.HANDLED

OnRetry = Callable[[Delivery[Event], Exception, float], None]
"""Is told of an event, of what its handler raised, and of the most seconds until it is tried
again. It must neither wait nor raise."""


@attrs.define(eq=False)
class Admission:
    """A publisher's place before an inbox that has not decided yet."""

    delivery: Delivery[Event]
    has_room: bool = False
    """Whether it waits no more for room, but for the event to be stored."""
    fate: Fate | None = None
    """None while it waits."""
    _decided: trio.Event | None = None

    @property
    def is_waiting(self) -> bool:
        """Whether it stands in the queue before the inbox."""
        return self.fate is None and not self.has_room

    def decide(self, fate: Fate) -> None:
        """Tell the publisher."""
        self.fate = fate
        if self._decided is not None:
            self._decided.set()

    async def wait(self) -> None:
        """Wait for the decision; no checkpoint where it is there."""
        if self.fate is None:
            self._decided = trio.Event()
            await self._decided.wait()


class _Hand:
    """What a worker has in flight, until somebody asks: then it is noted, and the hand is empty."""

    __slots__ = ("delivery",)

    def __init__(self) -> None:
        self.delivery: Delivery[Event] | None = None


class MemoryInbox(Inbox[Any]):
    """See `Inbox`. One per plugin, for the life of the program.

    A publisher that has to wait for room does so in a queue of its own, and whoever takes an event
    out lets the first of them in. So an event is counted as accepted at the instant in which it
    enters.

    Args:
        plugin: the subscriber's name.
        policy: what was decided for it.
        in_batches: whether it takes events in batches.
    """

    def __init__(self, plugin: str, policy: DeliveryPolicy, *, in_batches: bool = False) -> None:
        self.policy = policy
        self._wants: Matches | None = None
        self._plugin = plugin
        self.buffer = math.inf if policy.buffer is None else policy.buffer
        self.buffer_bytes = policy.buffer_bytes
        self._bytes = 0
        """What the events from outside take that are inside."""
        self._bytes_waiting = 0
        """What the events from outside take that wait for room."""
        self._is_making_room = False
        """Whether room is made for one event, and is not for those that wait."""
        self._log: structlog.typing.FilteringBoundLogger = structlog.get_logger(plugin=plugin)
        self.on_retry: OnRetry | None = None
        """Told of each failure that another attempt follows."""
        # Of one batch at a time a key's events may be neighbours; of several, they must not.
        one_at_a_time = not in_batches or policy.concurrency > 1
        self._queue = Queue(policy, one_at_a_time=one_at_a_time)
        self.ready = self._queue.ready
        self._repeats = Repeats(policy.deduplicate_for)
        self._waiting: deque[Admission] = deque()
        self.idle: deque[trio.lowlevel.Task] = deque()
        """Readers that wait to be woken."""
        self._noted: dict[Delivery[Event], float] = {}
        self._hands: list[_Hand] = []
        self._kept: set[Delivery[Event]] = set()
        self._histories: dict[Delivery[Event], History] = {}
        self._counts: dict[Fate, int] = dict.fromkeys(Fate, 0)
        self._handled = 0
        """Those of the handled that `hand_to` has counted, for which this is quicker."""
        self.accepted = 0
        self._retried = 0
        self._timed_out = 0
        self._closed = False
        self.is_read = False
        """Whether the plugin has asked for an event in this lifetime."""
        # The others are timed, or wait for one another.
        self._may_be_plain = not policy.retry and policy.ordering_key is None
        self.is_plain = self._may_be_plain
        """Whether there is nothing to mind but the order, for events that are plain too."""

    # The publisher's side.

    @trio.lowlevel.enable_ki_protection
    def offer(self, delivery: Delivery[Event]) -> Fate | Refusal | Admission | None:
        """Take the event in if there is room for it.

        Returns:
            What has become of it; why it can never come in; the publisher's place, where it has to
            be stored first; or None where there is no room.
        """
        size = self._bytes + delivery.size
        if self.is_plain and len(self.ready) < self.buffer and size <= self.buffer_bytes:
            # As below, all in one: what most events come to.
            given = delivery.given_id
            if given is not None and not self._repeats.admits((delivery.source, given)):
                return self._repeated(delivery, (delivery.source, given))
            self.accepted += 1
            self._bytes = size
            self.ready.append(delivery)
            if delivery.receipt is not None:
                delivery.receipt.settle(self._plugin, QUEUED)
            if self.idle:
                self.wake()
            return QUEUED
        fate = self._screen(delivery)
        if fate is not None or self._waiting or not self._has_room(delivery):
            return fate
        return self._take_in(delivery)

    @property
    def wants(self) -> Matches | None:
        """Whether an event is to be delivered; all are where this is None."""
        return self._wants

    @wants.setter
    def wants(self, wants: Matches | None) -> None:
        """Set by the runtime, before the plugin starts."""
        self._wants = wants
        self._review()

    def _screen(self, delivery: Delivery[Event]) -> Fate | Refusal | Admission | None:
        """What becomes of an event that is not to come in, wherever there is room; None for one."""
        if self._closed:
            return self._refuse(delivery)
        if not self.is_wanted(delivery):
            return self._pass_by(delivery, Fate.FILTERED)
        known = self._known(delivery)
        if known is None and delivery.size > self.buffer_bytes:
            reason = f"about {delivery.size} bytes, and the inbox takes {self.buffer_bytes}"
            return self._turn_away(delivery, Refusal(reason, is_too_large=True))
        return known

    @property
    def room(self) -> float:
        """How many events more there is room for."""
        return 0 if self._waiting else self.buffer - self._taken

    @property
    def room_bytes(self) -> float:
        """How many bytes more there is room for."""
        return 0 if self._waiting else self.buffer_bytes - self._bytes

    def may_wait(self, delivery: Delivery[Event]) -> bool:
        """Whether an event may wait for room: those that do are bounded in memory as well."""
        return self._bytes_waiting + delivery.size <= self.buffer_bytes

    @trio.lowlevel.enable_ki_protection
    def queue_up(self, delivery: Delivery[Event]) -> Admission:
        """Wait for room behind the publishers that wait already."""
        admission = Admission(delivery)
        self._waiting.append(admission)
        self._bytes_waiting += delivery.size
        self._review()
        return admission

    @trio.lowlevel.enable_ki_protection
    def withdraw(self, admission: Admission) -> None:
        """Leave the queue before the inbox, if still in it; nothing is counted."""
        if admission.is_waiting and admission in self._waiting:
            self._waiting.remove(admission)
            self._bytes_waiting -= admission.delivery.size
            self._admit()  # There may have been no room for this one only.

    @trio.lowlevel.enable_ki_protection
    def overflow(self, delivery: Delivery[Event], policy: OnFull) -> Fate | Admission:
        """Decide about an event for which there is no room."""
        if (known := self._known(delivery)) is not None:
            return known  # Another publisher of the same event got in meanwhile.
        if policy == "reject":
            return self._refuse(delivery)
        if policy == "drop_oldest":
            self._make_room(delivery)
            fits = self._has_room(delivery)
            fate = self._take_in(delivery) if fits else self._refuse(delivery)
            self._admit()  # A large event that was dropped may have left more room than this needs.
            return fate
        return self._pass_by(delivery, Fate.DROPPED)

    def _make_room(self, delivery: Delivery[Event]) -> None:
        """Drop the oldest, as many as one event needs, and only for that one."""
        if not self._can_make_room(delivery):
            return  # Nothing is lost in vain.
        self._is_making_room = True
        try:
            while not self._has_room(delivery) and (oldest := self._queue.pop_oldest()) is not None:
                self._end(oldest, Fate.DROPPED)
                self._wake_all()  # For what had to wait for that one.
        finally:
            self._is_making_room = False

    def follows(self, delivery: Delivery[Event], other: Delivery[Event]) -> bool:
        """Whether an event would wait for one in flight, since both have one ordering key."""
        lane_of = self._queue.lane_of
        is_keyed = self.policy.ordering_key is not None and other in self._in_flight
        return is_keyed and lane_of(delivery) == lane_of(other)

    @trio.lowlevel.disable_ki_protection
    def is_wanted(self, delivery: Delivery[Event]) -> bool:
        """Whether an event is to be delivered."""
        if self._wants is None:
            return True
        try:
            return self._wants(delivery.event)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: ASYNC103 - it awaits nothing
            # A filter that is broken must not lose what it was not asked to lose.
            self._log.error("filter failed", **delivery.identity(), exc_info=explained(error))
            return True  # noqa: ASYNC104

    def _known(
        self, delivery: Delivery[Event], admission: Admission | None = None
    ) -> Fate | Admission | None:
        """What becomes of a repetition; None if it is none."""
        event = identity(delivery)
        if event is None or not self._repeats.knows(event):
            return None
        if admission is not None:
            admission.decide(Fate.DUPLICATE)
        return self._repeated(delivery, event)

    def _repeated(self, delivery: Delivery[Event], event: Identity) -> Fate:
        self.accepted += 1
        self._counts[Fate.DUPLICATE] += 1
        self._repeats.follow(delivery, event, self._plugin)
        return Fate.DUPLICATE

    @property
    def _taken(self) -> int:
        """How many events take room."""
        queue = self._queue
        return len(queue.ready) + queue.held + queue.backing_off

    def _can_make_room(self, delivery: Delivery[Event]) -> bool:
        """Whether there is room for an event once nothing waits: what is in flight stays."""
        in_flight = sum(each.size for each in self._in_flight)
        return in_flight + delivery.size <= self.buffer_bytes

    def _has_room(self, delivery: Delivery[Event]) -> bool:
        return self._taken < self.buffer and self._bytes + delivery.size <= self.buffer_bytes

    def _take_in(
        self, delivery: Delivery[Event], admission: Admission | None = None
    ) -> Fate | Admission:
        """Let an event in. A publisher that waited for room is told by his admission."""
        if (event := identity(delivery)) is not None:
            self._repeats.take_in(event)
        self.accepted += 1
        self._bytes += delivery.size
        self._queue.ready.append(delivery)
        if delivery.receipt is not None:
            delivery.receipt.settle(self._plugin, QUEUED)
        self.wake()
        if admission is not None:
            admission.decide(QUEUED)
        return QUEUED

    def _admit(self) -> None:
        """Let those who wait in, the first one first, as far as there is room."""
        while self._waiting and self._has_room(self._waiting[0].delivery):
            admission = self._first_waiting()
            if not self._known(admission.delivery, admission):
                self._take_in(admission.delivery, admission)
        self._review()

    def _first_waiting(self) -> Admission:
        """Take the first of those who wait out of their queue."""
        admission = self._waiting.popleft()
        self._bytes_waiting -= admission.delivery.size
        return admission

    def _pass_by(self, delivery: Delivery[Event], fate: Fate) -> Fate:
        """Accept an event and end it at once."""
        self.accepted += 1
        self._counts[fate] += 1
        delivery.settle(self._plugin, fate)
        return fate

    def _refuse(self, delivery: Delivery[Event]) -> Fate:
        self._counts[Fate.REJECTED] += 1
        delivery.settle(self._plugin, Fate.REJECTED)
        return Fate.REJECTED

    def _turn_away(self, delivery: Delivery[Event], why: Refusal) -> Refusal:
        """Refuse an event that can never come in, however much room there is."""
        self._counts[Fate.UNACCEPTABLE] += 1
        delivery.settle(self._plugin, Fate.UNACCEPTABLE)
        self._log.warning("event is unacceptable", **delivery.identity(), reason=str(why))
        return why

    # The plugin's side.

    async def receive(self) -> Delivery[Event]:
        """See `Inbox`."""
        await trio.lowlevel.checkpoint_if_cancelled()
        has_waited = False
        while True:
            try:
                delivery = self.receive_nowait()
            except trio.WouldBlock:
                await self._something_new()
                has_waited = True
            else:
                if not has_waited:
                    await trio.lowlevel.cancel_shielded_checkpoint()
                return delivery

    async def _something_new(self) -> None:
        until = self._next_return
        if until == math.inf:
            await self._doze()
        else:
            with trio.move_on_at(until):
                await self._doze()

    @trio.lowlevel.enable_ki_protection
    async def _doze(self) -> None:
        """Wait to be woken."""
        task = trio.lowlevel.current_task()

        def abort(_: object) -> trio.lowlevel.Abort:
            """Wait no more."""
            self.idle.remove(task)
            return trio.lowlevel.Abort.SUCCEEDED

        self.idle.append(task)
        await trio.lowlevel.wait_task_rescheduled(abort)

    @property
    def _next_return(self) -> float:
        """When there may be something although nobody has said so."""
        return self._queue.next_return

    def receive_nowait(self) -> Delivery[Event]:
        """See `Inbox`."""
        delivery = self.take()
        if delivery is not None:
            return delivery
        if self._closed and self._is_drained:
            raise trio.EndOfChannel
        raise trio.WouldBlock

    @trio.lowlevel.enable_ki_protection
    def take(self) -> Delivery[Event] | None:
        """See `Inbox`."""
        self.is_read = True
        while (delivery := self._next()) is not None:
            if delivery.deadline == math.inf or delivery.deadline > trio.current_time():
                self._hand_out(delivery)
                if self._waiting:
                    self._admit()
                return delivery
            self._queue.done(delivery)
            self._end(delivery, Fate.EXPIRED)
        self._refill()
        return None

    @trio.lowlevel.enable_ki_protection
    def take_some(self, at_most: int) -> list[Delivery[Event]]:
        """See `Inbox`."""
        self.is_read = True
        taken: list[Delivery[Event]] = []
        ready = self.ready
        while len(taken) < at_most:
            if self.is_plain and ready and ready[0].is_plain:
                # As `take`, all in one: what most events come to.
                taken.append(ready.popleft())
                self._noted[taken[-1]] = 0.0
            elif (delivery := self.take()) is not None:
                taken.append(delivery)
            else:
                break
        return taken

    def _next(self) -> Delivery[Event] | None:
        """The next one, be it one whose wait is over, or one that has waited for room until now."""
        if self.is_plain:
            return self.ready.popleft() if self.ready else None
        now = trio.current_time()
        delivery = self._queue.take(now)
        if delivery is None and self._waiting:
            self._admit()
            delivery = self._queue.take(now)
        return delivery

    @trio.lowlevel.enable_ki_protection
    async def hand_to(self, handle: Callable[[Any], Awaitable[None]]) -> None:
        """See `Inbox`: as `receive`, the handler and `accept`, all in one."""
        self.is_read = True
        handle = _interruptible(handle)
        ready, hand = self.ready, _Hand()
        self._hands.append(hand)
        try:
            while self.is_plain:
                if not ready:
                    current.set(None)
                    await self._doze()
                    continue
                if ready[0].deadline < math.inf:
                    return
                await self._turn(handle, hand)
                if ready:
                    await trio.lowlevel.checkpoint()
        finally:
            self._note(hand)
            self._hands.remove(hand)

    @trio.lowlevel.enable_ki_protection
    async def _turn(self, handle: Callable[[Any], Awaitable[None]], hand: _Hand) -> None:
        """Hand events on as long as everyone else can wait, and no deadline is to be watched."""
        ready, until, glance = self.ready, perf_counter() + SECONDS, GLANCE
        for count in range(TURN):
            if count == glance:
                glance += GLANCE
                if perf_counter() >= until:
                    break
            delivery = ready.popleft()
            hand.delivery = delivery
            if not (delivery.is_plain or self._may_be_handed_on(delivery)):
                break
            current.set(delivery)
            try:
                await handle(delivery.event)
            except Exception as error:
                self.reject(delivery, error)
            if hand.delivery is not delivery:  # Somebody has asked meanwhile what is in flight.
                if delivery not in self._kept:
                    self.accept(delivery)
            elif delivery.is_plain:
                self._handled += 1
            else:
                hand.delivery = None
                self._end(delivery, HANDLED)
            if not ready or not self.is_plain:
                break
        hand.delivery = None

    def _may_be_handed_on(self, delivery: Delivery[Event]) -> bool:
        """Whether an event that was taken out has no deadline; one that has is put back."""
        if delivery.deadline < math.inf:
            self.ready.appendleft(delivery)
            return False
        if delivery.receipt is not None:
            delivery.receipt.settle(self._plugin, IN_FLIGHT)
        return True

    @property
    def _in_flight(self) -> dict[Delivery[Event], float]:
        """What is with the plugin, and since when."""
        for hand in self._hands:
            self._note(hand)
        return self._noted

    def _note(self, hand: _Hand) -> None:
        if hand.delivery is not None:
            self._noted[hand.delivery] = 0.0
            hand.delivery = None

    def _refill(self) -> None:
        """Get more to hand out, if there is more somewhere."""

    @property
    def _is_drained(self) -> bool:
        """Whether nothing is left that a closed inbox would still hand out."""
        return self._queue.is_stuck

    @trio.lowlevel.enable_ki_protection
    def accept(self, delivery: Delivery[Event]) -> None:
        """See `Inbox`."""
        self._finish(delivery, HANDLED)

    @trio.lowlevel.enable_ki_protection
    def accept_all(self, deliveries: Iterable[Delivery[Event]]) -> None:
        """See `Inbox`."""
        noted = self._in_flight
        for delivery in deliveries:
            if delivery.is_plain and self.is_plain:
                # As below, all in one.
                if noted.pop(delivery, None) is not None:
                    self._handled += 1
            elif delivery not in self._kept:
                self.accept(delivery)

    @trio.lowlevel.enable_ki_protection
    def expire(self, delivery: Delivery[Event]) -> None:
        """See `Inbox`."""
        self._finish(delivery, Fate.EXPIRED)

    def reject(self, delivery: Delivery[Event], error: Exception) -> None:
        """See `Inbox`."""
        self.reject_all([delivery], error)

    @trio.lowlevel.enable_ki_protection
    def reject_all(self, deliveries: Iterable[Delivery[Event]], error: Exception) -> None:
        """See `Inbox`."""
        again = [
            (delivery, wait)
            for delivery in deliveries
            if (wait := self._reject(delivery, error)) is not None
        ]
        if not again:
            return
        (first, _), longest = again[0], max(wait for _, wait in again)
        what, facts = "event failed, and is tried again", first.identity()
        if len(again) > 1:
            what = "events failed, and are tried again"
            facts = {"count": len(again), "first": first.id}
        self._log.warning(
            what,
            **facts,
            error=one_line(error),
            **where_and_why(error),
            attempt=first.attempt,
            retry_in=None if longest == math.inf else round(longest, 3),
        )

    def _reject(self, delivery: Delivery[Event], error: Exception) -> float | None:
        """Says how long it waits to be tried again; infinity is until the next start."""
        since = self._in_flight.get(delivery)
        if since is None:
            return None
        now = trio.current_time()
        self._timed_out += isinstance(error, HandlerTimeoutError)
        history = self._histories.get(delivery, FIRST).failed(
            one_line(error), at=utc_now().timestamp(), took=now - since
        )
        wait = next_wait(self.policy, history, error)
        if wait is not None and now + wait >= delivery.deadline:
            self._log.error("event expires before its next attempt", **delivery.identity())
            self._finish(delivery, Fate.EXPIRED)
        elif wait is None and not self._spares(history):
            self._log.error("event failed", **delivery.identity(), exc_info=explained(error))
            self._finish(delivery, self._give_up(delivery, history))
        else:
            if self.on_retry is not None and wait is not None:
                longest = next_wait(self.policy, history, error, draw=lambda least, most: most)
                self.on_retry(delivery, error, wait if longest is None else longest)
            self._back_off(delivery, history, wait)
            return math.inf if wait is None else wait
        return None

    def _back_off(self, delivery: Delivery[Event], history: History, wait: float | None) -> None:
        """Try it again after a wait; None is after the next start."""
        self._retried += 1
        until = math.inf if wait is None else trio.current_time() + wait
        again = self._again(delivery, history.waited(wait or 0.0), wait=wait or 0.0)
        self._queue.back_off(again, until)
        again.settle(self._plugin, Fate.BACKING_OFF)
        self._wake_all()  # One that knows when to look may leave before that.

    @trio.lowlevel.enable_ki_protection
    def keep(self, delivery: Delivery[Event]) -> None:
        """See `Inbox`."""
        if delivery in self._in_flight:
            self._kept.add(delivery)
            self._review()

    def is_kept(self, delivery: Delivery[Event]) -> bool:
        """See `Inbox`."""
        return delivery in self._kept

    def statistics(self) -> InboxStatistics:
        """See `Inbox`."""
        counts = {**self._counts, HANDLED: self._counts[HANDLED] + self._handled}
        return InboxStatistics(
            accepted=self.accepted,
            queued=self._queue.waiting,
            in_flight=len(self._in_flight),
            backing_off=self._queue.backing_off,
            bytes=self._bytes,
            rejected=counts[Fate.REJECTED],
            unacceptable=counts[Fate.UNACCEPTABLE],
            retried=self._retried,
            timed_out=self._timed_out,
            **{fate.value: counts[fate] for fate in ENDED},
        )

    def _hand_out(self, delivery: Delivery[Event]) -> None:
        """Give an event to the plugin."""
        # How long attempts take is asked for only where there may be several.
        self._in_flight[delivery] = trio.current_time() if self.policy.retry else 0.0
        if delivery.receipt is not None:
            delivery.receipt.settle(self._plugin, IN_FLIGHT)

    def _take_back(self, delivery: Delivery[Event]) -> None:
        """The event is no more with the plugin."""
        del self._in_flight[delivery]
        if self._kept:
            self._let_slip(delivery)

    def _let_slip(self, delivery: Delivery[Event]) -> None:
        self._kept.discard(delivery)
        self._review()

    def _finish(self, delivery: Delivery[Event], fate: Fate) -> None:
        """End an event that is in flight."""
        if self._in_flight.pop(delivery, None) is None:
            return
        if self._kept:
            self._let_slip(delivery)
        self._queue.done(delivery)
        self._end(delivery, fate)
        if self.idle:
            self._let_go()

    def _again(
        self, delivery: Delivery[Event], history: History, *, wait: float = 0.0
    ) -> Delivery[Event]:
        """The next attempt at an event that is in flight, which is to be made after a wait."""
        self._take_back(delivery)
        self._histories.pop(delivery, None)
        again = delivery.again()
        self._histories[again] = history
        return again

    def _spares(self, history: History) -> bool:
        """Whether an event is not given up although there is no attempt left."""
        return False

    def _give_up(self, delivery: Delivery[Event], history: History) -> Fate:
        """What is to become of an event that cannot be handled."""
        return Fate.FAILED

    def _end(self, delivery: Delivery[Event], fate: Fate) -> None:
        self._counts[fate] += 1
        self._bytes -= delivery.size
        if self._histories:
            self._histories.pop(delivery, None)
        event = identity(delivery)
        if event is not None and self._repeats.ended(event, fate, self._plugin):
            self._forget(event)
        if delivery.receipt is not None:
            delivery.receipt.settle(self._plugin, fate)
        if delivery.size:
            self._bytes_freed()

    def _bytes_freed(self) -> None:
        """There may be room now for an event that waits for bytes."""
        if self._waiting and not self._is_making_room:
            self._admit()

    def _forget(self, event: Identity) -> None:
        """The event may come again."""

    @trio.lowlevel.enable_ki_protection
    def wake(self) -> None:
        """One reader has something to look at."""
        if self.idle:
            trio.lowlevel.reschedule(self.idle.popleft())

    @trio.lowlevel.enable_ki_protection
    def _wake_all(self) -> None:
        """Every reader has something to look at."""
        while self.idle:
            self.wake()

    def _let_go(self) -> None:
        """What waited for an event that has ended may be taken now; or nothing is left at all."""
        if self._closed:
            self._wake_all()
        elif self.policy.ordering_key is not None:
            self.wake()

    # The supervisor's side.

    @trio.lowlevel.enable_ki_protection
    def close(self) -> None:
        """Let nothing more in. What is inside can still be read; then iteration ends.

        What waits to be tried again is not waited for.
        """
        self._closed = True
        self._review()
        self._wake_all()
        while self._waiting:
            admission = self._first_waiting()
            admission.decide(self._refuse(admission.delivery))

    @trio.lowlevel.enable_ki_protection
    def lifetime_ended(self, *, crashed: bool) -> None:
        """Take back what the plugin had in flight when its lifetime ended, for the next one.

        Args:
            crashed: whether that may have been the fault of these events. Those that have been
                in flight at as many crashes as the delivery limit allows are given up then.
        """
        self.is_read = False
        returned = [
            again
            for delivery in list(self._in_flight)
            if (again := self._returned(delivery, crashed=crashed)) is not None
        ]
        self._queue.put_back(returned)
        for delivery in returned:
            delivery.settle(self._plugin, Fate.QUEUED)

    def _returned(self, delivery: Delivery[Event], *, crashed: bool) -> Delivery[Event] | None:
        if not crashed:
            self._take_back(delivery)
            return delivery  # Unblamed.
        history = self._histories.get(delivery, FIRST).crashed()
        if history.crashes < self.policy.delivery_limit:
            return self._again(delivery, history)
        self._log.error(
            "event failed: run() crashed too often with it in flight",
            **delivery.identity(),
            crashes=history.crashes,
        )
        self._finish(delivery, self._give_up(delivery, history))
        return None

    @trio.lowlevel.enable_ki_protection
    def abandon(self) -> None:
        """Close, and end everything that is still inside: nobody will read it any more."""
        self.close()
        abandoned = [*self._in_flight, *self._queue.clear()]
        self._in_flight.clear()
        self._kept.clear()
        self._review()
        for delivery in abandoned:
            self._end(delivery, Fate.ABANDONED)
        if abandoned:
            self._log.error("events abandoned", count=len(abandoned), first=abandoned[0].id)

    @trio.lowlevel.enable_ki_protection
    def reopen(self) -> None:
        """Let events in again, after it was abandoned."""
        self._closed = False
        self._review()

    def _review(self) -> None:
        """See whether it is plain, after a change of what that depends on."""
        self.is_plain = self._may_be_plain and not (
            self._closed or self._wants or self._waiting or self._kept
        )


def _interruptible(handle: Callable[[Any], Awaitable[None]]) -> Callable[[Any], Awaitable[None]]:
    """The author's handler, which Ctrl-C ends although whoever calls it is protected."""
    if hasattr(handle, "__code__"):
        trio.lowlevel.disable_ki_protection(handle)
        return handle

    @trio.lowlevel.disable_ki_protection
    async def handle_it(event: Any) -> None:
        await handle(event)

    return handle_it
