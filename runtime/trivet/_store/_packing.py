"""An event as bytes, for the store, and back.

Owns the form of what is stored of an event, its envelope and its history.
Never knows where the bytes are kept.
"""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Iterable
from datetime import datetime
from functools import partial
from typing import Any
from zlib import crc32

import attrs
import msgspec
import trio

from .._events._delivery import NO_ORIGIN, Delivery, Origin, Receipt
from .._events._event import Event
from .._events._history import FIRST, History
from .._events._payloads import encode_event
from .._events._turns import LARGE, Turns, off_loop
from .._events._types import EventTypes
from .._faults._containment import one_line
from .._faults._errors import EventDecodeError, EventEncodeError

Deadline = tuple[str, float, float]
"""A deadline on Trio's clock: the run, the moment, and the seconds until then. The calendar may be
set while an event is on disk; a clock that only goes forward may be believed instead."""


class Envelope(msgspec.Struct, array_like=True, gc=False):
    """An envelope as it is stored: an array of these."""

    type: str
    id: str
    source: str
    time: datetime
    key: str | None
    expires: float | None
    """Seconds since 1970."""
    request_id: str | None
    traceparent: str | None
    deadline: Deadline | None
    """The same moment; see `Deadline`."""
    checksum: int | None = None
    """The CRC-32 of the payload, by which one is known that was changed in the file, where nothing
    else notices; None where version 2 has written it."""


_run: trio.lowlevel.RunVar[str] = trio.lowlevel.RunVar("trivet_run")

_encode = msgspec.json.Encoder().encode
_envelope: msgspec.json.Decoder[Envelope] = msgspec.json.Decoder(Envelope)
_history: msgspec.json.Decoder[History] = msgspec.json.Decoder(History)


class Packed(msgspec.Struct, gc=False):
    """An event as bytes."""

    envelope: bytes
    payload: bytes
    size: int
    """Bytes, as the journal counts them."""


NOTHING = Packed(b"", b"", 0)


def pack(delivery: Delivery[Event]) -> Packed:
    """The event as bytes; its deadline becomes one by the calendar.

    Raises:
        EventEncodeError: it would not come back as it is.
    """
    expires = deadline = None
    if delivery.deadline < math.inf:
        left = delivery.deadline - trio.current_time()
        expires, deadline = time.time() + left, (this_run(), delivery.deadline, left)
    event, origin = delivery.event, delivery.origin
    payload = delivery.written
    if payload is None:
        payload = encode_event(event, exact=True)
    elif isinstance(payload, Exception):
        raise payload
    envelope = (
        event.__event_name__,
        delivery.id,
        delivery.source,
        delivery.time,
        delivery.key,
        expires,
        origin.request_id,
        origin.traceparent,
        deadline,
        crc32(payload),
    )
    try:
        written = _encode(envelope)
    except UnicodeEncodeError as error:  # The publisher's `id`, `source` or `key`.
        raise EventEncodeError(envelope[0], "$", f"in its envelope: {one_line(error)}") from None
    return Packed(written, payload, len(written) + len(payload))


class Packer:
    """Packs events, each of them once, however many inboxes ask for its bytes in a row.

    Args:
        types: the event types, to see that events can be read back.
    """

    def __init__(self, types: EventTypes) -> None:
        self._types = types
        self.last: Delivery[Event] | None = None
        """The event that was packed last."""
        self.packed: Packed = NOTHING
        """The bytes of that event."""
        self._failed: tuple[Delivery[Event], EventEncodeError | EventDecodeError] | None = None

    def pack(self, delivery: Delivery[Event]) -> Packed:
        """The event as bytes, from which it can be read back.

        Raises:
            EventEncodeError: it would not come back as it is.
            EventDecodeError: it would not come back at all.
        """
        if self.last is delivery:
            return self.packed
        if self._failed is not None and self._failed[0] is delivery:
            raise self._failed[1]
        try:
            packed = pack(delivery)
            if delivery.written is None:  # Else it has been read back.
                self._types.decode(type(delivery.event), packed.payload)
        except (EventEncodeError, EventDecodeError) as error:
            self._failed = delivery, error
            raise
        self.last, self.packed = delivery, packed
        return packed

    def forget(self) -> None:
        """Keep no event alive."""
        self.last = self._failed = None
        self.packed = NOTHING


async def write_ahead(deliveries: Iterable[Delivery[Event]], types: EventTypes) -> None:
    """Write the payloads before the events are offered, which has to be done at one go.

    Others have their turns meanwhile, and what is large is written in a thread.
    """
    turns = Turns()
    for delivery in deliveries:
        if turns.is_over():
            await turns.next()
        event = delivery.event
        if delivery.size > LARGE:
            delivery.written = await off_loop(delivery.size, partial(_written, event, types))
        else:
            delivery.written = _written(event, types)


def _written(event: Event, types: EventTypes) -> bytes | Exception:
    """The payload, of which it is known that it can be read back; or why there is none."""
    try:
        payload = encode_event(event, exact=True)
        types.decode(type(event), payload)
    except (EventEncodeError, EventDecodeError) as error:
        return error
    return payload


def unpack(
    envelope: bytes,
    payload: bytes,
    types: EventTypes,
    *,
    attempt: int,
    receipt: Receipt | None,
    size: int,
    event: Event | None = None,
) -> Delivery[Any]:
    """The event, from its bytes; `event` where the payload has been read already.

    Raises:
        EventDecodeError: the program does not know its type any more, or it does not fit it.
    """
    try:
        opened = _envelope.decode(envelope)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise EventDecodeError("envelope", "$", str(error)) from None
    name, source = opened.type, opened.source
    if opened.checksum is not None and opened.checksum != crc32(payload):
        raise EventDecodeError(name, "$", "changed in the store: its checksum is wrong")
    cls = types.get(name)
    if cls is None:
        raise EventDecodeError(name, "$", "no event type has this name any more")
    deadline = math.inf
    if opened.expires is not None and opened.deadline is not None:
        run, deadline, left = opened.deadline
        if run != this_run():
            # A calendar that was set back must not put it off.
            deadline = trio.current_time() + min(opened.expires - time.time(), left)
    request_id, traceparent = opened.request_id, opened.traceparent
    has_origin = request_id is not None or traceparent is not None
    return Delivery(
        types.decode(cls, payload) if event is None else event,
        source,
        time.time(),
        Origin(request_id, traceparent) if has_origin else NO_ORIGIN,
        False,
        opened.key,
        deadline,
        attempt,
        receipt,
        (source, opened.id),
        opened.time,
        None,
        size,
    )


def this_run() -> str:
    """Tells the runs of Trio apart, each of which has a clock of its own."""
    try:
        return _run.get()
    except LookupError:
        _run.set(secrets.token_hex(4))
        return _run.get()


def name_and_id(envelope: bytes) -> tuple[str, str, str]:
    """The name of the event's type, its id and its source; nothing where they cannot be read."""
    try:
        opened = _envelope.decode(envelope)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "", "", ""
    return opened.type, opened.id, opened.source


def pack_history(history: History) -> bytes:
    """The history as bytes."""
    return msgspec.json.encode(history)


def unpack_history(history: bytes | None, crashes: int = 0) -> History:
    """The history from its bytes, and from the crashes that were counted beside it.

    Raises:
        EventDecodeError: it is damaged.
    """
    try:
        past = FIRST if history is None else _history.decode(history)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise EventDecodeError("history", "$", str(error)) from None
    return attrs.evolve(past, crashes=past.crashes + crashes) if crashes else past
