"""Sessions: the cookie of a browser that has given a token once.

Owns the form of the cookie's value, its signature, and when a session ends.
Never knows the cookie's name and attributes: they are HTTP's.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from time import time

from itsdangerous import BadSignature, TimestampSigner

from ._tokens import Token, Tokens

DURATION = 12 * 3600
"""Seconds after which a session ends: a day's work."""
MAX_ENDED = 10_000
"""Sessions that were ended by their browsers, and are remembered until they would have ended."""


class Sessions:
    """The sessions of one program, which it need not remember.

    The value of a cookie is the token's name, a random id and the time, signed with the token's
    secret. So it holds after a restart of the program and in each of its replicas, and ends when
    the secret changes or the token is taken away.

    Args:
        tokens: the tokens of the program.
        clock: the seconds since 1970.
    """

    def __init__(self, tokens: Tokens, clock: Callable[[], float] = time) -> None:
        self._tokens = tokens
        self._clock = clock
        self._of_nobody = secrets.token_urlsafe(32)
        self._ended: dict[str, float] = {}
        """For each signed value of a session that was ended, the time when it may be forgotten."""

    def begin(self, token: Token) -> str:
        """The value of a new session's cookie."""
        value = f"{token.name}:{secrets.token_urlsafe(12)}"
        return _Signer(token.secret.reveal(), self._clock).sign(value).decode("ascii")

    def token_of(self, cookie: str) -> Token | None:
        """The token of a session; None if it has ended, or never was."""
        token, value = self._checked(cookie)
        return None if value in self._ended else token

    def end(self, cookie: str) -> None:
        """End a session before its time."""
        token, value = self._checked(cookie)
        if token is None or value in self._ended:
            return
        now = self._clock()
        if len(self._ended) >= MAX_ENDED:
            self._ended = {known: until for known, until in self._ended.items() if until > now}
        if len(self._ended) >= MAX_ENDED:
            del self._ended[next(iter(self._ended))]
        self._ended[value] = now + DURATION

    def _checked(self, cookie: str) -> tuple[Token | None, str]:
        """The token whose secret has signed a cookie, and the value that it has signed.

        The value, and not the cookie, is the session: several spellings of a signature in base64
        are one signature.
        """
        token = self._tokens.named(cookie.partition(":")[0])
        secret = self._of_nobody if token is None else token.secret.reveal()
        try:  # Also without a token: the time is not to tell which names there are.
            value = _Signer(secret, self._clock).unsign(cookie, max_age=DURATION)
        except BadSignature:  # A wrong one, or one that is too old.
            return None, ""
        return token, value.decode("ascii")


class _Signer(TimestampSigner):
    """itsdangerous' signer, with SHA-256 and a clock."""

    def __init__(self, secret: str, clock: Callable[[], float]) -> None:
        super().__init__(
            secret, b"trivet.session", key_derivation="hmac", digest_method=hashlib.sha256
        )
        self._clock = clock

    def get_timestamp(self) -> int:
        """The time that is signed, and the present one when a signature is checked."""
        return int(self._clock())
