"""Inputs of clients: requests, events, forms, frames and settings, nearly right or not.

Owns the making of inputs from a number. The same number makes the same input, on any machine.
Never knows what is right.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any, Literal

import attrs

Ending = Literal["reads", "half closes", "leaves", "resets", "does not read"]

METHODS = [b"GET", b"POST", b"HEAD", b"PUT", b"OPTIONS", b"DELETE", b"get", b"Head", b"BREW", b""]
TARGETS = [
    b"/",
    b"/livez",
    b"/readyz",
    b"/plugins",
    b"/json",
    b"/form",
    b"/text",
    b"/all?a=%ff&b=c;d",
    b"/rows",
    b"/events/ordered",
    b"/events/ordered?wait=true",
    b"/events/kept?expirytime=x",
    b"/events/nope",
    b"/events",
    b"/events/",
    b"*",
    b"?x",
    b"",
    b"//x",
    b"/%00",
    b"/%zz",
    b"/../..",
    b"http://x/",
    b"http://[",
    b"http://%E2%84%80/",
    b"x:80",
    b"/-/plugins/desk/restart",
    b"/echo",
    b"/news",
    b"/" + b"a" * 9000,
    b"/caf\xc3\xa9",
    b"/all?" + b"a=b&" * 1500,
]
HEADERS = [
    b"Host: localhost",
    b"Host: ..",
    b"Host:",
    b"Host: [::1]:80",
    b"Host: " + b"a" * 300,
    b"Host: x/y",
    b"Connection: close",
    b"Connection: keep-alive",
    b"Connection: upgrade, \xff",
    b"Expect: 100-continue",
    b"Expect: else",
    b"Upgrade: h2c",
    b"Upgrade: websocket",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: gzip",
    b"Content-Length: 5",
    b"Content-Length: -1",
    b"Content-Length: 0x5",
    b"Content-Length: 99999999999999999999",
    b"Content-Type: application/json",
    b"Content-Type: application/x-ndjson",
    b"Content-Type: application/cloudevents+json",
    b"Content-Type: application/cloudevents-batch+json",
    b"Content-Type: multipart/form-data; boundary=b",
    b"Content-Type: multipart/form-data",
    b"Content-Type: application/x-www-form-urlencoded",
    b"Content-Type: \xff; charset=\xff",
    b"Range: bytes=-5",
    b"Range: bytes=0-0,2-3",
    b"Range: x",
    b"Authorization: Basic \xff",
    b"Authorization: Bearer \xe9",
    b'Authorization: Digest a="',
    b"Cookie: a=\xff; =; ;;",
    b"If-None-Match: *",
    b"If-Modified-Since: 99 Jan 99999",
    b"Accept: */*;q=x",
    b"ce-specversion: 1.0",
    b"ce-id: 1",
    b"ce-type: ordered",
    b"ce-source: /x",
    b"ce-time: 9999-12-31T23:59:60Z",
    b"ce-expirytime: 9999-12-31T23:59:59Z",
    b"ce-source: %ff%",
    b"Luna-Request-Id: \x7f",
    b"traceparent: 00-0",
    b"Idempotency-Key: \xff",
    b" folded",
    b"No colon",
    b"X-Space : y",
    b": empty",
    b"X-Long: " + b"a" * 20_000,
]
UPGRADE = (
    b"GET /echo HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
TEXTS = [
    "",
    "a",
    "é\u2028",
    "\ud800",
    "\0",
    "a" * 300,
    "2026-01-01T00:00:00Z",
    "ordered",
    "1e999",
    "-0",
]


@attrs.frozen
class Visit:
    """One client's use of one connection."""

    pieces: list[bytes]
    requests: int
    ending: Ending
    is_websocket: bool = False


def visit(seed: int, number: int) -> Visit:
    """The visit with a number."""
    dice = random.Random(f"{seed} {number}")
    kind = dice.randrange(10)
    if kind == 0:
        frames = b"".join(_frame(dice) for _ in range(dice.randint(0, 12)))
        pieces = [mutated(dice, UPGRADE, 0.1), *cut(dice, mutated(dice, frames, 0.3))]
        return Visit(pieces, 1, _ending(dice), is_websocket=True)
    makers: list[Callable[[random.Random], bytes]] = [_request, _event, _event, _form]
    requests = [dice.choice(makers)(dice) for _ in range(dice.randint(1, 8))]
    data = mutated(dice, b"".join(requests), 0.15)
    return Visit(cut(dice, data), len(requests), _ending(dice))


