"""ASGI's types: scopes, messages, and the callables that pass them on.

Owns the keys that Trivet reads and writes; servers and frameworks know more of them.
Never knows which server calls, nor which framework answers.

The names `Scope`, `Receive`, `Send` and `ASGIApp` are Starlette's.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Literal, NotRequired, TypedDict

Headers = Iterable[tuple[bytes, bytes]]
"""Names, in lower case where they come from a server, and values."""

RESPOND = "trivet.respond"
"""The extension of Trivet's own server that sends a whole response in one step. Its value is a
`Respond`."""

REQUEST_SCOPE = "trivet.scope"
"""The extension of Trivet's own server with the `trio.CancelScope` around the requests of one
connection: to cancel it ends the current request, and the connection after its response."""


class ClientScope(TypedDict):
    """The part that the scopes of a request and of a websocket share."""

    asgi: NotRequired[Mapping[str, str]]
    http_version: str
    scheme: NotRequired[str]
    path: str
    raw_path: NotRequired[bytes | None]
    query_string: bytes
    root_path: NotRequired[str]
    headers: Headers
    client: NotRequired[tuple[str, int | None] | None]
    server: NotRequired[tuple[str, int | None] | None]
    extensions: NotRequired[Mapping[str, Any] | None]


class HttpScope(ClientScope):
    """One HTTP request."""

    type: Literal["http"]
    method: str


class WebsocketScope(ClientScope):
    """One websocket."""

    type: Literal["websocket"]
    subprotocols: NotRequired[list[str]]


class LifespanScope(TypedDict):
    """The life of the server."""

    type: Literal["lifespan"]


class HttpRequest(TypedDict):
    """A part of a request's body."""

    type: Literal["http.request"]
    body: bytes
    more_body: bool


class WebsocketReceive(TypedDict):
    """A message from the client; one of the two is None."""

    type: Literal["websocket.receive"]
    bytes: NotRequired[bytes | None]
    text: NotRequired[str | None]


class WebsocketDisconnect(TypedDict):
    """The end of a websocket."""

    type: Literal["websocket.disconnect"]
    code: int
    reason: str | None


class Received(TypedDict):
    """Any other message from the server: it has nothing but a type that is read here."""

    type: Literal[
        "http.disconnect",
        "websocket.connect",
        "websocket.disconnect",
        "lifespan.startup",
        "lifespan.shutdown",
    ]


class ResponseStart(TypedDict):
    """The head of a response."""

    type: Literal["http.response.start"]
    status: int
    headers: Headers


class ResponseBody(TypedDict):
    """A part of a response's body."""

    type: Literal["http.response.body"]
    body: NotRequired[bytes]
    more_body: NotRequired[bool]


class WebsocketAccept(TypedDict):
    """The answer that opens a websocket."""

    type: Literal["websocket.accept"]
    subprotocol: str | None
    headers: Headers


class WebsocketSend(TypedDict):
    """A message to the client; one of the two is None."""

    type: Literal["websocket.send"]
    bytes: bytes | None
    text: str | None


class WebsocketClose(TypedDict):
    """The end of a websocket, or the refusal of its handshake."""

    type: Literal["websocket.close"]
    code: int
    reason: str | None


class WebsocketResponseStart(TypedDict):
    """The head of a response to a handshake that is refused."""

    type: Literal["websocket.http.response.start"]
    status: int
    headers: Headers


class WebsocketResponseBody(TypedDict):
    """A part of the body of such a response."""

    type: Literal["websocket.http.response.body"]
    body: bytes
    more_body: bool


class LifespanComplete(TypedDict):
    """The program has started, or stopped."""

    type: Literal["lifespan.startup.complete", "lifespan.shutdown.complete"]


class LifespanFailed(TypedDict):
    """The program has not started, or not stopped as it should."""

    type: Literal["lifespan.startup.failed", "lifespan.shutdown.failed"]
    message: str


Scope = HttpScope | WebsocketScope | LifespanScope
ReceiveMessage = HttpRequest | WebsocketReceive | WebsocketDisconnect | Received
SendMessage = (
    ResponseStart
    | ResponseBody
    | WebsocketAccept
    | WebsocketSend
    | WebsocketClose
    | WebsocketResponseStart
    | WebsocketResponseBody
    | LifespanComplete
    | LifespanFailed
)
Receive = Callable[[], Awaitable[ReceiveMessage]]
Send = Callable[[SendMessage], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]
Respond = Callable[[int, Headers, bytes, float], Awaitable[None]]
"""Sends the status, the headers and the body of a whole response. The seconds are the limit of a
send that has to wait for the client; a cancellation does not end it before."""
