"""The store of the durable inboxes, as the event loop sees it: group commits, and pages read back.

Owns the list of what is written next, and the task that has it written, in a thread of its own.
Never knows SQL, which is the journal's, nor what an inbox does with what it reads.
"""

from __future__ import annotations

import math
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import structlog
import trio

from .._events._types import EventTypes
from .._program._settings import IN_MEMORY, StoreSettings
from ._commit import Commit, Writing
from ._group import Group, Reading
from ._health import Health
from ._inbox import StoredInbox
from ._packing import Packed, Packer
from ._records import (
    Backlog,
    Found,
    JournalError,
    JournalFullError,
    JournalUnavailableError,
    Retention,
    Row,
    Seen,
    Settlement,
    Takes,
)
from ._unwritten import Unwritten, ends_in, number_of_events

if TYPE_CHECKING:
    from .._events._delivery import Delivery
    from .._events._event import Event
    from ._journal import Journal
    from ._register import Register

T = TypeVar("T")

SETTLE_WITHIN = 0.05
"""Seconds for which the end of an event may wait to be written, if nothing else has to be. Until
then the register of events in flight has it, in case the process is killed."""
CLOGGED = 10_000
"""Ends that cannot be written, above which nothing more is handed out."""
PAUSE = 1.0
"""Seconds between two looks at a store that fails, and at what others have done to it."""
TIDY_EVERY = 5.0
"""Seconds between two tidyings."""

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger("trivet")


