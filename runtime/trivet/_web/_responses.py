"""What a route answers with where a client asks for a part of it.

Owns which bytes a range means: those at the end, too, and those beyond it.
Never knows what is answered.
"""

from __future__ import annotations

from quart.wrappers.response import DataBody, IOBody
from quart_trio.wrappers import TrioResponse
from quart_trio.wrappers.response import TrioFileBody


class _Data(DataBody):
    async def make_conditional(self, begin: int, end: int | None) -> int:
        """Be a part only."""
        return await super().make_conditional(*_within(begin, end, len(self.data)))


class _IO(IOBody):
    async def make_conditional(self, begin: int, end: int | None) -> int:
        """Be a part only."""
        return await super().make_conditional(*_within(begin, end, self.size))


class _File(TrioFileBody):
    async def make_conditional(
        self, begin: int, end: int | None, max_partial_size: int | None = None
    ) -> int:
        """Be a part only."""
        begin, end = _within(begin, end, self.size)
        return await super().make_conditional(begin, end, max_partial_size)


class Response(TrioResponse):
    """Quart's, which would crash at `Range: bytes=-5`."""

    data_body_class = _Data
    file_body_class = _File
    io_body_class = _IO


def _within(begin: int, end: int | None, size: int) -> tuple[int, int]:
    """The first byte and the one after the last; begin is below 0 where it counts from the end.

    >>> _within(-5, None, 10), _within(-99, None, 10), _within(2, 99, 10)
    ((5, 10), (0, 10), (2, 10))
    """
    first = begin if begin >= 0 else max(0, size + begin)
    return first, size if end is None else min(end, size)
