"""A stream of events, one JSON document a line, of any length and in bounded memory.

Owns the splitting into lines, the batches that are published, and the count of their fates.
Never knows what a subscriber does with an event, nor how the client is made to wait.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from operator import itemgetter

import attrs
import trio

from ..._access._rates import EventRates
from ..._events._delivery import Delivery
from ..._events._event import Event
from ..._events._fates import ALIVE, GOOD, Fate
from ..._events._outcome import Outcome
from ..._events._turns import Turns
from ..._faults._errors import EventDecodeError
from ..._runtime import Runtime
from .._bodies import Body
from .._context import current_context
from .._fast_path import EndpointRequest, EndpointResponse
from .._problems import ProblemError, stopping
from ._publishing import error_fate, is_done, problem_for, publish, worst_end

LINES = ("application/x-ndjson", "application/jsonl")
"""Two names of one thing. Neither is registered; OpenAPI's registry of media types lists both."""
BATCH_SIZE = 500
"""Lines that are published together, at most; where they are stored they are one transaction."""
MAX_ERRORS = 100
"""Lines with an error that a response names: the first of them."""

BAD = frozenset(Fate) - GOOD - ALIVE


async def publish_lines(
    request: EndpointRequest,
    runtime: Runtime,
    name: str,
    rates: EventRates,
    wait: bool,
    deadline: float,
) -> EndpointResponse:
    """Publish the event in each line of a request, and count their fates.

    The lines that were received are published before more is read: together as far as all
    subscribers have room, and one by one where they have none. So a client can send no faster than
    the slowest subscriber that makes publishers wait. Blank lines are skipped. A line that is no
    event of the type is counted and named, and the stream goes on.

    The response has `lines` (the number of the invalid ones and of those whose fate is counted),
    `fates` (numbers, by plugin and fate), `unrouted`, `invalid` (lines that are no event of the
    type, or one that no inbox can ever take in), and `errors`: the first 100 lines with an error,
    by their number, counted from 1. Its status is

    * 202 when all events were published, also where some lines were invalid;
    * 200 if it was to wait, no line was invalid, and every event has ended well;
    * 400 when all lines were invalid;
    * with `?wait=true` that of the worst fate, as for a single event.

    The stream ends early when all subscribers, or a durable one, refuse a line (with `?wait=true`:
    when any subscriber does), with the status of a single event that is refused; when the service
    stops, with 503; and when the client is too slow, with 408. Then the response has `resume_from`,
    the number of the line from which to send again. Lines after a refused one may have been
    published with it: they are counted, and if they are sent again they are other events.

    Args:
        request: the request, within `while_connected`.
        runtime: the program.
        name: the name of the event type.
        rates: the limits of event types. Lines beyond them wait.
        wait: whether to wait for the end of the events in each batch before more is read.
        deadline: the deadline of each event, on Trio's clock.

    Raises:
        ProblemError: the response is an error.
    """
    body = request.body
    lines = LineSplitter(runtime.program.settings.max_body)
    stream = _Stream(runtime, runtime.events[name], rates, wait, deadline)
    current_context().progress = stream.so_far
    while data := await _read(body, runtime.stopping):
        await stream.publish(lines.split(data))
    if data is None:
        raise stopping(stream.so_far())
    await stream.publish([lines.rest()])
    return stream.response()


async def _read(body: Body, stopping: trio.Event) -> bytes | None:
    """The data in the buffer; nothing at the end, None if the stop begins before that."""

    async def give_up() -> None:
        await stopping.wait()
        nursery.cancel_scope.cancel()

    data: bytes | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(give_up)
        data = await anext(body, b"")
        nursery.cancel_scope.cancel()
    return data


