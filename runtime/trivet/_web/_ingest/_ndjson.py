"""A stream of events, one JSON document a line, of any length and in bounded memory.

Owns the cutting into lines, what is published together, and the count of what became of them.
Never knows what a subscriber does with an event, nor how the client is made to wait.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from operator import itemgetter

import attrs
import trio

from ..._events._delivery import Delivery
from ..._events._event import Event
from ..._events._fates import ALIVE, GOOD, Fate
from ..._events._outcome import Outcome
from ..._events._turns import Turns
from ..._faults._errors import EventDecodeError
from ..._runtime import Runtime
from .._bodies import Body
from .._exchange import current_exchange
from .._problems import ProblemError, stopping
from ._front import Answer, Call
from ._publishing import is_done, judge, problem, publish, worst_end

LINES = ("application/x-ndjson", "application/jsonl")
"""Two names of one thing. Neither is registered; OpenAPI's registry of media types lists both."""
TOGETHER = 500
"""Lines that are published together, at most, and so are one transaction where they are stored."""
ERRORS_NAMED = 100
"""Lines that an answer names, the first of those with which something is wrong."""

BAD = frozenset(Fate) - GOOD - ALIVE


async def publish_lines(
    call: Call, runtime: Runtime, name: str, *, wait: bool, deadline: float
) -> Answer:
    """Publish the event in each line of an attended call, and count what becomes of them.

    What has been read is published before more is read, together as far as there is room with all
    subscribers, and line by line where there is none: so a client can send no faster than the
    slowest of those who make publishers wait. Blank lines are skipped; a line that is no such
    event is counted and named, and the stream goes on.

    The answer has `lines` (the invalid ones, and those whose fate is counted), `fates` (how many,
    by plugin and fate), `unrouted`, `invalid` (those that are no event, or one that nobody can take
    in), and `errors`: the first 100 lines with which something is wrong, by their number, the first
    line's being 1. Its status is

    * 202 when all was published, also where some lines were invalid;
    * 200 if it was to wait, no line was invalid, and every event has come to a good end;
    * 400 when all lines were invalid;
    * with `?wait=true` that of the worst end, as for a single event.

    It ends early when a line is refused by everybody or by a durable plugin (with `?wait=true`: by
    anybody), with the status that a single event has then; when the service stops, with 503; and
    when the client is too slow, with 408. Then the answer has `resume_from`, the number of the
    line from which to send again. Lines behind one that was refused may have been taken with it:
    they are counted, and sent again they are other events.

    Args:
        call: the request.
        runtime: the program.
        name: the name of the event type.
        wait: whether to wait for the end of what is published before more is read.
        deadline: that of each event, on Trio's clock.

    Raises:
        ProblemError: for an answer that is an error.
    """
    body = call.body
    lines = Lines(runtime.program.settings.max_body)
    stream = _Stream(runtime, runtime.events[name], wait, deadline)
    current_exchange().account = stream.so_far
    while data := await _read(body, runtime.stopping):
        await stream.take(lines.cut(data))
    if data is None:
        raise stopping(stream.so_far())
    await stream.take([lines.rest()])
    return stream.answer()


async def _read(body: Body, stopping: trio.Event) -> bytes | None:
    """What has come in the meantime; nothing at the end, None if the stop begins before that."""

    async def give_up() -> None:
        await stopping.wait()
        nursery.cancel_scope.cancel()

    data: bytes | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(give_up)
        data = await anext(body, b"")
        nursery.cancel_scope.cancel()
    return data


