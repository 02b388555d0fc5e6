"""The fast path: ingest, probes and administration, answered without the web framework.

Owns the endpoint of a method and path, how such a request is read, and the form of its response.
Never knows what an endpoint does; a request without an endpoint goes to the framework.
"""

from __future__ import annotations

import codecs
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from functools import cached_property, lru_cache, partial
from http import HTTPStatus
from typing import TypeVar
from urllib.parse import parse_qsl, quote

import attrs
import msgspec
import trio

from .._access._tokens import Scope
from .._faults._containment import open_transparent_nursery
from .._runtime import Runtime
from ._asgi import ASGIApp, HttpScope, Receive, Send
from ._asgi import Scope as AsgiScope
from ._bodies import Body, receive_body
from ._context import current_context
from ._crashes import report_crash
from ._doors import Doors
from ._problems import MEDIA_TYPE, ProblemError
from ._senders import HttpSender
from ._targets import path_within

T = TypeVar("T")


Headers = list[tuple[bytes, bytes]]


@attrs.frozen
class Text:
    """A document that is not JSON."""

    media_type: str
    body: bytes
    headers: Headers = attrs.field(factory=Headers)
    """Further headers: names in lower case, and values."""


SendPart = Callable[[bytes], Awaitable[None]]
StreamWork = Callable[[SendPart], Awaitable[None]]


@attrs.frozen
class Stream:
    """A document that is sent part by part, until it is whole or the client disconnects."""

    media_type: str
    headers: Headers
    """Further headers: names in lower case, and values."""
    work: StreamWork
    """Sends the parts; a client that disconnects cancels it."""


EndpointResponse = tuple[object, int]
"""A document, which becomes JSON unless it is a `Text` or a `Stream`, and the status."""

_JSON = (b"content-type", b"application/json")
_PROBLEM = (b"content-type", MEDIA_TYPE.encode("ascii"))
_encoder = msgspec.json.Encoder(order="sorted")


def encode(document: object) -> bytes:
    """The body of a response."""
    return _encoder.encode(document) + b"\n"


QUERY_ERRORS = "trivet.escaped"
"""The error handler with which a query is decoded: bytes that are not UTF-8 stay escaped, as in
Quart."""


