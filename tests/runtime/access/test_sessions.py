"""Sessions of browsers."""

from __future__ import annotations

import re
import string
from typing import Any

import pytest
from itsdangerous import TimestampSigner

from trivet import Secret, TokenSettings
from trivet._access._sessions import DURATION, MAX_ENDED, Sessions
from trivet._access._tokens import Token, Tokens

NAMES = ("shop", "ops.1")
URL_SAFE = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"
"""The digits of base64 for URLs, by their value."""


def tokens(secret: str = "of-the-token-named-") -> Tokens:
    """Two tokens."""
    return Tokens(
        TokenSettings(name=name, scopes=["read"], secret=Secret(secret + name)) for name in NAMES
    )


def named(known: Tokens, name: str) -> Token:
    """The token with this name."""
    token = known.named(name)
    assert token is not None
    return token


class Clock:
    """Seconds that a test sets."""

    now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("name", NAMES)
def test_a_session_is_that_of_its_token(name: str) -> None:
    """A cookie has only characters that cookies may have, not the secret, and finds its token."""
    known = tokens()
    sessions = Sessions(known)
    cookie = sessions.begin(named(known, name))
    assert re.fullmatch(r"[A-Za-z0-9_.:-]+", cookie)
    assert "of-the-token" not in cookie
    assert sessions.token_of(cookie) is named(known, name)
    assert sessions.begin(named(known, name)) != cookie


def test_another_process_knows_the_session() -> None:
    """A session holds in another process with the same tokens, and not if its secret is new."""
    known = tokens()
    cookie = Sessions(known).begin(named(known, "shop"))
    again = tokens()
    assert Sessions(again).token_of(cookie) is named(again, "shop")
    assert Sessions(tokens("another-secret-named-")).token_of(cookie) is None
    assert Sessions(Tokens([])).token_of(cookie) is None


def test_a_session_ends_by_itself() -> None:
    """A session holds for half a day, whatever the browser does with its cookie."""
    known, clock = tokens(), Clock()
    sessions = Sessions(known, clock)
    cookie = sessions.begin(named(known, "shop"))
    clock.now += DURATION
    assert sessions.token_of(cookie) is named(known, "shop")
    clock.now += 1
    assert sessions.token_of(cookie) is None


def test_a_session_is_ended() -> None:
    """A session that was ended is over for its cookie, and other sessions go on."""
    known = tokens()
    sessions = Sessions(known)
    one, other = (sessions.begin(named(known, "shop")) for _ in range(2))
    sessions.end(one)
    assert sessions.token_of(one) is None
    assert sessions.token_of(other) is named(known, "shop")


def test_an_ended_session_has_no_other_spelling() -> None:
    """A session that was ended is over for every text that base64 reads as its signature."""
    known = tokens()
    sessions = Sessions(known)
    cookie = sessions.begin(named(known, "shop"))
    last = URL_SAFE.index(cookie[-1]) // 4 * 4  # Two bits of the last digit are not used.
    spellings = [cookie[:-1] + digit for digit in URL_SAFE[last : last + 4]]
    assert cookie in spellings
    assert {sessions.token_of(each) for each in spellings} == {named(known, "shop")}
    sessions.end(spellings[spellings.index(cookie) - 1])
    assert {sessions.token_of(each) for each in (*spellings, f"{cookie}=")} == {None}


def test_a_forged_cookie_is_no_session() -> None:
    """A cookie with another name, id, time or signature is no session, nor can it end one."""
    known = tokens()
    sessions: Any = Sessions(known)
    cookie = sessions.begin(named(known, "shop"))
    name, rest = cookie.split(":")
    parts = rest.split(".")
    forged = [f"ops.1:{rest}", f"{name}:x{rest}", "", "shop", "shop:", "nobody:a.b.c", "\xff:\xff"]
    for number, part in enumerate(parts):
        changed = [*parts[:number], part[::-1], *parts[number + 1 :]]
        forged.append(f"{name}:{'.'.join(changed)}")
    for each in forged:
        assert sessions.token_of(each) is None
        sessions.end(each)
    assert sessions._ended == {}


def test_a_name_that_no_token_has_takes_as_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cookie's signature is checked whether a token has its name or not, so that the time does
    not tell the names."""
    checked: list[str] = []
    check: Any = TimestampSigner.unsign

    def noted(self: TimestampSigner, cookie: str, **options: Any) -> Any:
        checked.append(cookie)
        return check(self, cookie, **options)

    monkeypatch.setattr(TimestampSigner, "unsign", noted)
    cookies = ["shop:a.b.c", "nobody:a.b.c", "nobody"]
    assert [Sessions(tokens()).token_of(cookie) for cookie in cookies] == [None] * 3
    assert checked == cookies


def test_memory_is_bounded() -> None:
    """Ended sessions are forgotten when they would have ended by themselves, or when they are many:
    the oldest first."""
    known, clock = tokens(), Clock()
    sessions: Any = Sessions(known, clock)
    shop = named(known, "shop")
    first = sessions.begin(shop)
    sessions.end(first)
    for number in range(MAX_ENDED - 1):
        sessions._ended[str(number)] = clock.now + DURATION
    sessions.end(sessions.begin(shop))
    assert len(sessions._ended) == MAX_ENDED
    assert _value(first) not in sessions._ended
    clock.now += DURATION + 1
    sessions.end(last := sessions.begin(shop))
    assert list(sessions._ended) == [_value(last)]


def _value(cookie: str) -> str:
    """The signed value of a cookie, without the time and the signature."""
    return cookie.rsplit(".", 2)[0]
