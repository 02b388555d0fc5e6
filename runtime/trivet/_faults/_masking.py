"""Secrets of settings are masked wherever an exception is logged, stored or shown.

Owns the secret texts, and the forms in which they are searched for.
Never knows where a text is shown. Masking is process-wide: one program's secrets are masked in
another program's texts, too, which harms neither.
"""

from __future__ import annotations

import json
import re
import weakref
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from html import escape
from pathlib import PurePath
from typing import Any
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

import attrs

MASK = "***"
SHORTEST = 4
"""The length of the shortest masked secret: a shorter one would be in every other word."""
LONGEST = 64 * 1024
"""Characters of a text that are shown, where the text may be a client's. The search for secrets
takes time for each character, and the event loop waits for it."""
_LINE = 8
"""The length from which a line of a secret, of a PEM key, say, is a secret by itself."""
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s\"'<>]+")
_COMMON = re.compile(
    r"true|false|none|null|auto|disable|allow|prefer|required?|verify-(ca|full)|read|write|primary|"
    r"standby|utf-?8(mb4)?|json|text|https?|[\d.,:]*",
    re.IGNORECASE,
)
"""Common values of a URL's parameters, which are no secrets by themselves."""


@attrs.define
class Secrets:
    """The secrets of one program."""

    whole: set[str] = attrs.field(factory=set[str])
    """Texts that are masked everywhere, in each of their forms."""
    words: set[str] = attrs.field(factory=set[str])
    """Texts that are masked as whole words only, such as user names."""
    names: set[str] = attrs.field(factory=set[str])
    """Words that are not masked although they are a user's name, too: a plugin's, say."""

    def add(self, value: object) -> None:
        """Add every text within a secret value."""
        for text in _texts(value):
            self.whole |= {text, text.strip()}
            self.whole |= {line.strip() for line in text.splitlines() if len(line) >= _LINE}
            for parts in _urls(text):
                if len(parts.path) >= _LINE:  # The path of a webhook is its secret.
                    self.whole.add(parts.path)
        self.look_into(value)

    def look_into(self, value: object) -> None:
        """Add the secret parts of a value that is none: the user and the query of each URL."""
        for text in _texts(value):
            for parts in _urls(text):
                self._add_url(parts)

    def _add_url(self, parts: SplitResult) -> None:
        login, at, _ = parts.netloc.rpartition("@")
        if at:
            user, _, password = login.partition(":")
            self.whole |= {login, password, unquote(password)}
            self.words |= {user, unquote(user)}
        if parts.query:
            self.whole |= {parts.query, *parts.query.split("&")}
            values = {value for _, value in parse_qsl(parts.query)}
            self.words |= {each for each in values if not _COMMON.fullmatch(each)}

    def of_fields(self, fields: Iterable[attrs.Attribute[Any]], values: Mapping[str, Any]) -> None:
        """Add the values of hidden fields, and look into the values of the others.

        Args:
            fields: the fields of an attrs class.
            values: the values by the field's name.
        """
        for field in fields:
            if field.name not in values:
                continue
            value = values[field.name]
            if field.repr is not True:
                self.add(value)
            elif _fields(value):
                self.of_instance(value)
            else:
                self.look_into(value)

    def of_instance(self, instance: object) -> None:
        """Add the fields of an instance of an attrs class, like `of_fields`."""
        fields = _fields(instance)
        names = [field.name for field in fields]
        values = {name: getattr(instance, name) for name in names if hasattr(instance, name)}
        self.of_fields(fields, values)


def _fields(value: object) -> tuple[attrs.Attribute[Any], ...]:
    """The fields of an instance of an attrs class; nothing else has any."""
    fields: tuple[attrs.Attribute[Any], ...] = getattr(type(value), "__attrs_attrs__", ())
    return fields


def _urls(text: str) -> Iterator[SplitResult]:
    """The URLs within a text."""
    for found in _URL.finditer(text):
        with suppress(ValueError):  # The text only looks like a URL.
            yield urlsplit(found[0])


def _texts(value: object) -> Iterator[str]:
    """Every text within a value."""
    if isinstance(value, str):
        yield str(value)
    elif isinstance(value, bytes):
        yield value.decode("utf-8", "replace")
    elif isinstance(value, Mapping):
        for inner in value.values():  # pyright: ignore[reportUnknownVariableType]
            yield from _texts(inner)  # pyright: ignore[reportUnknownArgumentType]
    elif isinstance(value, (list, tuple, set, frozenset)):
        for inner in value:  # pyright: ignore[reportUnknownVariableType]
            yield from _texts(inner)  # pyright: ignore[reportUnknownArgumentType]
    elif _fields(value):
        for field in _fields(value):
            yield from _texts(getattr(value, field.name, None))
    elif isinstance(value, (int, float, PurePath)) and not isinstance(value, bool):
        yield str(value)


