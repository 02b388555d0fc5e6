"""The cursor of a durable inbox: how far all of its events have ended.

Owns the numbers of the events that were read, or came, and have not ended.
Never knows events, nor where the cursor is written.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence

ENDED_AT_MOST = 1000
"""Numbers of ended events behind one that has not, beyond as many as have not."""


class Progress:
    """The events of one inbox that are in memory, by their numbers."""

    def __init__(self) -> None:
        self._open: set[int] = set()
        self._heap: list[int] = []
        """The same numbers, and some that have ended, the lowest first."""
        self._highest = 0
        """The highest number that was ever in the heap."""
        self.last = 0
        """The highest number that was ever begun."""

    def begin(self, number: int) -> None:
        """Note that an event is in memory, or waits for another that is."""
        self._open.add(number)
        self.last = max(self.last, number)
        if number > self._highest:
            self._highest = number
            self._heap.append(number)  # A heap still: nothing in it is above this one.
        else:
            heapq.heappush(self._heap, number)

    def begin_all(self, numbers: Sequence[int]) -> None:
        """Note that events are in memory, in the order of their numbers."""
        if numbers and numbers[0] > self._highest:
            self._open.update(numbers)
            self._heap.extend(numbers)
            self._highest = numbers[-1]
            self.last = max(self.last, self._highest)
        else:
            for number in numbers:
                self.begin(number)

    def passed(self, number: int) -> None:
        """Note that an event was read, and needs not to be kept in mind."""
        self.last = max(self.last, number)

    def end(self, number: int) -> None:
        """Note that an event has ended."""
        self._open.discard(number)

    def end_all(self, numbers: Iterable[int]) -> None:
        """Note that events have ended."""
        self._open.difference_update(numbers)

    @property
    def cursor(self) -> int:
        """The highest number up to which all have ended that were read or came."""
        heap, still_open = self._heap, self._open
        while heap and heap[0] not in still_open:
            heapq.heappop(heap)
        if len(heap) > 2 * len(still_open) + ENDED_AT_MOST:
            self._heap = heap = sorted(still_open)
        return heap[0] - 1 if heap else self.last
