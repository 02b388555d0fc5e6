"""Passes: the right of requests with one head to go through a door.

Owns what has to be looked at anew for each of these requests, and what is noted of it.
Never knows the head, nor how its token was found.
"""

from __future__ import annotations

from ._attempts import Attempts
from ._tokens import ANYBODY, Caller, Token


class Pass:
    """A right that holds until other settings come: a reload ends it.

    Args:
        token: the token of the requests; None where they have none, and need none.
        attempts: the wrong secrets of lately.
        is_proof: whether the token is needed, so that it shows that the address knows it.
        is_counted: whether requests count for the rate of the token.
    """

    __slots__ = ("_attempts", "_caller", "_is_proof", "_rate", "_token")

    def __init__(
        self, token: Token | None, attempts: Attempts, *, is_proof: bool, is_counted: bool
    ) -> None:
        self._token = token
        self._attempts = attempts
        self._is_proof = is_proof
        self._rate = token.rate if token is not None and is_counted else None
        self._caller = ANYBODY

    def holds(self, address: str) -> bool:
        """Whether a request may pass now. This notes nothing.

        Args:
            address: the address of its sender; empty on a Unix socket.
        """
        token = self._token
        if token is None:
            return True
        if self._rate is not None and self._rate.wait() > 0:
            return False
        return self._attempts.wait(address) == 0 or self._attempts.knows(address, token.name)

    def use(self, address: str) -> Caller:
        """Note that a request passes, which it may; returns its sender.

        Args:
            address: as for `holds`.
        """
        token = self._token
        if token is None:
            return ANYBODY
        if self._is_proof:
            self._attempts.succeeded(address, token.name)
        if self._rate is not None:
            self._rate.take()
        if self._caller.token is None or self._caller.address != address:
            self._caller = Caller(token, has_secret=True, address=address)
        return self._caller