def settings_file(seed: int, number: int) -> bytes:
    """A settings file with a number."""
    dice = random.Random(f"{seed} {number} settings")
    keys = [
        "service",
        "bind",
        "max_body",
        "max_connections",
        "active_plugins",
        "plugins",
        "stalls.warn",
        "shutdown.drain",
        "log.level",
        "store.path",
        "hang_limit",
        "tokens",
        "open_events",
        "nonsense",
        "plugins.desk.delivery.buffer",
        "restarts.max_restarts",
        "event_types",
    ]
    values = [
        '"a"',
        '"127.0.0.1:0"',
        "1",
        "-1",
        "1.5",
        "nan",
        "inf",
        "true",
        "[]",
        '["a"]',
        "[1]",
        "{}",
        '{a = {b = "c"}}',
        "1979-05-27",
        '""',
        "9" * 30,
        '"\\u0000"',
        "'''x\ny'''",
    ]
    lines = [f"{dice.choice(keys)} = {dice.choice(values)}" for _ in range(dice.randint(0, 6))]
    return mutated(dice, "\n".join(lines).encode(), 0.3)


def _ending(dice: random.Random) -> Ending:
    endings: list[Ending] = ["half closes", "leaves", "resets", "does not read"]
    return dice.choice(endings) if dice.random() < 0.3 else "reads"


def _request(dice: random.Random) -> bytes:
    """A request of any kind."""
    wild = dice.random() < 0.3
    method = dice.choice(METHODS if wild else METHODS[:3])
    target = dice.choice(TARGETS if wild else TARGETS[:15])
    headers = dice.sample(HEADERS, dice.randint(0, 6) if wild else dice.choice([0, 0, 1, 1, 2]))
    if dice.random() < 0.95:
        headers = [
            b"Host: localhost",
            *(header for header in headers if not header.startswith(b"Host")),
        ]
    versions = [b"HTTP/1.0", b"HTTP/2.0", b"HTTP/0.9", b"HTTP/1.1 "]
    version = dice.choice(versions) if dice.random() < 0.05 else b"HTTP/1.1"
    trailer = b"1;x=y\r\na\r\n0\r\nT: t\r\n\r\n"
    bodies = [b"hello", b"5\r\nhello\r\n0\r\n\r\n", trailer, b"\r\n"]
    has_body = any(header.startswith((b"Content-L", b"Transfer")) for header in headers)
    body = dice.choice(bodies) if has_body or dice.random() < 0.1 else b""
    return b"\r\n".join([method + b" " + target + b" " + version, *headers, b"", b""]) + body


def _post(
    dice: random.Random, path: bytes, media_type: bytes, body: bytes, *headers: bytes
) -> bytes:
    """A correct request with a body, of known length or in chunks."""
    lines = [
        b"POST " + path + b" HTTP/1.1",
        b"Host: localhost",
        b"Content-Type: " + media_type,
        *headers,
    ]
    if dice.random() < 0.8:
        lines.append(b"Content-Length: %d" % len(body))
        return b"\r\n".join([*lines, b"", b""]) + body
    size = dice.choice([1, 7, 1000])
    pieces = [body[at : at + size] for at in range(0, len(body), size)][:3000]
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return b"\r\n".join([*lines, b"Transfer-Encoding: chunked", b"", b""]) + chunks + b"0\r\n\r\n"


def _event(dice: random.Random) -> bytes:
    """An event, or several, in one of the accepted forms."""
    event = {"order_id": dice.choice(TEXTS), "extra": _value(dice, 4)}
    name = dice.choice(["ordered", "kept", "picky"])
    cloud = {"specversion": "1.0", "id": "1", "source": "/x", "type": name, "data": event}
    if dice.random() < 0.5:
        key = dice.choice(
            [*cloud, "time", "expirytime", "partitionkey", "datacontenttype", "data_base64"]
        )
        cloud[key] = _value(dice, 1)
    wait = dice.choice([b"", b"", b"?wait=true"])
    path = b"/events/" + name.encode() + wait
    form = dice.randrange(6)
    if form == 0:
        lines = [
            _json(dice, dice.choice([event, _value(dice, 3)])) for _ in range(dice.randint(0, 40))
        ]
        body = dice.choice([b"\n", b"\r\n", b"\n\n"]).join(lines)
        return _post(dice, path, b"application/x-ndjson", mutated(dice, body, 0.3))
    if form == 1:
        return _post(dice, b"/events" + wait, b"application/cloudevents+json", _json(dice, cloud))
    if form == 2:
        batch = [cloud] * dice.randint(0, 20) + [_value(dice, 2)] * dice.randint(0, 2)
        return _post(
            dice, b"/events" + wait, b"application/cloudevents-batch+json", _json(dice, batch)
        )
    if form == 3:
        ce = [
            b"ce-%s: %s" % (key.encode(), _json(dice, value)[:100].strip(b'"'))
            for key, value in cloud.items()
            if key != "data"
        ]
        return _post(dice, b"/events" + wait, b"application/json", _json(dice, event), *ce)
    body = _json(dice, event if form == 4 else _value(dice, 6))
    return _post(
        dice,
        dice.choice([path, b"/json", b"/text"]),
        b"application/json",
        mutated(dice, body, 0.3),
    )


