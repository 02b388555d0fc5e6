"""The memory of a program for events from outside, which all its inboxes share.

Owns the bound on it, the share that one inbox may take, and the inboxes that wait for some.
Never knows an event, nor what an inbox does with it.

An inbox may take as much as it leaves free for the others: the dynamic thresholds by which switches
share their buffers. A plugin that lags behind can thus never take the last of the memory.
"""

from __future__ import annotations

from typing import Protocol

ANY = 1 << 62
"""A limit that no memory reaches."""


class Waiter(Protocol):
    """An inbox whose publishers wait for memory."""

    def admit(self) -> None:
        """Let the publishers in, as far as there is room."""


class Memory:
    """The memory of all inboxes of one program.

    Args:
        limit: bytes of all inboxes together.
    """

    __slots__ = ("_is_kept", "bytes_waiting", "free", "limit", "waiters")

    def __init__(self, limit: int = ANY) -> None:
        self.limit: int = limit
        self.free: int = limit
        """Bytes that are not taken; an inbox that takes some subtracts them."""
        self.bytes_waiting: int = 0
        """Bytes of the events that wait outside of their inboxes for room."""
        self.waiters: dict[Waiter, None] = {}
        """The inboxes whose publishers wait; whoever frees bytes lets them in, if there are any."""
        self._is_kept = False

    def room(self, own: int) -> float:
        """The bytes that an inbox may take besides its own.

        >>> memory = Memory(limit=100)
        >>> memory.room(own=0)
        50.0
        >>> memory.free -= 40
        >>> memory.room(own=40), memory.room(own=0)
        (10.0, 30.0)
        """
        return (self.free - own) / 2

    @property
    def bytes(self) -> int:
        """Bytes that are taken."""
        return self.limit - self.free

    def give_back(self, size: int) -> None:
        """Free bytes, and let in what waits for them."""
        self.free += size
        self.let_in()

    def let_in(self) -> None:
        """Let in what waits for memory, as far as there is some, unless it is kept for an inbox."""
        if not self._is_kept:
            for waiter in tuple(self.waiters):
                waiter.admit()

    def keep(self, is_so: bool) -> None:
        """Keep what is given back for one inbox, which makes room in itself."""
        self._is_kept = is_so

    def await_room(self, waiter: Waiter, is_so: bool) -> None:
        """Note whether the publishers of an inbox wait."""
        if is_so:
            self.waiters[waiter] = None
        else:
            self.waiters.pop(waiter, None)