def _forms(secret: str) -> Iterator[str]:
    """The secret as it may occur: plain, in a URL, quotes, HTML, hexadecimal digits, base64."""
    for text in {
        secret,
        _quoted(secret, "/"),
        _quoted(secret),
        _quoted(secret).replace("%20", "+"),
    }:
        for spelt in {text, re.sub("%[0-9A-F]{2}", lambda found: found[0].lower(), text)}:
            yield spelt
            as_json = (json.dumps(spelt, ensure_ascii=only) for only in (True, False))
            for quoted in (repr(spelt), ascii(spelt), *as_json):
                yield quoted[1:-1]
                yield repr(quoted[1:-1])[1:-1]
    data = secret.encode("utf-8", "surrogatepass")
    yield repr(data)[2:-1]
    yield from (escape(secret), escape(secret, quote=False), data.hex(), data.hex().upper())
    yield from _in_base64(data)


def _quoted(text: str, safe: str = "") -> str:
    """The text quoted for a URL; a text from the environment may not be all UTF-8."""
    return quote(text, safe, errors="surrogatepass")


def _in_base64(data: bytes) -> Iterator[str]:
    """The base64 of the bytes within any text, once for each position in a group of three."""
    for lead in range(3):
        start, end = -(-lead * 8 // 6), (lead + len(data)) * 8 // 6
        for encode in (b64encode, urlsafe_b64encode):
            yield encode(b"\0" * lead + data).decode("ascii")[start:end]


Owner = weakref.ref[object]
"""An owner of secrets, while it exists."""


@attrs.frozen
class _Search:
    """The texts to search for, prepared."""

    state: object
    """The state of the known secrets for which this was prepared."""
    forms: tuple[str, ...] = ()
    """The forms, the longest first: a part of a secret must not be masked before the whole."""
    words: re.Pattern[str] | None = None
    longest: int = 1
    """The length of the longest text, at least one."""
    owners: tuple[Owner, ...] = ()

    @classmethod
    def of(cls, secrets: Collection[Secrets], owners: Iterable[Owner], state: object) -> _Search:
        names = {name for each in secrets for name in each.names}
        whole = {text for each in secrets for text in each.whole if len(text) >= SHORTEST}
        words = {text for each in secrets for text in each.words if len(text) >= SHORTEST}
        forms = {form for text in whole for form in _forms(text) if len(form) >= SHORTEST}
        spelt = {form for word in words - names for form in (word, _quoted(word))}
        pattern = None
        if spelt:
            choice = "|".join(map(re.escape, sorted(spelt, key=len, reverse=True)))
            pattern = re.compile(rf"(?<![\w-])(?:{choice})(?![\w-])")
        longest = max(map(len, forms | spelt), default=1)
        by_length = tuple(sorted(forms, key=len, reverse=True))
        return cls(state, by_length, pattern, longest, tuple(owners))

    def is_current(self) -> bool:
        """Whether these are the known secrets still, and their owners are there."""
        return self.state is _state and all(owner() is not None for owner in self.owners)

    def mask(self, text: str) -> str:
        for form in self.forms:
            if form in text:
                text = text.replace(form, MASK)
        return text if self.words is None else self.words.sub(MASK, text)


_known: dict[int, tuple[Owner, Secrets]] = {}
"""The secrets of each owner, by its identity. No callback is told of an owner's end: it would run
at any moment, where the recursion is at its limit too, and fail there."""
_state = object()
"""Another object after each change of `_known`."""
_search = _Search(_state)


def know(owner: object, secrets: Secrets) -> None:
    """Mask these secrets from now on, until `forget` or the end of their owner.

    Args:
        owner: the owner of the secrets; these replace its earlier ones.
        secrets: the secrets.
    """
    _known[id(owner)] = (weakref.ref(owner), secrets)
    _change()


def forget(owner: object) -> None:
    """Stop masking an owner's secrets."""
    _known.pop(id(owner), None)
    _change()


def _change() -> None:
    global _state  # noqa: PLW0603 - other threads see the one or the other
    _state = object()


def mask(text: str) -> str:
    """The text, with `***` in place of every known secret."""
    return _current_search().mask(text)


def mask_beginning(text: str, longest: int = LONGEST) -> str:
    """The text like `mask`, or the beginning of a text that has more than `longest` characters.

    No part of a secret is left at the end of a beginning.
    """
    if len(text) <= longest:
        return mask(text)
    search = _current_search()
    # A secret that is cut in two begins within its length before the cut, and masking only shortens
    # the text: without as many characters of the masked text nothing of the secret is left.
    beginning = search.mask(text[: longest + search.longest])[: -search.longest]
    return f"{beginning}… ({len(text) - longest} more characters)"


def _current_search() -> _Search:
    global _search  # noqa: PLW0603 - one assignment, which other threads see as a whole
    search = _search
    while not search.is_current():  # Another thread may change it meanwhile.
        state = _state
        for key, known in list(_known.items()):
            if known[0]() is None and _known.get(key) is known:
                del _known[key]
        known_now = list(_known.values())
        owners = [owner for owner, _ in known_now]
        search = _search = _Search.of([secrets for _, secrets in known_now], owners, state)
    return search