def _form(dice: random.Random) -> bytes:
    """A form in one of the encodings of HTML."""
    if dice.random() < 0.4:
        body = b"&".join(
            dice.choice([b"a=b", b"%ff", b"=", b"", b"a" * 2000, b"%"]) for _ in range(20)
        )
        return _post(
            dice, b"/form", b"application/x-www-form-urlencoded", body * dice.choice([1, 1, 100])
        )
    heads = [
        b"Content-Disposition: form-data; name=a",
        b"Content-Disposition: form-data; filename=f; name=b",
        b"Content-Disposition: form-data; name*=utf-8''%ff",
        b"X: y",
        b"Content-Type: text/plain; charset=x",
        b'Content-Disposition: x; name="' + b'\\"' * 200,
        b"a:\r\n" * 200,
    ]
    parts = [
        b"--b\r\n"
        + b"\r\n".join(dice.sample(heads, dice.randint(0, 3)))
        + b"\r\n\r\n"
        + dice.randbytes(20)
        for _ in range(dice.choice([0, 1, 3, 50, 1200]))
    ]
    body = mutated(dice, b"\r\n".join([*parts, dice.choice([b"--b--\r\n", b"--b", b""])]), 0.3)
    return _post(dice, b"/form", b"multipart/form-data; boundary=b", body)


def _frame(dice: random.Random) -> bytes:
    """A frame of a websocket, nearly right or not."""
    first = dice.choice(
        [0x81, 0x82, 0x89, 0x8A, 0x01, 0x02, 0x00, 0x80] * 4 + [0x88, dice.randrange(256)]
    )
    payload = dice.choice(
        [b"", b"hello", "é\U0001f600".encode(), b"\xff", b"\x03\xe8", b"x" * 200, b"x" * 70_000]
    )
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else b"\xff" + size.to_bytes(8, "big")
    return bytes([first]) + length + bytes(4) + payload


def _value(dice: random.Random, depth: int) -> Any:
    """A value that JSON can express, or one that it cannot."""
    kind = dice.randrange(9 if depth else 6)
    if kind < 6:
        numbers = [0, -1, 10**400, 1e308, float("nan"), float("inf"), 2**64]
        return [
            None,
            True,
            dice.choice(TEXTS),
            dice.choice(numbers),
            dice.random(),
            dice.randint(-9, 9),
        ][kind]
    some = [_value(dice, depth - 1) for _ in range(dice.randint(0, 4))]
    if kind == 6:
        return {dice.choice(TEXTS): value for value in some}
    nested: Any = some
    for _ in range(dice.choice([0, 0, 0, 70, 1200]) if kind == 8 else 0):
        nested = [nested]
    return nested


def _json(dice: random.Random, value: Any) -> bytes:
    """A JSON document, or nearly one."""
    try:
        return json.dumps(value, ensure_ascii=dice.random() < 0.5).encode("utf-8", "surrogatepass")
    except RecursionError:
        return b"[" * 3000


def mutated(dice: random.Random, data: bytes, chance: float) -> bytes:
    """The bytes as they are, or with some changed, left out, doubled or moved."""
    if not data or dice.random() > chance:
        return data
    made = bytearray(data)
    for _ in range(dice.randint(1, 4)):
        at, end = sorted(dice.randrange(len(made) + 1) for _ in range(2))
        end = min(end, at + dice.choice([1, 4, 40]))
        change = dice.randrange(5)
        if change == 0 and at < len(made):
            made[at] = dice.choice([0, 10, 13, 32, 58, 127, 128, 255, dice.randrange(256)])
        elif change == 1:
            del made[at:end]
        elif change == 2:
            made[at:at] = made[at:end] * dice.choice([1, 2, 50])
        elif change == 3:
            made[at:at] = dice.randbytes(dice.randint(1, 9))
        else:
            del made[at + 1 :]
    return bytes(made)


def cut(dice: random.Random, data: bytes) -> list[bytes]:
    """The pieces in which the bytes are sent."""
    if dice.random() < 0.6 or len(data) < 2:
        return [data]
    cuts = sorted(dice.randrange(len(data)) for _ in range(dice.randint(1, 5)))
    return [data[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
