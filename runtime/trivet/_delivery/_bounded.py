"""The inbox: it hands events out, takes them back, and ends each of them once.

Owns the way of an event from its place in the queue to the plugin, and what a stop does to it.
Never knows other inboxes, the supervisor that closes this one, nor where its events are besides.

What changes more than one thing is protected against KeyboardInterrupt, which in a program that
embeds Trivet may come between any two steps; what is the author's is not.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import structlog
import trio

from .._events._delivery import Delivery
from .._events._delivery_settings import DeliveryPolicy
from .._events._event import Event
from .._events._fates import Fate
from .._faults._advice import where_and_why
from .._faults._containment import one_line
from .._inbox._counts import Counts, InboxStatistics
from .._inbox._fast_path import FastPath
from .._inbox._gate import Gate
from .._inbox._inbox import Inbox
from .._inbox._readers import Readers
from .._log._failures import Failures
from ._admission import Admission
from ._attempts import Attempts, OnRetry
from ._backing import MakeBacking, Parts
from ._endings import Endings, Watch
from ._in_flight import InFlight
from ._in_memory import InMemory
from ._looks import Inside, look_into
from ._memory import Memory
from ._queue import Queue
from ._repeats import Repeats

# To look an enum's member up by its name takes longer than to count an event.
IN_FLIGHT = Fate.IN_FLIGHT

KEYED = "events wait for one another"


class BoundedInbox(Inbox[Any]):
    """See `Inbox`. One per plugin, for the life of the program.

    Its sides are apart: publishers use `admission`, the plugin the methods of `Inbox`, the
    supervisor those at the end.

    Args:
        plugin: the subscriber's name.
        policy: what was decided for it.
        backing: makes the place of its events besides memory; there is none by default.
        in_batches: whether it takes events in batches.
        memory: the memory that it shares with the program's other inboxes.
        failures: the failures of the program, which are logged once a kind.
    """

    def __init__(
        self,
        plugin: str,
        policy: DeliveryPolicy,
        *,
        backing: MakeBacking = InMemory,
        in_batches: bool = False,
        memory: Memory | None = None,
        failures: Failures | None = None,
    ) -> None:
        self.policy: DeliveryPolicy = policy
        memory = memory or Memory()
        self._plugin = plugin
        self._log: structlog.typing.FilteringBoundLogger = structlog.get_logger(plugin=plugin)
        self.on_retry: OnRetry | None = None
        """Told of each failure that another attempt follows."""
        self.is_read: bool = False
        """Whether the plugin has asked for an event in this lifetime."""
        # Of one batch at a time a key's events may be neighbours; of several, they must not.
        self._queue = Queue(policy, one_at_a_time=not in_batches or policy.concurrency > 1)
        self._repeats = Repeats(policy.deduplicate_for)
        self._counts = Counts()
        self._readers = Readers()
        self.fast_path: FastPath = FastPath(
            plugin,
            ready=self._queue.ready,
            readers=self._readers,
            counts=self._counts,
            buffer=policy.buffer,
            is_timed=policy.retry or policy.time_limit < math.inf,
            mark=self._repeats.mark,
            stay=self._stay,
        )
        path = self.fast_path
        self.gate: Gate = Gate(path)
        """See `Gate`; an operator shuts it."""
        self._in_flight = InFlight(path)
        self._parts = parts = Parts(
            plugin,
            policy,
            self._queue,
            self._in_flight,
            self._counts,
            memory,
            self._repeats,
            self._readers,
            self._log,
            failures or Failures(),
            self._room_made,
        )
        self._backing = backing(parts)
        path.mind("events are stored", self._backing.outlives)
        path.mind(KEYED, policy.ordering_key is not None)
        self._endings = Endings(parts, path, self._backing, self._is_closed)
        path.finish = self._endings.finish_quickly
        self._attempts = Attempts(parts, path, self._backing, self._endings, self._is_closed)
        self.admission: Admission = Admission(parts, path, self._backing, self._endings.drop)

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
        """Wait to be woken, or for the end of the next back-off."""
        until = math.inf if self._is_held else self._queue.next_return
        self._endings.tell_idle()
        if until == math.inf:
            await self._readers.park()
        else:
            with trio.move_on_at(until):
                await self._readers.park()

    def receive_nowait(self) -> Delivery[Event]:
        """See `Inbox`."""
        delivery = self.take()
        if delivery is not None:
            return delivery
        raise trio.EndOfChannel if self._is_over else trio.WouldBlock

    def _is_closed(self) -> bool:
        """Whether nothing more comes in."""
        return self.admission.is_closed

    @property
    def _is_over(self) -> bool:
        """Whether nothing more is handed out before the plugin's next lifetime."""
        if self.gate.is_held:
            return False
        if self.gate.is_shut:
            return self.gate.is_retired or self.admission.is_closed
        is_closed = self.admission.is_closed
        return is_closed and self._queue.is_stuck and not self._backing.has_more

    @property
    def _is_held(self) -> bool:
        """Whether nothing may be handed out now, whatever there is."""
        return self.gate.is_shut or self._backing.is_paused

    @trio.lowlevel.enable_ki_protection
    def take(self) -> Delivery[Event] | None:
        """See `Inbox`."""
        self.is_read = True
        is_careful = not self.fast_path.is_open
        if is_careful and self._is_held:
            return None
        # How long attempts take is asked for only where there may be several.
        now = trio.current_time() if is_careful or self.policy.retry else 0.0
        while (delivery := self._next(now)) is not None:
            if delivery.deadline == math.inf or delivery.deadline > trio.current_time():
                self._hand_out(delivery, now)
                break
            self._queue.done(delivery)
            self._endings.end(delivery, Fate.EXPIRED)
        if not self.fast_path.is_open:
            self._mind_rest(is_empty=delivery is None)
        return delivery

    @trio.lowlevel.enable_ki_protection
    def take_some(self, at_most: int) -> list[Delivery[Event]]:
        """See `Inbox`."""
        self.is_read = True
        if not self.fast_path.is_open and self._is_held:
            return []
        # As `take`, each step for all of them.
        now = trio.current_time()
        taken = self._queue.take_some(now, at_most)
        if late := [delivery for delivery in taken if delivery.deadline <= now]:
            taken = [delivery for delivery in taken if delivery.deadline > now]
            for each in late:
                self._endings.end(each, Fate.EXPIRED)
        if taken:
            self._hand_out_together(taken, now)
        while len(taken) < at_most and (delivery := self.take()) is not None:
            taken.append(delivery)
        return taken

    def _next(self, now: float) -> Delivery[Event] | None:
        """The next one, be it one whose wait is over, or one that has waited for room until now."""
        path = self.fast_path
        if path.is_open:
            return path.ready.popleft() if path.ready else None
        delivery = self._queue.take(now)
        if delivery is None and self.admission.is_awaited:
            self.admission.admit()
            delivery = self._queue.take(now)
        return delivery

    def _hand_out(self, delivery: Delivery[Event], now: float) -> None:
        """Give an event to the plugin."""
        self._in_flight.add(delivery, now)
        if not self.fast_path.is_open:
            self._backing.handed_out(delivery)
        if delivery.receipt is not None:
            delivery.receipt.settle(self._plugin, IN_FLIGHT)
        if self.admission.is_awaited:
            self.admission.admit()

    def _hand_out_together(self, deliveries: Sequence[Delivery[Event]], now: float) -> None:
        """Give events to the plugin, each step for all of them."""
        self._in_flight.add_all(deliveries, now)
        if not self.fast_path.is_open:
            self._backing.handed_out_together(deliveries)
            self._mind_rest(is_empty=False)
        for delivery in deliveries:
            if delivery.receipt is not None:
                delivery.receipt.settle(self._plugin, IN_FLIGHT)
        if self.admission.is_awaited:
            self.admission.admit()

    def _mind_rest(self, *, is_empty: bool) -> None:
        """See to what is left in the queue after events were taken out."""
        if is_empty or self._queue.has_missing:
            self._backing.refill()
        if self._attempts.has_backed_off:
            self._attempts.mind_back_offs()

    def _stay(self, delivery: Delivery[Event], since: float) -> None:
        """Have an event in flight that its worker has left."""
        self._in_flight.add(delivery, since)

    @trio.lowlevel.enable_ki_protection
    def accept(self, delivery: Delivery[Event]) -> None:
        """See `Inbox`."""
        self._endings.finish(delivery, Fate.HANDLED)

    @trio.lowlevel.enable_ki_protection
    def accept_all(self, deliveries: Iterable[Delivery[Event]]) -> None:
        """See `Inbox`."""
        self._endings.finish_handled(deliveries)

    @trio.lowlevel.enable_ki_protection
    def expire(self, delivery: Delivery[Event]) -> None:
        """See `Inbox`."""
        self._endings.finish(delivery, Fate.EXPIRED)

    def reject(self, delivery: Delivery[Event], error: Exception) -> None:
        """See `Inbox`."""
        self.reject_all([delivery], error)

    @trio.lowlevel.enable_ki_protection
    def reject_all(self, deliveries: Iterable[Delivery[Event]], error: Exception) -> None:
        """See `Inbox`."""
        retried = [
            (delivery, wait)
            for delivery in deliveries
            if (wait := self._attempts.failed(delivery, error, self.on_retry)) is not None
        ]
        if not retried:
            return
        (first, _), longest = retried[0], max(wait for _, wait in retried)
        what, facts = "event failed, and is tried again", first.identity()
        if len(retried) > 1:
            what = "events failed, and are tried again"
            facts = {"count": len(retried), "first": first.id}
        retry_in = None if longest == math.inf else round(longest, 3)
        self._parts.failures.log(
            self._log.warning,
            what,
            error,
            {**facts, "attempt": first.attempt, "retry_in": retry_in},
            plugin=self._plugin,
            event=first.event.__event_name__,
            whole={"error": one_line(error), **where_and_why(error)},
        )

    @trio.lowlevel.enable_ki_protection
    def keep(self, delivery: Delivery[Event]) -> None:
        """See `Inbox`."""
        self._in_flight.keep(delivery)

    def is_kept(self, delivery: Delivery[Event]) -> bool:
        """See `Inbox`."""
        return self._in_flight.is_kept(delivery)

    def statistics(self) -> InboxStatistics:
        """See `Inbox`."""
        return self._counts.statistics(
            queued=self._queue.waiting + self._backing.beyond,
            in_flight=len(self._in_flight),
            backing_off=self._queue.backing_off,
        )

    @property
    def oldest(self) -> float | None:
        """The moment at which the oldest event in memory was published, in seconds since 1970.

        The oldest among those in flight, those that have failed, and the first in the queue, whose
        order is nearly that of publishing. None if there is none.
        """
        moments = [each.published for each in (*self._in_flight, *self._in_flight.histories)]
        if self._queue.ready:
            moments.append(self._queue.ready[0].published)
        return min(moments, default=None)

    def look(self, at_most: int) -> list[Inside]:
        """The oldest events in memory, the oldest first; see `look_into`."""
        return look_into(self._parts, at_most)

    @property
    def on_disk(self) -> int:
        """The queued events that are not in memory."""
        return self._backing.beyond

    def watched(self, watch: Watch) -> AbstractContextManager[None]:
        """Tell what becomes of each event, at the end of each attempt, within this block."""
        return self._endings.watched(watch)

    def follows(self, delivery: Delivery[Event], other: Delivery[Event]) -> bool:
        """Whether an event would wait for one in flight, since both have one ordering key."""
        lane_of = self._queue.lane_of
        is_keyed = self.policy.ordering_key is not None and other in self._in_flight
        return is_keyed and lane_of(delivery) == lane_of(other)

    def _room_made(self) -> None:
        """Let in the events that wait for room."""
        if self.admission.is_awaited:
            self.admission.admit()

    # The supervisor's side.

    @trio.lowlevel.enable_ki_protection
    def close(self) -> None:
        """Let nothing more in. What is inside can still be read; then iteration ends.

        Events that back off are not waited for. A pause holds those back that outlive the program.
        """
        if not self._backing.outlives:
            self.gate.drain()
        self._readers.wake_all()
        self.admission.close()

    @trio.lowlevel.enable_ki_protection
    def retire(self) -> None:
        """Let the plugin finish its events, without those that outlive the program: these wait."""
        if self._backing.outlives:
            self.gate.retire()
        else:
            self.close()

    @trio.lowlevel.enable_ki_protection
    def withdraw(self) -> None:
        """See `retire`, for good: what waits is for another inbox, perhaps with other types."""
        if self._backing.outlives:
            self._backing.read_no_more()
            self.gate.retire()

    @trio.lowlevel.enable_ki_protection
    def lifetime_ended(self, *, crashed: bool) -> None:
        """Take back what the plugin had in flight when its lifetime ended, for the next one.

        Args:
            crashed: whether that may have been the fault of these events. Those that have been
                in flight at as many crashes as the delivery limit allows are given up then.
        """
        self.is_read = False
        returned = [
            retry
            for delivery in list(self._in_flight)
            if (retry := self._returned(delivery, crashed=crashed)) is not None
        ]
        self._queue.put_back(returned)
        for delivery in returned:
            delivery.settle(self._plugin, Fate.QUEUED)
        self._endings.tell_idle()

    def _returned(self, delivery: Delivery[Event], *, crashed: bool) -> Delivery[Event] | None:
        """The event that is to be queued again; None if it was given up."""
        if not crashed:
            self._in_flight.release(delivery)
            self._backing.returned(delivery)
            return delivery
        return self._attempts.crashed(delivery)

    @trio.lowlevel.enable_ki_protection
    def abandon(self) -> None:
        """End everything that is inside, since nobody will read it any more, and close.

        Events that outlive the program stay for its next start, unblamed. Where the plugin was
        given up, and the program goes on, they go on coming in, for when an operator restarts it.
        """
        if not self.admission.is_closed and self._backing.plugin_given_up():
            return
        self.close()
        stays = self._backing.leave()
        remaining = [*self._in_flight.clear(), *self._queue.clear()]
        for delivery in remaining:
            if stays:
                delivery.settle(self._plugin, Fate.QUEUED)
            else:
                self._endings.end(delivery, Fate.ABANDONED)
        if remaining and not stays:
            self._log.error("events abandoned", count=len(remaining), first=remaining[0].id)

    # A reload's side.

    async def idle(self) -> None:
        """Wait until nothing is in flight, while the gate is held."""
        await self._endings.idle()

    @property
    def is_idle(self) -> bool:
        """Whether nothing is in flight."""
        return not len(self._in_flight)

    @trio.lowlevel.enable_ki_protection
    def heed(self, policy: DeliveryPolicy, *, in_batches: bool) -> None:
        """Take over another policy, while nothing is in flight."""
        self.policy = self._parts.policy = policy
        self._queue.rearrange(policy, one_at_a_time=not in_batches or policy.concurrency > 1)
        self._repeats.heed(policy.deduplicate_for)
        path = self.fast_path
        is_timed = policy.retry or policy.time_limit < math.inf
        path.heed(policy.buffer, is_timed=is_timed, mark=self._repeats.mark)
        path.mind(KEYED, policy.ordering_key is not None)
        self._attempts.mind_back_offs()
        self.admission.heed(policy)
        self._room_made()

    def queued(self, *, in_flight: bool) -> Iterator[Delivery[Event]]:
        """The events that are in memory, and those of publishers that wait for room.

        Args:
            in_flight: whether those that are in flight are among them.
        """
        if in_flight:
            yield from self._in_flight
        yield from self._queue.everything()
        yield from self.admission.awaiting()

    @trio.lowlevel.enable_ki_protection
    def reopen(self) -> None:
        """Let events in again, and out, after it was closed, retired or abandoned."""
        self.gate.reopen()
        self.admission.reopen()
        self._backing.plugin_restarted()
