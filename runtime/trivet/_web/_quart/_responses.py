"""Quart's response, whose byte ranges are those of RFC 9110.

Owns which bytes a range means: those counted from the end, too, and those beyond it.
Never knows the content of a response.
"""

from __future__ import annotations

from quart.wrappers.response import DataBody, IOBody, ResponseBody
from quart_trio.wrappers import TrioResponse
from quart_trio.wrappers.response import TrioFileBody


class StreamingBody(ResponseBody):
    """A body that is produced while it is sent; it is entered, and then iterated over."""


class RangedData(DataBody):
    """A body in memory."""

    async def make_conditional(self, begin: int, end: int | None) -> int:
        """Send this part only."""
        return await super().make_conditional(*absolute_range(begin, end, len(self.data)))


class RangedIO(IOBody):
    """A body that is read from a file object."""

    async def make_conditional(self, begin: int, end: int | None) -> int:
        """Send this part only."""
        return await super().make_conditional(*absolute_range(begin, end, self.size))


class RangedFile(TrioFileBody):
    """A body that is read from a path."""

    async def make_conditional(
        self, begin: int, end: int | None, max_partial_size: int | None = None
    ) -> int:
        """Send this part only."""
        begin, end = absolute_range(begin, end, self.size)
        return await super().make_conditional(begin, end, max_partial_size)


class RangedResponse(TrioResponse):
    """A response that may be asked for in part; Quart's crashes at `Range: bytes=-5`."""

    data_body_class = RangedData
    file_body_class = RangedFile
    io_body_class = RangedIO


def absolute_range(begin: int, end: int | None, size: int) -> tuple[int, int]:
    """The first byte, and the one after the last; a negative `begin` counts from the end.

    >>> absolute_range(-5, None, 10), absolute_range(-99, None, 10), absolute_range(2, 99, 10)
    ((5, 10), (0, 10), (2, 10))
    """
    first = begin if begin >= 0 else max(0, size + begin)
    return first, size if end is None else min(end, size)
