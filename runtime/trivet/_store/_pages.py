"""A page: the events that come from the store into memory at once, as many as there is room for.

Owns that measure, and what is done with the rows in the store's thread, beside the event loop.
Never knows the order of events, nor what becomes of one that cannot be read.
"""

from __future__ import annotations

import attrs

from .._events._event import Event
from .._events._sizes import estimated_bytes
from .._events._turns import LARGE
from .._events._types import EventTypes
from .._faults._errors import EventDecodeError
from ._packing import name_and_id
from ._records import Row


@attrs.define
class Page:
    """Rows of one plugin that are read together.

    Args:
        types: the event types.
        room: bytes of memory for their events; the last of them may take more.
    """

    _types: EventTypes
    _room: int
    sizes: dict[int, int] = attrs.field(factory=dict[int, int])
    """Bytes of memory that each event takes, an estimate, by its number."""
    large: dict[int, Event | EventDecodeError | None] = attrs.field(
        factory=dict[int, "Event | EventDecodeError | None"]
    )
    """The large events, or the errors of reading them; others the event loop reads."""

    def take(self, row: Row) -> bool:
        """Look at a row in the store's thread; says whether there is room for another."""
        self.sizes[row.number] = size = estimated_bytes(row.payload)
        if size > LARGE:
            self.large[row.number] = self._read(row)
        self._room -= size
        return self._room > 0

    @property
    def is_full(self) -> bool:
        """Whether there is no room for another row, so that rows may have been left."""
        return self._room <= 0

    def _read(self, row: Row) -> Event | EventDecodeError | None:
        name, _, _ = name_and_id(row.envelope)
        cls = self._types.get(name)
        try:
            return None if cls is None else self._types.decode(cls, row.payload)
        except EventDecodeError as error:
            return error