def _keep_escaped(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return quote(error.object[error.start : error.end], safe=""), error.end


codecs.register_error(QUERY_ERRORS, _keep_escaped)


class _ClientDisconnectedError(Exception):
    """The client has disconnected, and gets no response."""


class EndpointRequest:
    """One request, as its endpoint reads it.

    Args:
        scope: the server's.
        receive: the server's.
        variable: the value in the path of the rule's variable.
        limit: bytes that the body may have where it is read as a whole.
    """

    def __init__(self, scope: HttpScope, receive: Receive, variable: str, limit: int) -> None:
        self.variable = variable
        self._is_head = scope.get("method") == "HEAD"
        self.root_path = scope.get("root_path", "")
        """The path below which the program is served."""
        self._headers = list(scope["headers"])
        self._first = dict(reversed(self._headers))  # Names are in lower case.
        self._query = scope["query_string"]
        self._receive = receive
        self._limit = limit
        length, coding = self._first.get(b"content-length"), self._first.get(b"transfer-encoding")
        self._announced = _content_length(length, coding)
        has_no_body = length is None and coding is None and scope["http_version"].startswith("1")
        self._is_received = has_no_body or self._announced == 0
        self._body: Body | None = None

    @cached_property
    def headers(self) -> list[tuple[str, str]]:
        """Names in lower case, and values."""
        return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in self._headers]

    @property
    def media_type(self) -> str:
        """The body's media type, in lower case and without parameters; empty where none is given.

        >>> scope = {"http_version": "1.1", "query_string": b"", "path": "/", "type": "http",
        ...          "method": "POST", "headers": [(b"content-type", b"Text/CSV; header=absent")]}
        >>> EndpointRequest(scope, receive=None, variable="", limit=0).media_type
        'text/csv'
        """
        return media_type_of(self._first.get(b"content-type", b""))

    def query(self, name: str) -> str | None:
        """The first value of a name in the query."""
        return next(iter(self.queries(name)), None)

    def queries(self, name: str) -> list[str]:
        """All values of a name in the query."""
        if not self._query:
            return []
        pairs = parse_qsl(self._query.decode(), keep_blank_values=True, errors=QUERY_ERRORS)
        return [value for known, value in pairs if known == name]

    async def read(self) -> bytes:
        """The whole body.

        Raises:
            ProblemError: it is too large.
        """
        pieces: list[bytes] = []
        received, is_last = 0, False
        while True:
            if max(received, self._announced or 0) > self._limit:
                detail = f"the body may have {self._limit} bytes"
                raise ProblemError("body_too_large", detail, {"limit": self._limit})
            if is_last:
                return b"".join(pieces)
            message = await self._receive()
            if message["type"] != "http.request":
                raise _ClientDisconnectedError
            pieces.append(message["body"])
            received += len(message["body"])
            # The end of the body may come as a message of its own, which need not be waited for.
            self._is_received = is_last = not message["more_body"] or received == self._announced

    @property
    def body(self) -> Body:
        """The body, to be read in pieces within `while_connected`; it may have any length."""
        if self._body is None:
            self._body = Body(self._announced, None)
        return self._body

    async def while_connected(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do work that may take its time; it is cancelled if the client disconnects."""
        results: list[T] = []
        async with open_transparent_nursery() as nursery:
            nursery.start_soon(self._receive_body, nursery.cancel_scope)
            results.append(await work())
        if not results:
            raise _ClientDisconnectedError
        return results[0]

    async def _receive_body(self, work_scope: trio.CancelScope) -> None:
        await receive_body(self.body, self._receive)
        work_scope.cancel()

    async def respond(self, send: HttpSender, status: int, headers: Headers, body: bytes) -> None:
        """Send the response, and discard the rest of the body: a server waits until it is received.

        Args:
            send: the middleware's.
            status: the status.
            headers: names in lower case, and values.
            body: the body.
        """
        if self._is_received or (self._body is not None and self._body.is_complete):
            await send.respond(status, headers, body)
        else:
            self.body.discard()
            await self.while_connected(partial(send.respond, status, headers, body))

    async def stream(
        self,
        send: HttpSender,
        status: int,
        headers: Headers,
        work: Callable[[SendPart], Awaitable[None]],
    ) -> None:
        """Send a response part by part.

        Args:
            send: the middleware's.
            status: the status.
            headers: names in lower case, and values.
            work: sends the parts; a client that disconnects cancels it.
        """
        if self._is_head:
            await self.respond(send, status, headers, b"")
            return

        async def send_part(part: bytes) -> None:
            await send({"type": "http.response.body", "body": part, "more_body": True})

        await send({"type": "http.response.start", "status": status, "headers": headers})
        await self.while_connected(partial(work, send_part))
        await send({"type": "http.response.body", "body": b"", "more_body": False})


@lru_cache(maxsize=32)
def media_type_of(content_type: bytes) -> str:
    """The media type in a `Content-Type`; see `EndpointRequest.media_type`."""
    return content_type.decode("latin-1").partition(";")[0].strip(" \t").lower()


def _content_length(length: bytes | None, coding: bytes | None) -> int | None:
    """The length that the client has announced; None where there is none."""
    if length is None or coding == b"chunked":
        return None
    return int(length) if length.isdigit() else 0


EndpointHandler = Callable[[EndpointRequest], Awaitable[EndpointResponse]]


@attrs.frozen
class Endpoint:
    """A method, a rule, and the handler of the requests that match them."""

    method: str
    rule: str
    """A path in Quart's syntax; its last segment, the last but one, or both may be variables, or
    the last one and the last but two."""
    scope: Scope | None
    """The scope that it asks for; None for a public one."""
    handler: EndpointHandler


class Endpoints:
    """An ASGI application with a few endpoints, in front of one for all other requests.

    Args:
        fallback: the application for all other requests. It has the rules too, and answers other
            methods at the same paths.
        runtime: the program.
        doors: decides who may pass.
    """

    def __init__(self, fallback: ASGIApp, runtime: Runtime, doors: Doors) -> None:
        self._fallback = fallback
        self._doors = doors
        self._runtime = runtime
        self._exact: dict[tuple[str, str], Endpoint] = {}
        self._last: dict[tuple[str, str], Endpoint] = {}
        self._actions: dict[tuple[str, str, str], Endpoint] = {}
        self._pairs: dict[tuple[str, str], Endpoint] = {}
        self._nested: dict[tuple[str, str, str], Endpoint] = {}

    def add(self, method: str, rule: str, scope: Scope | None, handler: EndpointHandler) -> None:
        """Add an endpoint; one for GET is for HEAD too."""
        endpoint = Endpoint(method, rule, scope, handler)
        prefix, variable, rest = rule.partition("<")
        action = rest.partition(">")[2].removeprefix("/")
        for verb in ("GET", "HEAD") if method == "GET" else (method,):
            if not variable:
                self._exact[verb, rule] = endpoint
            elif not action:
                self._last[verb, prefix] = endpoint
            elif action.startswith("<"):
                self._pairs[verb, prefix] = endpoint
            elif "<" in action:
                self._nested[verb, prefix, action.partition("/")[0]] = endpoint
            else:
                self._actions[verb, prefix, action] = endpoint

    def __iter__(self) -> Iterator[Endpoint]:
        tables = self._exact, self._last, self._actions, self._pairs, self._nested
        return iter(dict.fromkeys(each for table in tables for each in table.values()))

    def find(self, method: str, path: str) -> tuple[Endpoint, str] | None:
        """The endpoint of a method and a path, with the value of its variable; None without one.

        Two variables are one value, with the `/` between them.
        """
        endpoint = self._exact.get((method, path))
        if endpoint is not None:
            return endpoint, ""
        prefix, _, last = path.rpartition("/")
        endpoint, variable = self._last.get((method, prefix + "/")), last
        if endpoint is None:
            prefix, _, variable = prefix.rpartition("/")
            endpoint = self._actions.get((method, prefix + "/", last))
        if endpoint is None and last:
            endpoint = self._pairs.get((method, prefix + "/"))
            if endpoint is None:
                name, (prefix, _, variable) = variable, prefix.rpartition("/")
                endpoint = self._nested.get((method, prefix + "/", name))
            return None if endpoint is None or not variable else (endpoint, f"{variable}/{last}")
        return None if endpoint is None or not variable else (endpoint, variable)

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """Answer by an endpoint, or pass the request on to the fallback."""
        found = self.find(scope["method"], path_within(scope)) if scope["type"] == "http" else None
        if found is None or scope["type"] != "http" or not isinstance(send, HttpSender):
            await self._fallback(scope, receive, send)
            return
        endpoint, variable = found
        request = self._request(scope, receive, variable)
        with suppress(_ClientDisconnectedError):
            await _respond(request, send, *await self._handle(endpoint, request))

    async def refuse(
        self, problem: ProblemError, scope: HttpScope, receive: Receive, send: HttpSender
    ) -> None:
        """Answer a request that has no endpoint with a problem."""
        request = self._request(scope, receive, "")
        with suppress(_ClientDisconnectedError):
            await _respond(request, send, *_answer_to(problem))

    def _request(self, scope: HttpScope, receive: Receive, variable: str) -> EndpointRequest:
        limit = self._runtime.program.settings.max_body
        return EndpointRequest(scope, receive, variable, limit)

    async def _handle(
        self, endpoint: Endpoint, request: EndpointRequest
    ) -> tuple[int, Headers, bytes | Stream]:
        """The status, the headers and the body of the response."""
        try:
            self._doors.admit(endpoint.rule, endpoint.scope)
            document, status = await endpoint.handler(request)
            if isinstance(document, (Text, Stream)):
                kind = (b"content-type", document.media_type.encode("ascii"))
                body = document.body if isinstance(document, Text) else document
                return status, [kind, *document.headers], body
            return status, [_JSON], encode(document)
        except _ClientDisconnectedError:
            raise
        except ProblemError as error:
            problem = error
        except Exception as error:
            problem = report_crash(error)
        return _answer_to(problem)


def _answer_to(problem: ProblemError) -> tuple[int, Headers, bytes]:
    """The status, the headers and the body for a problem, which is noted."""
    current_context().error_code = problem.error_code
    headers = [
        (name.lower().encode("ascii"), value.encode("latin-1"))
        for name, value in problem.headers.items()
    ]
    return problem.status.value, [*headers, _PROBLEM], problem.document()


async def _respond(
    request: EndpointRequest, send: HttpSender, status: int, headers: Headers, body: bytes | Stream
) -> None:
    if isinstance(body, Stream):
        await request.stream(send, status, headers, body.work)
        return
    if status != HTTPStatus.NOT_MODIFIED:  # Its length would be another document's.
        headers.append((b"content-length", b"%d" % len(body)))
    await request.respond(send, status, headers, body)
