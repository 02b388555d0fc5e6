"""The heads of recent requests, parsed: a client sends the same head again and again.

Owns which heads are kept, how many, and the shortcut of each.
Never knows how a head is parsed, nor what a shortcut does.
"""

from __future__ import annotations

from .._shortcuts import FindShortcut
from ._heads import Head, parse_head

MAX_KNOWN = 256
"""Heads that are kept; the oldest one makes room for another."""
MAX_BYTES = 1024
"""Bytes of a head that is kept."""
_SECRETS = (b"authorization", b"cookie", b"proxy-authorization")
"""The headers that are not to stay in memory."""


class KnownHeads:
    """The heads of recent requests of one server.

    Args:
        find_shortcut: finds the shortcut of a head; None where there are no shortcuts.
    """

    def __init__(self, find_shortcut: FindShortcut | None) -> None:
        self._find_shortcut = find_shortcut
        self._known: dict[tuple[bytes, str], Head] = {}

    def parse(self, data: bytes, server: str) -> Head:
        """Parse a whole head, or return the one that the same bytes have given before.

        Args:
            data: the head.
            server: the address of this machine that the client has reached.

        Raises:
            RefusedError: the head is refused.
        """
        known = self._known.get((data, server))
        if known is not None:
            return known
        head = parse_head(data)
        if self._find_shortcut is not None and head.version == "1.1" and head.keeps_alive:
            head.shortcut = self._find_shortcut(head, server)
        if len(data) <= MAX_BYTES and not any(name in head for name in _SECRETS):
            if len(self._known) >= MAX_KNOWN:
                del self._known[next(iter(self._known))]
            self._known[data, server] = head
        return head
