"""Tokens: `[[tokens]]` in the settings, and the search for the one that a client has sent.

Owns the scopes, the form of a token, and the comparison of secrets.
Never knows where a client has put its secret, nor what it asks for.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Any, Literal, NamedTuple, get_args

import attrs
from attrs.validators import gt, optional

from .._faults._secret import Secret
from ._rates import Rate

Scope = Literal["ingest", "read", "admin"]
"""Permission to publish events, to read the state and the plugins' routes, or to change
what runs. No scope contains another."""
SCOPES: tuple[Scope, ...] = get_args(Scope)

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
SHORTEST_SECRET = 16
"""Characters that a secret has at least."""


def _is_name(_: object, __: object, name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ValueError("expected 1 to 64 letters and digits of ASCII, and `_`, `.` and `-`")


def _names_some(_: object, __: object, names: Sequence[str] | None) -> None:
    if names is not None and not names:
        raise ValueError("expected one at least")


def _fit_for_a_header(_: object, __: object, secret: Any) -> None:
    if not isinstance(secret, Secret):
        raise TypeError("expected a Secret: write `secret=Secret(…)`")
    text = secret.reveal()
    if len(text) < SHORTEST_SECRET:
        raise ValueError(f"expected at least {SHORTEST_SECRET} characters")
    if not all("!" <= character <= "~" for character in text):
        raise ValueError("expected letters, digits and punctuation of ASCII, without spaces")


def _for_ingest(token: TokenSettings, _: object, events: list[str] | None) -> None:
    if events is not None and "ingest" not in token.scopes:
        raise ValueError('only a token with the scope "ingest" publishes events')


@attrs.frozen(kw_only=True)
class TokenSettings:
    """A token, by which a client shows what it may do (`[[tokens]]`).

    >>> TokenSettings(name="shop", scopes=["ingest"], secret=Secret("correct-horse-battery"))
    TokenSettings(name='shop', scopes=['ingest'], secret=Secret('***'), events=None, rate=None)
    """

    name: str = attrs.field(validator=_is_name)
    """The name, which the log shows beside each request with the token."""
    scopes: list[Scope] = attrs.field(validator=_names_some)
    """The doors that it opens: `"ingest"`, to publish events; `"read"`, for the plugins' routes and
    `GET /plugins`; `"admin"`, for what is under `/-/`, by which plugins are restarted and every
    setting can be changed. A plugin's route may ask for another scope."""
    secret: Secret = attrs.field(validator=_fit_for_a_header)
    """The secret that a client sends as `Authorization: Bearer …`, of at least 16 characters."""
    events: list[str] | None = attrs.field(default=None, validator=[_names_some, _for_ingest])
    """The only event types that the token may publish; without it, all that are open. Such a token
    opens no route of a plugin that asks for `"ingest"`."""
    rate: float | None = attrs.field(default=None, validator=optional(gt(0)))
    """Requests per second with the token; those of one second may come at once, and one more is
    answered with 429. Without it, any number."""


@attrs.frozen(eq=False)
class Token:
    """A token of the operator's."""

    name: str
    """The name."""
    scopes: frozenset[Scope]
    """The doors that it opens."""
    events: frozenset[str] | None
    """The names of the only event types that it may publish; None for all."""
    secret: Secret
    """The secret."""
    rate: Rate | None
    """The account of its requests; None for any number of them."""


def _token(settings: TokenSettings) -> Token:
    return Token(
        settings.name,
        frozenset(settings.scopes),
        None if settings.events is None else frozenset(settings.events),
        settings.secret,
        None if settings.rate is None else Rate(settings.rate),
    )


class Caller(NamedTuple):
    """The sender of a request, as far as it has shown who it is."""

    token: Token | None = None
    """Its token; None for none, and for an unknown one."""
    has_secret: bool = False
    """Whether the client has sent a secret, right or wrong: not by a session, which a browser sends
    for any page."""
    address: str = ""
    """Its address, where it has sent a secret; empty on a Unix socket."""


ANYBODY = Caller()
"""A sender that has shown nothing."""


class Tokens:
    """All tokens of a program.

    A secret is found by its digest, made with a key that is drawn at the start. So the time that
    the search takes tells nothing about a secret, however many tokens there are.

    Args:
        settings: the operator's tokens; no two have one name, or one secret.
    """

    def __init__(self, settings: Iterable[TokenSettings]) -> None:
        self._key = secrets.token_bytes(32)
        self._by_name: dict[str, Token] = {}
        self._settings: dict[str, TokenSettings] = {}
        self.replace(settings)

    def replace(self, settings: Iterable[TokenSettings]) -> None:
        """Have these tokens from now on; one that has not changed keeps the account of its rate."""
        known, given = self._settings, {each.name: each for each in settings}
        self._by_name = {
            name: self._by_name[name] if known.get(name) == each else _token(each)
            for name, each in given.items()
        }
        self._settings = given
        self._by_digest = {
            self._digest(token.secret.reveal().encode()): token for token in self._by_name.values()
        }
        self.scopes = frozenset(scope for each in given.values() for scope in each.scopes)
        """The scopes for which there is a token."""

    def __bool__(self) -> bool:
        return bool(self._by_name)

    def find(self, secret: bytes) -> Token | None:
        """The token with this secret."""
        return self._by_digest.get(self._digest(secret))

    def named(self, name: str) -> Token | None:
        """The token with this name."""
        return self._by_name.get(name)

    def _digest(self, secret: bytes) -> bytes:
        return blake2b(secret, key=self._key, digest_size=32).digest()
