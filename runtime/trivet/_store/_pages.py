"""A page: the events that come from the store into memory at once, as many as there is room for.

Owns that measure, and what is done with the rows in the store's thread, beside the event loop.
Never knows the order of events, nor what becomes of one that cannot be read.
"""

from __future__ import annotations

import attrs
import msgspec

from .._events._event import Event
from .._events._sizes import estimated_bytes
from .._events._turns import LARGE
from .._events._types import EventTypes
from .._faults._errors import EventDecodeError
from ._packing import name_and_id
from ._records import Row


class Content(msgspec.Struct, frozen=True):
    """The event of a row, and its size."""

    size: int
    """Bytes of memory that the event takes, an estimate."""
    event: Event | EventDecodeError | None = None
    """The event, or the error of reading it; None for a small event, which the event loop reads."""


@attrs.define
class Page:
    """Rows of one plugin that are read together.

    Args:
        types: the event types.
        room: bytes of memory for their events; the last of them may take more.
    """

    _types: EventTypes
    _room: int
    _contents: dict[int, Content] = attrs.field(factory=dict[int, Content])

    def take(self, row: Row) -> bool:
        """Look at a row in the store's thread; says whether there is room for another."""
        size = estimated_bytes(row.payload)
        self._contents[row.number] = Content(size, self._read(row) if size > LARGE else None)
        self._room -= size
        return self._room > 0

    @property
    def is_full(self) -> bool:
        """Whether there is no room for another row, so that rows may have been left."""
        return self._room <= 0

    def content(self, row: Row) -> Content:
        """The content of a row of this page."""
        return self._contents[row.number]

    def _read(self, row: Row) -> Event | EventDecodeError | None:
        name, _, _ = name_and_id(row.envelope)
        cls = self._types.get(name)
        try:
            return None if cls is None else self._types.decode(cls, row.payload)
        except EventDecodeError as error:
            return error
