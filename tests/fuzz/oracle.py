"""Our server beside h11: a conversation in memory, as each of them reads it.

Owns the rule that our server accepts nothing that h11 refuses, and the forms that are exempt from
it; and the rule that h11, as a client, reads each of our responses as the application meant it.
Never knows how the bytes were made.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import cycle, zip_longest
from typing import Any, cast

import attrs
import h11
import structlog
import trio

from trivet._web._server._connection import Connection
from trivet._web._server._known_heads import KnownHeads
from trivet._web._server._request import CONTINUE
from trivet._web._server._transport import Transport

from .framing import Answer, Conversation

Fields = list[tuple[bytes, bytes]]

EXEMPT = {
    "blank lines before a request": "RFC 9112, 2.2: a server should ignore at least one",
    "a connection of HTTP/1.0 that is kept": "RFC 9112, 9.3: if the client asks for `keep-alive`",
    "a chunk's size with more than 20 digits": "RFC 9112, 7.1: any number of digits; here, zeros",
}
"""The forms that our server accepts and h11 does not, each with its reason."""

_BLANK_LINES = re.compile(rb"\A(?:\r?\n)*")
_ZEROS = re.compile(rb"(?<=\r\n)0+(?=[0-9A-Fa-f]{20})")
_NUMBER = b"x-number"
"""The header of a response of the application; the server's own have none."""


@attrs.define
class Asked:
    """One request, as a server has read it."""

    method: bytes
    target: bytes
    version: bytes
    headers: Fields
    body: bytes = b""
    is_whole: bool = False

    @property
    def keeps_alive_on_1_0(self) -> bool:
        """Whether the client speaks HTTP/1.0 and asks for the connection to be kept."""
        values = b",".join(value for name, value in self.headers if name == b"connection")
        tokens = {token.strip().lower() for token in values.split(b",")}
        return self.version == b"1.0" and b"keep-alive" in tokens and b"close" not in tokens


def _as_h11_writes(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    return (name, value.lower() if name == b"transfer-encoding" else value)


@attrs.define
class Ours:
    """The application on our server: the requests that it was given, and the data sent for them."""

    answers: list[Answer]
    asked: list[Asked] = attrs.field(factory=list[Asked])

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        answer = self.answers[len(self.asked) % len(self.answers)]
        asked = Asked(
            scope["method"].encode(),
            scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b""),
            scope["http_version"].encode(),
            [_as_h11_writes(*header) for header in scope["headers"]],
        )
        self.asked.append(asked)
        while answer.reads_body and not asked.is_whole:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            asked.body += message["body"]
            asked.is_whole = not message["more_body"]
        headers = [(_NUMBER, b"%d" % len(self.asked))]
        if answer.has_length:
            headers.append((b"content-length", b"%d" % len(answer.body)))
        if answer.closes:
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        for part in answer.parts:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class InMemory:
    """A transport whose client has sent everything, and reads everything."""

    client = server = None
    is_closed = is_reading = is_secure = is_sending = False

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = [piece for piece in pieces if piece]
        self.sent = bytearray()

    async def open(self) -> bool:
        """There is nothing to prepare."""
        return True

    async def receive(self) -> bytes:
        """The next piece; empty at the end."""
        await trio.lowlevel.checkpoint()
        return self._pieces.pop(0) if self._pieces else b""

    def send_some(self, data: bytes) -> int:
        """Take the data."""
        self.sent += data
        return len(data)

    async def send_all(self, data: bytes) -> None:
        """Take the data."""
        self.send_some(data)

    async def lingering_close(self) -> None:
        """End."""
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        """End."""


def theirs(data: bytes, count: int) -> list[Asked]:
    """The requests that h11 reads, at most `count` and up to its refusal.

    Each of them is given to an h11 of its own, because the exempt forms are mostly between two
    requests.
    """
    found: list[Asked] = []
    try:
        while len(found) < count:
            connection = h11.Connection(h11.SERVER)
            connection.receive_data(_BLANK_LINES.sub(b"", data))
            request = connection.next_event()
            if not isinstance(request, h11.Request):
                break
            found.append(
                Asked(request.method, request.target, request.http_version, list(request.headers))
            )
            if not (_reads_body(connection, found[-1]) and _is_kept(connection, found[-1])):
                break
            data, _ = connection.trailing_data
    except h11.RemoteProtocolError:
        pass
    return found


