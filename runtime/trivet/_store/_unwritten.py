"""The changes of events that are not in the file yet.

Owns the changes that are written next; the ends of one plugin's events are one record.
Never knows when they are written, nor how.
"""

from __future__ import annotations

from collections.abc import Sequence

from ._records import Bury, Delete, Forget, Settlement, Update


class Unwritten:
    """The changes that are to be written. Its length is the number of their events."""

    def __init__(self) -> None:
        self._ends: dict[str, Delete] = {}
        """Events that have ended, by plugin. An end comes after all that was before it, so that
        their order among the others does not matter."""
        self._others: list[Settlement] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, settlement: Settlement) -> None:
        """Add a change of one event."""
        self._others.append(settlement)
        self._count += 1

    def end(self, plugin: str, number: int, size: int) -> None:
        """Add the end of an event, which had so many bytes."""
        ends = self._ends_of(plugin)
        ends.numbers.append(number)
        ends.sizes.append(size)
        self._count += 1

    def end_all(self, plugin: str, numbers: Sequence[int], sizes: Sequence[int]) -> None:
        """Add the ends of events."""
        ends = self._ends_of(plugin)
        ends.numbers += numbers
        ends.sizes += sizes
        self._count += len(numbers)

    def _ends_of(self, plugin: str) -> Delete:
        ends = self._ends.get(plugin)
        if ends is None:
            ends = self._ends[plugin] = Delete(plugin, [], [])
        return ends

    def take(self) -> list[Settlement]:
        """Take everything out."""
        everything = [*self._others, *self._ends.values()]
        self._others, self._ends, self._count = [], {}, 0
        return everything

    def put_back(self, settlements: Sequence[Settlement]) -> None:
        """Put changes back that could not be written, before the others."""
        self._others[:0] = settlements
        self._count += number_of_events(settlements)


def number_of_events(settlements: Sequence[Settlement]) -> int:
    """How many events these changes are about."""
    return sum(len(each.numbers) if isinstance(each, Delete) else 1 for each in settlements)


def ends_in(settlements: Sequence[Settlement]) -> dict[str, list[int]]:
    """The numbers of the events that have ended by these changes, by plugin."""
    ended: dict[str, list[int]] = {}
    for each in settlements:
        if isinstance(each, Delete):
            ended.setdefault(each.plugin, []).extend(each.numbers)
        elif isinstance(each, Bury):
            ended.setdefault(each.plugin, []).append(each.number)
    return ended


def one_by_one(settlements: Sequence[Settlement]) -> list[Settlement]:
    """The same changes, one for each event, by plugin and number; those of one event in order."""
    apart: list[Settlement] = []
    for each in settlements:
        if isinstance(each, Delete):
            pairs = zip(each.numbers, each.sizes, strict=True)
            apart += [Delete(each.plugin, [number], [size]) for number, size in pairs]
        else:
            apart.append(each)
    return sorted(apart, key=_place)


def _place(settlement: Settlement) -> tuple[str, int, bool]:
    match settlement:
        case Delete():
            return settlement.plugin, settlement.numbers[0], True
        case Forget():
            return settlement.plugin, 0, False
        case Update() | Bury():
            return settlement.plugin, settlement.number, False
