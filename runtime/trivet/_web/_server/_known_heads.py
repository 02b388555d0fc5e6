"""The heads of recent requests, parsed: a client sends the same head again and again.

Owns which heads are kept, how many, and the shortcut of each.
Never knows how a head is parsed, nor what a shortcut does.

A head with a token is found by its hash, whose key is drawn at the start of the process, and is
compared with the head of that hash only: the time that this takes tells nothing about the token.
"""

from __future__ import annotations

from collections.abc import Callable

from .._shortcuts import FindShortcut
from ._heads import Head, parse_head

MAX_KNOWN = 256
"""Heads that are kept; the oldest one makes room for another."""
MAX_BYTES = 1024
"""Bytes of a head that is kept."""
_SECRETS = (b"cookie", b"proxy-authorization")
"""The headers that are not to stay in memory, beside an `Authorization` that is no token's."""


class KnownHeads:
    """The heads of recent requests of one server.

    Args:
        find_shortcut: finds the shortcut of a head; None where there are no shortcuts.
        is_token: says whether an `Authorization` has a token of the operator's, which is in memory
            anyway; None where there are no tokens.
    """

    def __init__(
        self,
        find_shortcut: FindShortcut | None,
        is_token: Callable[[bytes], bool] | None = None,
    ) -> None:
        self._find_shortcut = find_shortcut
        self._is_token = is_token
        self._known: dict[tuple[bytes, str], Head] = {}

    def forget(self) -> None:
        """Forget the heads: other settings hold, and perhaps other tokens."""
        for head in self._known.values():
            head.shortcut = None
        self._known.clear()

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
        if len(data) <= MAX_BYTES and not self._has_secret(head):
            if len(self._known) >= MAX_KNOWN:
                del self._known[next(iter(self._known))]
            self._known[data, server] = head
        return head

    def _has_secret(self, head: Head) -> bool:
        """Whether a head has something that is not to stay in memory."""
        if any(name in head for name in _SECRETS):
            return True
        if b"authorization" not in head:
            return False
        given = [value for name, value in head.headers if name == b"authorization"]
        return self._is_token is None or not all(map(self._is_token, given))
