"""The response to a plain return value of a plugin's route, as Quart makes it.

Owns which return values are plain, their encoding, and the headers.
Never knows what a return value that is not plain means.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http import HTTPStatus
from json import JSONEncoder
from json import encoder as json_encoder
from typing import Any, cast

from quart import Quart
from quart.json.provider import DefaultJSONProvider, JSONProvider

JSON_TYPE, TEXT_TYPE = b"application/json", b"text/html; charset=utf-8"
_WITHOUT_BODY = (HTTPStatus.NO_CONTENT, HTTPStatus.RESET_CONTENT, HTTPStatus.NOT_MODIFIED)
_PLAIN_HEADERS = frozenset({b"content-length", b"content-type", b"transfer-encoding"})

PlainResponse = tuple[int, list[tuple[bytes, bytes]], bytes]
"""The status, the headers (the first two are the type and the length), and the body."""


def plain_response(app: Quart, answer: object) -> PlainResponse | None:
    """The response to a plain return value; None for any other value.

    Args:
        app: the Quart application, whose settings count.
        answer: the return value.
    """
    status: Any = 200
    given: Any = {}
    if isinstance(answer, tuple):
        parts = cast("tuple[object, ...]", answer)
        if len(parts) == 2 and type(parts[1]) is dict:
            answer, given = parts
        elif len(parts) == 2:
            answer, status = parts
        elif len(parts) == 3 and type(parts[2]) is dict:
            answer, status, given = parts
        else:
            return None
        if type(status) not in (int, HTTPStatus) or not 200 <= status <= 599:
            return None
        if status in _WITHOUT_BODY:
            return None
    encoded = _encoded(app, answer)
    if encoded is None:
        return None
    media_type, body = encoded
    headers = [(b"content-type", media_type), (b"content-length", b"%d" % len(body))]
    if given and not _add(given, headers):
        return None
    return int(status), headers, body


def _encoded(app: Quart, answer: object) -> tuple[bytes, bytes] | None:
    """The media type and the body; None for a value of another type, or a faulty one."""
    kind = type(answer)
    try:
        if kind is dict or kind is list:
            if _is_stock(app.json) and not app.config["DEBUG"]:
                return JSON_TYPE, f"{_encode(answer)}\n".encode()
        elif kind is str:
            return TEXT_TYPE, cast("str", answer).encode()
        elif kind is bytes:
            return TEXT_TYPE, cast("bytes", answer)
    except Exception:  # Quart encodes it again, and tells whose fault it is.
        return None
    return None


def make_encoder() -> Callable[[object], str]:
    """A function that writes a document as Quart does by default, or raises.

    The standard library makes its encoder in C anew for each document, which takes three times as
    long as to use it.
    """
    stock = JSONEncoder(
        separators=(",", ":"),
        ensure_ascii=DefaultJSONProvider.ensure_ascii,
        sort_keys=DefaultJSONProvider.sort_keys,
        default=DefaultJSONProvider.default,
    )
    make: Any = getattr(json_encoder, "c_make_encoder", None)
    if make is None or not stock.ensure_ascii:
        return stock.encode
    flags = stock.sort_keys, stock.skipkeys, stock.allow_nan
    escape = json_encoder.encode_basestring_ascii
    in_c = make(None, stock.default, escape, None, ":", ",", *flags)
    return lambda document: "".join(in_c(document, 0))


_encode = make_encoder()


def _is_stock(json: JSONProvider) -> bool:
    """Whether documents are written as Quart does by default: no setting of the writer is set."""
    return type(json) is DefaultJSONProvider and len(vars(json)) == 1  # The application alone.


def _add(given: Mapping[Any, Any], headers: list[tuple[bytes, bytes]]) -> bool:
    """Add a handler's headers to those of the body; says whether all of them are plain."""
    for name, value in given.items():
        if type(name) is not str or type(value) is not str:
            return False
        if not (name.isascii() and value.isascii() and value.isprintable()):
            return False
        header = name.lower().encode(), value.encode()
        if header[0] in _PLAIN_HEADERS or any(header[0] == known for known, _ in headers):
            return False
        headers.append(header)
    return True