class Lines:
    """Cuts what arrives into lines, and keeps the beginning of the next.

    Args:
        limit: bytes that a line may have.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._begun = bytearray()
        self._is_too_long = False

    def cut(self, data: bytes) -> Iterator[bytes | None]:
        """The lines that are complete now, without white space around them; None if too long."""
        *ends, begun = data.split(b"\n")
        for end in ends:
            self._add(end)
            yield self.rest()
        self._add(begun)

    def rest(self) -> bytes | None:
        """The line that has begun, as if it ended here."""
        line = None if self._is_too_long else bytes(self._begun).strip()
        self._begun.clear()
        self._is_too_long = False
        return line

    def _add(self, part: bytes) -> None:
        if len(self._begun) + len(part) > self._limit:
            self._is_too_long = True
        if self._is_too_long:
            self._begun.clear()
        else:
            self._begun += part


@attrs.define
class _Together:
    """Lines that are published together."""

    deliveries: dict[int, Delivery[Event]] = attrs.field(factory=dict[int, Delivery[Event]])
    """The events, by the numbers of their lines."""
    errors: list[dict[str, object]] = attrs.field(factory=list[dict[str, object]])
    """What is wrong with the others."""
    size: int = 0
    """Bytes of memory that the events take."""
    last: int = 0
    """The number of the last line."""

    def __len__(self) -> int:
        return len(self.deliveries) + len(self.errors)

    def add(self, number: int, found: Delivery[Event] | EventDecodeError) -> None:
        """Here is what was found in one more line."""
        self.last = number
        if isinstance(found, Delivery):
            self.deliveries[number] = found
            self.size += found.size
        else:
            self.errors.append({"line": number, "path": found.path, "detail": found.reason})


@attrs.define
class _Stream:
    """The events of one stream, and what has become of them."""

    runtime: Runtime
    event: type[Event]
    wait: bool
    deadline: float
    _number: int = 0
    """Of the last line that was taken, blank ones included."""
    _resume_from: int = 1
    """The first line that was not dealt with, or was refused."""
    _lines: int = 0
    _invalid: int = 0
    _unrouted: int = 0
    _fates: Counter[tuple[str, Fate]] = attrs.field(factory=Counter[tuple[str, Fate]])
    _errors: list[dict[str, object]] = attrs.field(factory=list[dict[str, object]])

    async def take(self, lines: Iterable[bytes | None]) -> None:
        """Publish what is in these lines."""
        turns, together = Turns(), _Together()
        at_most, room = self._at_most(), self.runtime.room_bytes(self.event)
        for line in lines:
            self._number += 1
            await turns.next()
            if line == b"":
                continue
            found = await self._read(line)
            is_too_much = isinstance(found, Delivery) and together.size + found.size > room
            if len(together) >= at_most or (is_too_much and len(together)):
                await self._publish(together)
                together = _Together()
                at_most, room = self._at_most(), self.runtime.room_bytes(self.event)
            together.add(self._number, found)
        if len(together):
            await self._publish(together)

    def _at_most(self) -> int:
        """How many lines to publish together.

        Those that find no room wait for it together, and no longer than one alone.
        """
        return int(max(1, min(TOGETHER, self.runtime.room(self.event))))

    async def _read(self, line: bytes | None) -> Delivery[Event] | EventDecodeError:
        limit = self.runtime.program.settings.max_body
        if line is None:
            return EventDecodeError(self.event.__event_name__, "$", f"longer than {limit} bytes")
        within = self.runtime.buffer_bytes(self.event)
        try:
            event, size = await self.runtime.events.decode_within(self.event, line, within)
        except EventDecodeError as error:
            return error
        return Delivery.of(event, size=size, deadline=self.deadline)

    async def _publish(self, together: _Together) -> None:
        if self.runtime.stopping.is_set():
            raise stopping(self.so_far())
        deliveries = together.deliveries
        outcomes = await publish(self.runtime, [*deliveries.values()], wait=self.wait)
        # The readers' turn, so that there is room again; after one checkpoint it may not have come.
        for _ in range(2):
            await trio.lowlevel.checkpoint()
        self._lines += len(together)
        self._invalid += len(together.errors)
        self._resume_from = together.last + 1
        self._count(dict(zip(deliveries, outcomes, strict=True)), together.errors)

    def _count(self, outcomes: dict[int, Outcome], errors: list[dict[str, object]]) -> None:
        """Note what has become of some lines."""
        bad: dict[int, Outcome] = {}
        for number, outcome in outcomes.items():
            self._fates.update(outcome.fates.items())
            self._unrouted += outcome.unrouted
            if not BAD.isdisjoint(outcome.fates.values()):
                bad[number] = outcome
        for number, outcome in bad.items():
            fates = {plugin: fate.value for plugin, fate in outcome.fates.items()}
            error: dict[str, object] = {"line": number, "id": outcome.id, "fates": fates}
            if outcome.refusals:
                self._invalid += not outcome.accepted
                why = next(iter(outcome.refusals.values()))
                error |= {"path": why.path, "detail": why.reason}
            errors.append(error)
        errors.sort(key=itemgetter("line"))
        self._errors += errors[: ERRORS_NAMED - len(self._errors)]
        durable = self.runtime.durable
        refused = {
            number: outcome
            for number, outcome in bad.items()
            if judge([outcome], waited=self.wait, durable=durable) is Fate.REJECTED
        }
        if refused:
            self._resume_from = next(iter(refused))
            raise problem(self.runtime, Fate.REJECTED, self.so_far(), refused.values())

    def so_far(self) -> dict[str, object]:
        """What a client is told whose stream is not taken to its end."""
        return self._document() | {"resume_from": self._resume_from}

    def answer(self) -> Answer:
        """What a client is told at the end of its stream."""
        document = self._document()
        if self._lines and self._invalid == self._lines:
            detail = f"no line is of type {self.event.__event_name__}; `errors` says why"
            raise ProblemError("invalid_event", detail, document)
        fates = {fate for _, fate in self._fates}
        if self.wait and (fate := worst_end(fates)) is not None:
            raise problem(self.runtime, fate, document)
        return document, 200 if not self._invalid and is_done(fates, waited=self.wait) else 202

    def _document(self) -> dict[str, object]:
        fates: dict[str, dict[str, int]] = {}
        for (plugin, fate), count in self._fates.items():
            fates.setdefault(plugin, {})[fate.value] = count
        document: dict[str, object] = {
            "lines": self._lines,
            "fates": fates,
            "invalid": self._invalid,
            "errors": self._errors,
        }
        return document | {"unrouted": self._unrouted} if self._unrouted else document
