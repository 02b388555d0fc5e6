"""The register of the events in flight and of the journal's size, which outlives the process.

Owns a file of fixed size, mapped into memory: one slot for each event in flight or just handled, by
its number and its subscriber, and the count of all that were ever stored, by which a journal is
known that has lost some.
Never knows the journal, to which it tells after a crash what the dead process left.

To write into mapped memory costs next to nothing, and the system keeps what a killed process wrote;
a power cut may take it away, after which everything in flight is delivered again, unblamed.
"""

from __future__ import annotations

import mmap
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from zlib import crc32

import attrs

from ._ballast import allocate

SLOTS = 65_536
"""Events that can be in flight, or handled and not yet deleted, at most."""
HEADER = 512
"""Slots before the first: one page."""
SIZE_BEFORE = (HEADER + SLOTS) * 8
"""The size in version 1 of the store, in which a slot had no subscriber."""
SIZE = SIZE_BEFORE + SLOTS * 4
OPENING, BOOT, BLAMELESS, STORED = range(4)
"""The slots of the header."""
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


Place = tuple[int, int]
"""An event's number, and the number of the subscriber that has it; 0 from version 1."""


@attrs.frozen
class LeftOver:
    """The events that a process left when it died, by number and subscriber."""

    done: list[Place]
    """Events that were handled, whose end was perhaps not written."""
    blamed: list[Place]
    """Events that were in flight; the process may have died of one of these."""


class Register:
    """The register of one opening of a journal.

    A slot holds the number of an event in flight, its negative once it is handled, or 0; behind all
    the slots are the numbers of their subscribers.

    Args:
        path: the file; None for a register that dies with the process.

    Raises:
        OSError: the file cannot be made; the disk is full, say.
    """

    def __init__(self, path: Path | None) -> None:
        self.is_new: bool = path is not None and not _is_there(path)
        """Whether the file is new, so that nothing is known of an earlier process."""
        self._map: mmap.mmap | bytearray = bytearray(SIZE) if path is None else mapped(path)
        whole = memoryview(self._map)
        self._slots = whole[:SIZE_BEFORE].cast("q")
        self._subscribers = whole[SIZE_BEFORE:].cast("i")
        whole.release()
        self._free: list[int] = []
        self._slots_of: defaultdict[int, dict[int, int]] = defaultdict(dict)
        """The slots by the subscriber, and then by the number."""

    def left_over(self, opening: int) -> LeftOver:
        """The events left by the process that had begun this opening; none of any other's.

        A power cut is no event's fault, and may have left a mixture of old and new.
        """
        header = self._slots
        if (header[OPENING], header[BOOT]) != (opening, this_boot()):
            return LeftOver([], [])
        slots = zip(self._slots[HEADER:].tolist(), self._subscribers.tolist(), strict=True)
        places = [place for place in slots if place[0]]
        return LeftOver(
            done=[(-number, subscriber) for number, subscriber in places if number < 0],
            blamed=[] if header[BLAMELESS] else [place for place in places if place[0] > 0],
        )

    @property
    def opening(self) -> int:
        """The opening that it belongs to."""
        return self._slots[OPENING]

    @property
    def stored(self) -> int:
        """The number of events that the journal has ever committed; it reports each commit."""
        return self._slots[STORED]

    @stored.setter
    def stored(self, count: int) -> None:
        """Record the number after a commit: a journal that knows of fewer events has lost some."""
        self._slots[STORED] = count

    def begin(self, opening: int) -> None:
        """Forget what was left, and belong to this opening from now on."""
        self._slots[OPENING] = 0  # Until the end of this method it belongs to none.
        self._slots[HEADER:] = memoryview(bytes(SLOTS * 8)).cast("q")
        self._slots[BLAMELESS] = 0
        self._slots[BOOT] = this_boot()
        self._slots[OPENING] = opening
        self._free = list(range(HEADER + SLOTS - 1, HEADER - 1, -1))
        self._slots_of.clear()

    def take(self, number: int, subscriber: int) -> None:
        """Record that an event is with its plugin, if a slot is left for it."""
        slot_of = self._slots_of[subscriber]
        slot = slot_of.get(number)
        if slot is None:
            if not self._free:
                return
            slot = slot_of[number] = self._free.pop()
            self._subscribers[slot - HEADER] = subscriber  # First: a kill may come between the two.
        self._slots[slot] = number

    def done(self, number: int, subscriber: int) -> None:
        """Record that an event was handled; that its end is not committed yet."""
        slot = self._slots_of[subscriber].get(number)
        if slot is not None:
            self._slots[slot] = -number

    def release(self, numbers: Iterable[int], subscriber: int) -> None:
        """Free the slots of events whose end is committed, or that wait again without blame."""
        slots, take_slot, give_back = self._slots, self._slots_of[subscriber].pop, self._free.append
        for number in numbers:
            slot = take_slot(number, None)
            if slot is not None:
                slots[slot] = 0
                give_back(slot)

    def stop_begins(self) -> None:
        """Blame no event from now on: the process may be killed because its stop is slow."""
        self._slots[BLAMELESS] = 1

    def close(self) -> None:
        """Close the file; its content is for the next opening."""
        self._slots.release()
        self._subscribers.release()
        if isinstance(self._map, mmap.mmap):
            self._map.close()


def mapped(path: Path) -> mmap.mmap:
    """The file, mapped into memory; it is made if it is missing, or of another size."""
    # All its room from the beginning: to write into a hole on a full disk kills the process.
    if path.exists() and path.stat().st_size == SIZE_BEFORE:
        _widen(path)
    if not path.exists() or path.stat().st_size != SIZE:
        allocate(path, SIZE)
    with path.open("r+b") as file:
        return mmap.mmap(file.fileno(), SIZE)


def _widen(path: Path) -> None:
    """Give the register of a store of version 1 room for subscribers, all at once."""
    wider = path.with_name(f"{path.name}.new")
    allocate(wider, SIZE)
    with wider.open("r+b") as file:
        file.write(path.read_bytes())
    wider.replace(path)


def _is_there(path: Path) -> bool:
    return path.exists() and path.stat().st_size in (SIZE, SIZE_BEFORE)


def this_boot() -> int:
    """A number that changes when the machine starts again, on Linux; elsewhere 0."""
    return crc32(BOOT_ID.read_bytes()) if BOOT_ID.exists() else 0