def _reads_body(connection: h11.Connection, asked: Asked) -> bool:
    """Read a body; return whether it is whole."""
    event = connection.next_event()
    while isinstance(event, h11.Data):
        asked.body += bytes(event.data)
        event = connection.next_event()
    asked.is_whole = isinstance(event, h11.EndOfMessage)
    return asked.is_whole


def _is_kept(connection: h11.Connection, asked: Asked) -> bool:
    """Whether another request may follow."""
    connection.send(h11.Response(status_code=404, headers=[("Content-Length", "0")]))
    connection.send(h11.EndOfMessage())
    return connection.our_state is h11.DONE or asked.keeps_alive_on_1_0


@attrs.frozen
class Answered:
    """A response, as a client has read it."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes

    @property
    def closes(self) -> bool:
        """Whether the request is the last of its connection."""
        return self.headers.get(b"connection") == b"close"


async def differences(planned: Conversation) -> list[str]:
    """Hold a conversation with our server; return each fault that h11 shows."""
    app, transport = Ours(planned.answers), InMemory(planned.pieces)
    connection = Connection(
        app,
        cast("Transport", transport),
        KnownHeads(None),
        max_message=1,
        contains_interrupts=False,
    )
    with structlog.testing.capture_logs() as logs:
        await connection.run()
    data = b"".join(planned.pieces)
    misunderstood = list(_misunderstood(app.asked, data))
    if misunderstood and _ZEROS.search(data):
        misunderstood = list(_misunderstood(app.asked, _ZEROS.sub(b"", data)))
    wrong = [str(log) for log in logs if log["event"] != "request refused"]
    return [*wrong, *misunderstood, *_misread(app, bytes(transport.sent))]


def _misunderstood(asked: list[Asked], data: bytes) -> Iterator[str]:
    """The requests that our server has accepted, and that h11 refuses or reads otherwise."""
    for ours, other in zip_longest(asked, theirs(data, len(asked))):
        if ours is None or other is None or not _is_same(ours, other):
            yield f"accepted {ours}, where h11 has {other}"


def _is_same(ours: Asked, other: Asked) -> bool:
    """Whether h11 has read the request of our server, whose application may leave a body."""
    if ours.is_whole:
        return ours == other
    is_begun = other.body.startswith(ours.body)
    return is_begun and attrs.evolve(ours, body=other.body, is_whole=other.is_whole) == other


def _misread(app: Ours, sent: bytes) -> Iterator[str]:
    """The responses that h11 does not read as the application meant them."""
    is_over = False
    try:
        for asked, answer in zip(app.asked, cycle(app.answers), strict=False):
            if is_over:
                yield f"a request was served behind the last response: {asked}"
            if sent in (b"", CONTINUE) and asked is app.asked[-1] and not asked.is_whole:
                return  # The client has left.
            answered, sent = _answered(asked.method, sent)
            is_over = answered.closes
            if _NUMBER not in answered.headers:
                yield from _wrong_refusal(answered, sent)
                return
            has_body = answer.status not in (204, 304) and asked.method != b"HEAD"
            meant = answer.status, answer.body if has_body else b""
            if (answered.status, answered.body) != meant:
                yield f"{asked} was answered with {answered}, and not with {answer}"
        if sent and not is_over:
            answered, sent = _answered(b"GET", sent)
            yield from _wrong_refusal(answered, sent)
        elif sent:
            yield f"data was sent behind the last response: {sent!r}"
    except h11.RemoteProtocolError as error:
        yield f"a response cannot be read: {error!r}, {sent!r}"


def _wrong_refusal(answered: Answered, rest: bytes) -> Iterator[str]:
    """The faults of a response of the server itself, which is the last of its connection."""
    if _NUMBER in answered.headers or answered.status < 400 or not answered.closes or rest:
        yield f"{answered} is no refusal; {rest!r} follows it"


def _answered(method: bytes, sent: bytes) -> tuple[Answered, bytes]:
    """The next response in the data that our server has sent, and the data behind it.

    CONNECT is no tunnel here: its response is like that to GET.
    """
    client = h11.Connection(h11.CLIENT)
    method = b"GET" if method == b"CONNECT" else method
    client.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
    client.send(h11.EndOfMessage())
    client.receive_data(sent)
    client.receive_data(b"")
    event = client.next_event()
    while isinstance(event, h11.InformationalResponse):
        event = client.next_event()
    assert isinstance(event, h11.Response), event
    response, body = event, b""
    while isinstance(event := client.next_event(), h11.Data):
        body += bytes(event.data)
    assert isinstance(event, h11.EndOfMessage), event
    return Answered(response.status_code, dict(response.headers), body), client.trailing_data[0]