class Store:
    """The store of the durable inboxes of one program.

    Args:
        settings: the operator's.
        types: the event types.
        in_loop: whether the event loop itself writes it: where time is a test's, a thread would be
            late.
    """

    def __init__(
        self, settings: StoreSettings, types: EventTypes, *, in_loop: bool = False
    ) -> None:
        self._settings = settings
        self.packer: Packer = Packer(types)
        """Packs the events for all inboxes."""
        self._in_memory = settings.path == IN_MEMORY
        self._in_loop = in_loop or self._in_memory
        self._thread = trio.CapacityLimiter(1)
        self._retention = Retention(
            settings.dead_letters_max_age,
            settings.dead_letters_max_count,
            settings.dead_letters_max_bytes,
        )
        self._inboxes: dict[str, StoredInbox] = {}
        self._newcomers: dict[str, StoredInbox] = {}
        """Inboxes that were added, and are not admitted."""
        self._unwritten = Unwritten()
        self._commit = Commit()
        """The transaction that is written next."""
        self._awaited: dict[StoredInbox, None] = {}
        """Inboxes at which publishers wait for room."""
        self._readings: list[Reading[Any]] = []
        self._settle_by = math.inf
        self._pause_until = -math.inf
        self._next_look = math.inf
        self._next_tidying = 0.0
        self._calendar = 0.0
        """Seconds that the calendar was ahead of the loop's clock when the store was opened."""
        self._wake = trio.Event()
        self._is_open = False
        self._closing = False
        self.bytes: int = 0
        """Bytes of the events that are in the store, or are about to be."""
        self.max_bytes: int = settings.max_bytes
        """The operator's limit."""
        self.largest: int = settings.max_bytes
        """Bytes of an event, above which there is never room for it."""
        self.commits: int = 0
        """Transactions that were written since the start."""
        self._health = Health(self.path, settings.max_bytes)
        self.register: Register
        """The register of what the plugins have in flight; there while the store is open."""
        self._journal: Journal
        self._next_number = 0
        self._vanished: list[str] = []

    @property
    def path(self) -> Path:
        """The path of the file."""
        return self._settings.path if self._in_memory else self._settings.path.absolute()

    # The inboxes' side.

    def add(self, plugin: str, inbox: StoredInbox) -> None:
        """Keep an inbox's events, too, from the opening on; of an open store, from `admit` on."""
        self._newcomers[plugin] = inbox

    async def subscribe(self, plugins: Sequence[str]) -> Mapping[str, Found]:
        """Make plugins known in the file, while the store is open, and find what waits for them.

        Raises:
            JournalError: the file cannot be read or written.
        """
        told = trio.Event()
        found: list[Mapping[str, Found] | JournalError] = []

        def hear(result: Mapping[str, Found] | JournalError) -> None:
            """Take the result, or the error."""
            found.append(result)
            told.set()

        self._readings.append(Reading(partial(_subscribe, plugins), hear, hear))
        self._wake.set()
        await told.wait()
        if isinstance(found[0], JournalError):
            raise found[0]
        return found[0]

    def admit(self, found: Mapping[str, Found]) -> None:
        """Have inboxes that were added take in what waits for them; one may follow another.

        Args:
            found: what was found when their plugins subscribed.
        """
        for plugin, each in found.items():
            inbox = self._inboxes[plugin] = self._newcomers.pop(plugin)
            inbox.recover(each.subscriber, each.backlog, each.seen)

    def decline(self) -> None:
        """Forget the inboxes that were added, and are not admitted."""
        self._newcomers.clear()

    def has_reader(self, plugin: str) -> bool:
        """Whether a plugin has an inbox here that has not left."""
        inbox = self._inboxes.get(plugin)
        return inbox is not None and not inbox.has_left

    @property
    def is_near_limit(self) -> bool:
        """Whether the store is about to be full, so that nobody should fetch more for it."""
        return self._health.is_near_limit(self.bytes)

    @property
    def waiting(self) -> int:
        """Events, and ends of events, that wait to be written."""
        return len(self._unwritten) + len(self._commit.writings)

    @property
    def trouble(self) -> JournalError | None:
        """Why nothing can be stored now; None where all is well."""
        return self._health.trouble

    @trio.lowlevel.enable_ki_protection
    def append(
        self,
        delivery: Delivery[Event],
        packed: Packed,
        plugin: str,
        seen: Seen | None,
    ) -> Writing:
        """Store an event for a plugin, whose inbox is told when it is stored, or cannot be.

        All events that are given before the loop goes on are one transaction. An event that is
        given for one plugin after the other, and no other in between, is one record.

        Args:
            delivery: the event.
            packed: its bytes.
            plugin: the plugin that it is for.
            seen: its source and id, by which a duplicate is known.

        Returns:
            The record, and by that the transaction that it is a part of.
        """
        commit, inbox = self._commit, self._inboxes[plugin]
        writings, arrivals = commit.writings, commit.arrivals[inbox]
        self.bytes += packed.size
        if (
            writings
            and (writing := writings[-1]).delivery is delivery
            and not (arrivals and arrivals[-1] is writing)
        ):
            writing.plugins.append(plugin)
        else:
            number, self._next_number = self._next_number, self._next_number + 1
            writing = Writing(
                number, packed.envelope, packed.payload, [plugin], delivery=delivery, commit=commit
            )
            writings.append(writing)
            if len(writings) == 1:
                self._wake.set()
        arrivals.append(writing)
        if seen is not None:
            writing.seen = [*(writing.seen or ()), (plugin, seen)]
        return writing

    @trio.lowlevel.enable_ki_protection
    def settle(self, settlement: Settlement, *, size: int = 0) -> None:
        """Write a change of an event, soon; it frees `size` bytes at once."""
        self._unwritten.add(settlement)
        self._write_soon(size)

    @trio.lowlevel.enable_ki_protection
    def end(self, plugin: str, number: int, size: int) -> None:
        """Write that an event has ended for a plugin, soon; it frees `size` bytes at once."""
        self._unwritten.end(plugin, number, size)
        self._write_soon(size)

    @trio.lowlevel.enable_ki_protection
    def end_all(self, plugin: str, numbers: Sequence[int], sizes: Sequence[int]) -> None:
        """Write that events have ended for a plugin, soon."""
        self._unwritten.end_all(plugin, numbers, sizes)
        self._write_soon(sum(sizes))

    def _write_soon(self, freed: int) -> None:
        if self._settle_by == math.inf:
            self._settle_by = trio.current_time() + SETTLE_WITHIN
            self._wake.set()
        if freed:
            self.bytes -= freed
            if self._awaited:
                self._room_made()

    def await_room(self, inbox: StoredInbox, *, waits: bool) -> None:
        """Tell an inbox from now on when there may be room for publishers, or no longer."""
        if waits:
            self._awaited[inbox] = None
        else:
            self._awaited.pop(inbox, None)

    def _room_made(self) -> None:
        for inbox in [*self._awaited]:
            inbox.room_made()

    @property
    def is_clogged(self) -> bool:
        """Whether so many ends could not be written that no more events should be begun."""
        return len(self._unwritten) > CLOGGED

    def recount(self, plugin: str) -> None:
        """Have the events of a plugin counted anew, since they are more or less than was known."""
        self._vanished.append(plugin)
        self._next_look = -math.inf
        self._wake.set()

    def read(
        self, plugin: str, after: int, limit: int, take: Takes, then: Callable[[list[Row]], None]
    ) -> None:
        """Read the next page of a plugin's events; `take` is called beside the loop."""

        def read(journal: Journal) -> list[Row]:
            """In the thread."""
            return journal.read(plugin, after, limit, take)

        self._readings.append(Reading(read, then))
        self._wake.set()

    def read_numbers(
        self, plugin: str, numbers: list[int], take: Takes, then: Callable[[list[Row]], None]
    ) -> None:
        """Read these events of a plugin; `take` is called beside the loop."""

        def read(journal: Journal) -> list[Row]:
            """In the thread."""
            return journal.read_numbers(plugin, numbers, take)

        self._readings.append(Reading(read, then))
        self._wake.set()

    def stop_begins(self) -> None:
        """Note that a process that is killed from now on was slow to stop: no event is to blame."""
        if self._is_open:
            self.register.stop_begins()

    # The store's own task.

    @asynccontextmanager
    async def opened(self) -> AsyncGenerator[None]:
        """Open the file; when the block is left, write the rest, and close it.

        Raises:
            JournalError: it cannot be opened: it is in use, damaged, or not one of Trivet's.
        """
        await self._open()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._write_on)
            try:
                yield
            finally:
                self._closing = True
                self._wake.set()

    async def _open(self) -> None:
        from ._journal import Journal  # noqa: PLC0415 - SQLite, for those who need it

        self._calendar = time.time() - trio.current_time()
        path = None if self._in_memory else self.path
        opening = partial(Journal.open, path, synchronous=self._settings.synchronous)
        self._journal = await self._call(opening)
        self.register = self._journal.register
        self.largest = min(self.max_bytes, self._journal.largest)
        self._next_number = self._journal.new_numbers()
        backlog = self._journal.backlog()
        self.bytes = sum(each.bytes for each in backlog.values())
        self.admit(_subscribe([*self._newcomers], self._journal))
        for plugin in backlog.keys() - self._inboxes.keys():
            _log.warning(
                "the store has events of a plugin that is not active, or not durable",
                plugin=plugin,
                count=backlog[plugin].count,
                path=str(self.path),
            )
        self._tell_of_losses()
        if self._journal.names > 1:
            _log.warning(
                "the store's file has several names: always use the same one",
                names=self._journal.names,
                path=str(self.path),
            )
        if orphans := self._journal.orphans():
            _log.error("the store has events of no plugin", count=orphans, path=str(self.path))
        self._next_look = trio.current_time() + PAUSE
        self._is_open = True

    def _tell_of_losses(self) -> None:
        """Log how many events the file should have, by the register beside it, and has not."""
        journal, path = self._journal, str(self.path)
        if journal.lost:
            _log.error(
                "the store has lost events that were accepted: its write-ahead log was removed or "
                "damaged, or an older file is in its place. Some may have been handled before",
                at_most=journal.lost,
                path=path,
            )
        elif journal.cannot_tell:
            _log.warning(
                "the register beside the store is gone: whether events were lost cannot be told",
                path=path,
            )

    async def _write_on(self) -> None:
        """Write until the store is closed and nothing is left to write."""
        with trio.CancelScope(shield=True):  # It ends when the block around it is left.
            while not (self._closing and not self._unwritten and not self._commit.writings):
                await self._something_to_do()
                group = await self._turn()
                if self._closing and group.unsettled:
                    _log.error(
                        "what has ended could not be written, and comes again after the next start",
                        count=len(self._unwritten),
                        error=str(group.refused),
                    )
                    break
            await self._call(self._journal.close)

    async def _something_to_do(self) -> None:
        while (due := self._due()) > trio.current_time():
            self._wake = trio.Event()
            with trio.move_on_at(due):
                await self._wake.wait()
        await trio.lowlevel.checkpoint()  # Publishers of the same moment are in the same group.

    def _due(self) -> float:
        """The time at which there is something to do."""
        if self._commit.writings or self._closing:
            return -math.inf
        if self._readings or self._unwritten:
            by = -math.inf if self._readings else self._settle_by
            return max(by, self._pause_until)
        return self._next_look

    async def _turn(self) -> Group:
        group = self._next_group()
        await self._call(partial(self._do, group))
        self._health.judge(group, self.bytes)
        self._answer(group)
        return group

    @trio.lowlevel.enable_ki_protection
    def _next_group(self) -> Group:
        now = trio.current_time()
        self.packer.forget()
        settlements = self._unwritten.take()
        commit, self._commit = self._commit, Commit()
        readings: list[Reading[Any]] = []
        if now >= self._pause_until:
            readings, self._readings = self._readings, []
        self._settle_by = math.inf
        vanished, self._vanished = self._vanished, []
        looks = now >= self._next_look
        known = {each: each.on_file for each in self._inboxes.values()} if looks else {}
        # An hour that the calendar leaves out makes nothing old.
        today = min(time.time(), self._calendar + now)
        # An event that is being written now has not ended, whatever was read behind it.
        writings = commit.writings
        before = (writings[0].number if writings else self._next_number) - 1
        cursors = {
            plugin: min(inbox.cursor, before)
            for plugin, inbox in self._inboxes.items()
            if settlements
        }
        return Group(
            settlements,
            commit,
            readings,
            looks,
            today,
            known,
            self.bytes,
            cursors,
            vanished,
        )

    def _do(self, group: Group) -> None:
        """In the thread: write a group, read pages, and now and then look after the file."""
        try:
            group.refused = group.error = self._journal.commit(
                group.settlements, group.commit.writings, group.cursors
            )
        except JournalError as error:
            group.refused = group.error = error
            group.unsettled = True
            group.left = [*self._journal.unsettled]
            # Events whose end could not be written are still there, and must not come again.
            group.pages = [None] * len(group.readings)
            return
        for reading in group.readings:
            group.pages.append(_tried(partial(reading.read, self._journal), group))
        if group.looks:
            _tried(partial(self._look_after, group), group)

    @trio.lowlevel.enable_ki_protection
    def _answer(self, group: Group) -> None:
        """Tell everybody the results."""
        now = trio.current_time()
        self.commits += group.error is None and bool(group.settlements or group.commit.writings)
        if group.looks:
            self._next_look = now + PAUSE
        if None in group.pages or group.unsettled:
            self._pause_until = now + PAUSE
        if group.unsettled:
            self._unwritten.put_back(group.left)
            self._vanished += group.vanished
            self._settle_by = self._pause_until
        self._have_settled(group.settlements, group.left)
        self._tell(group)
        if group.counts is not None:  # Before the pages: new events may be in them.
            self._recount(group.counts, group.known, group.known_bytes)
        for reading, page in zip(group.readings, group.pages, strict=True):
            if page is not None:
                reading.then(page)
            elif reading.otherwise is not None and group.error is not None:
                reading.otherwise(group.error)
            else:
                self._readings.append(reading)

    def _tell(self, group: Group) -> None:
        """Tell the inboxes, and then the publishers, what has become of the events."""
        commit, refused = group.commit, group.refused
        if refused is not None:
            size = sum(each.size * len(each.plugins) for each in commit.writings)
            group.known_bytes -= size
            self.bytes -= size
        for inbox, writings in commit.arrivals.items():
            if refused is None and group.looks:
                group.known[inbox] += len(writings)
            inbox.written(writings, refused)
        commit.end(is_stored=refused is None)
        if refused is not None:
            self._room_made()

    def _have_settled(self, settlements: list[Settlement], left: list[Settlement]) -> None:
        not_yet = {plugin: {*numbers} for plugin, numbers in ends_in(left).items()}
        for plugin, numbers in ends_in(settlements).items():
            waiting = not_yet.get(plugin, ())
            self._inboxes[plugin].ends_written([each for each in numbers if each not in waiting])
        if number_of_events(settlements) - number_of_events(left) > CLOGGED:
            for inbox in self._inboxes.values():
                inbox.resume()

    def _look_after(self, group: Group) -> None:
        journal = self._journal
        if self.trouble is not None:
            journal.probe()
        if journal.changed_by_others():
            journal.renew_numbers()
            group.counts = journal.counts()
        if group.vanished:
            for plugin in group.vanished:
                journal.recount(plugin)
            group.counts = journal.counts()
        if time.monotonic() >= self._next_tidying:
            self._next_tidying = time.monotonic() + TIDY_EVERY
            try:
                journal.tidy(group.today, self._retention)
            except JournalUnavailableError as error:  # Events come and go all the same.
                group.untidy = error

    def _recount(
        self, counts: Mapping[str, Backlog], known: Mapping[StoredInbox, int], known_bytes: int
    ) -> None:
        """Take in events that are in the file beyond those known when it was counted."""
        self._next_number = max(self._next_number, self._journal.new_numbers())
        # The difference, not the sum: while the thread counted, the loop went on.
        self.bytes += sum(each.bytes for each in counts.values()) - known_bytes
        for plugin, inbox in self._inboxes.items():
            if inbox in known:  # Another one has counted its own since.
                inbox.found(max(0, counts.get(plugin, Backlog(0, 0)).count - known[inbox]))

    async def _call(self, function: Callable[[], T]) -> T:
        if self._in_loop:
            return function()
        return await trio.to_thread.run_sync(
            function, limiter=self._thread, thread_name="trivet store"
        )


def _subscribe(plugins: Sequence[str], journal: Journal) -> Mapping[str, Found]:
    """Make plugins known in the file, and find what waits for them."""
    numbers, backlog = journal.subscribe(plugins), journal.counts()
    return {
        plugin: Found(number, backlog.get(plugin, Backlog(0, 0)), journal.seen(plugin))
        for plugin, number in numbers.items()
    }


def _tried(function: Callable[[], T], group: Group) -> T | None:
    try:
        return function()
    except JournalError as error:
        group.error = error
        return None


def is_full(error: JournalError | None) -> bool:
    """Whether nothing can be stored for want of room."""
    return isinstance(error, JournalFullError)