class LineSplitter:
    """Splits data into lines, and keeps the beginning of the next line.

    Args:
        limit: bytes that a line may have.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._beginning = bytearray()
        self._is_too_long = False

    def split(self, data: bytes) -> Iterator[bytes | None]:
        """The lines that are complete now, without white space around; None for one too long."""
        *ends, beginning = data.split(b"\n")
        for end in ends:
            self._add(end)
            yield self.rest()
        self._add(beginning)

    def rest(self) -> bytes | None:
        """The last line, which ends without a line break; None if it is too long."""
        line = None if self._is_too_long else bytes(self._beginning).strip()
        self._beginning.clear()
        self._is_too_long = False
        return line

    def _add(self, part: bytes) -> None:
        if len(self._beginning) + len(part) > self._limit:
            self._is_too_long = True
        if self._is_too_long:
            self._beginning.clear()
        else:
            self._beginning += part


@attrs.define
class _Batch:
    """Lines that are published together."""

    deliveries: dict[int, Delivery[Event]] = attrs.field(factory=dict[int, Delivery[Event]])
    """The events, by the numbers of their lines."""
    errors: list[dict[str, object]] = attrs.field(factory=list[dict[str, object]])
    """The errors of the other lines."""
    size: int = 0
    """Bytes of memory that the events take."""
    last: int = 0
    """The number of the last line."""

    def __len__(self) -> int:
        return len(self.deliveries) + len(self.errors)

    def add(self, number: int, decoded: Delivery[Event] | EventDecodeError) -> None:
        """Add the event of a line, or its error."""
        self.last = number
        if isinstance(decoded, Delivery):
            self.deliveries[number] = decoded
            self.size += decoded.size
        else:
            self.errors.append({"line": number, "path": decoded.path, "detail": decoded.reason})


@attrs.define
class _Stream:
    """The events of one stream, and the count of their fates."""

    runtime: Runtime
    event: type[Event]
    rates: EventRates
    wait: bool
    deadline: float
    _number: int = 0
    """The number of the last line that was read, blank ones included."""
    _resume_from: int = 1
    """The number of the first line that was not dealt with, or was refused."""
    _lines: int = 0
    _invalid: int = 0
    _unrouted: int = 0
    _fates: Counter[tuple[str, Fate]] = attrs.field(factory=Counter[tuple[str, Fate]])
    _errors: list[dict[str, object]] = attrs.field(factory=list[dict[str, object]])

    async def publish(self, lines: Iterable[bytes | None]) -> None:
        """Publish the events in some lines."""
        turns, batch = Turns(), _Batch()
        limit, room = self._batch_size(), self.runtime.room_bytes(self.event)
        for line in lines:
            self._number += 1
            await turns.next()
            if line == b"":
                continue
            decoded = await self._decode(line)
            is_too_much = isinstance(decoded, Delivery) and batch.size + decoded.size > room
            if len(batch) >= limit or (is_too_much and len(batch)):
                await self._publish(batch)
                batch = _Batch()
                limit, room = self._batch_size(), self.runtime.room_bytes(self.event)
            batch.add(self._number, decoded)
        if len(batch):
            await self._publish(batch)

    def _batch_size(self) -> int:
        """The number of lines to publish together.

        Lines that find no room wait for it together, and no longer than one alone.
        """
        at_once = self.rates.burst(self.event.__event_name__)
        return int(max(1, min(BATCH_SIZE, self.runtime.room(self.event), at_once)))

    async def _decode(self, line: bytes | None) -> Delivery[Event] | EventDecodeError:
        limit = self.runtime.program.settings.max_body
        if line is None:
            return EventDecodeError(self.event.__event_name__, "$", f"longer than {limit} bytes")
        within = self.runtime.buffer_bytes(self.event)
        try:
            event, size = await self.runtime.events.decode_within(self.event, line, within)
        except EventDecodeError as error:
            return error
        return Delivery.of(event, size=size, deadline=self.deadline)

    async def _publish(self, batch: _Batch) -> None:
        deliveries = batch.deliveries
        counts = {self.event.__event_name__: len(deliveries)} if deliveries else {}
        while (seconds := self.rates.take(counts)) > 0:  # noqa: ASYNC110 - only time passes
            await trio.sleep(seconds)
        if self.runtime.stopping.is_set():
            raise stopping(self.so_far())
        outcomes = await publish(self.runtime, [*deliveries.values()], wait=self.wait)
        # The subscribers have their turn, so that there is room; one checkpoint may not suffice.
        for _ in range(2):
            await trio.lowlevel.checkpoint()
        self._lines += len(batch)
        self._invalid += len(batch.errors)
        self._resume_from = batch.last + 1
        self._count(dict(zip(deliveries, outcomes, strict=True)), batch.errors)

    def _count(self, outcomes: dict[int, Outcome], errors: list[dict[str, object]]) -> None:
        """Count the fates of some lines."""
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
        self._errors += errors[: MAX_ERRORS - len(self._errors)]
        durable = self.runtime.durable
        refused = {
            number: outcome
            for number, outcome in bad.items()
            if error_fate([outcome], waited=self.wait, durable=durable) is Fate.REJECTED
        }
        if refused:
            self._resume_from = next(iter(refused))
            raise problem_for(self.runtime, Fate.REJECTED, self.so_far(), refused.values())

    def so_far(self) -> dict[str, object]:
        """The members of the problem that ends a stream early."""
        return self._document() | {"resume_from": self._resume_from}

    def response(self) -> EndpointResponse:
        """The response at the end of the stream."""
        document = self._document()
        if self._lines and self._invalid == self._lines:
            detail = f"no line is of type {self.event.__event_name__}; `errors` says why"
            raise ProblemError("invalid_event", detail, document)
        fates = {fate for _, fate in self._fates}
        if self.wait and (fate := worst_end(fates)) is not None:
            raise problem_for(self.runtime, fate, document)
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
