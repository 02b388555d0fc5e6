"""Requests that are answered without the web framework: events that come in, and probes.

Owns the way to who answers, how such a request is read, and the form of the answer.
Never knows what is asked for and answered; what it has no answer for, the framework behind has.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from functools import lru_cache, partial
from typing import TypeVar
from urllib.parse import parse_qsl

import attrs
import msgspec
import structlog
import trio
from hypercorn.typing import ASGIFramework, ASGIReceiveCallable, ASGISendCallable, HTTPScope, Scope
from werkzeug.http import parse_options_header
from werkzeug.sansio.utils import get_content_length

from ..._runtime import Runtime
from .._bodies import Body, take_in
from .._exchange import current_exchange
from .._problems import MEDIA_TYPE, ProblemError, stopping

ANSWER_WHILE_STOPPING = ("/livez", "/readyz", "/plugins")
"""The paths at which a request is answered that begins after the stop has begun."""

T = TypeVar("T")
Answer = tuple[object, int]
"""A document, which becomes JSON, and the status."""

_encoder = msgspec.json.Encoder(order="sorted")
_log: structlog.typing.FilteringBoundLogger = structlog.get_logger("trivet.http")


def admit(runtime: Runtime, rule: str) -> None:
    """Note the rule of the request at hand; refuse what begins after the stop has begun.

    Raises:
        ProblemError: the service stops.
    """
    current_exchange().rule = rule
    if runtime.stopping.is_set() and rule not in ANSWER_WHILE_STOPPING:
        raise stopping()


class _LeftError(Exception):
    """The client has gone: there is nobody to answer."""


class Call:
    """One request, for who answers it.

    Args:
        scope: the server's.
        receive: the server's.
        variable: what stands in the path in place of the rule's variable.
        limit: bytes that the body may have where it is read as a whole.
    """

    def __init__(
        self, scope: HTTPScope, receive: ASGIReceiveCallable, variable: str, limit: int
    ) -> None:
        self.variable = variable
        self.headers = [
            (name.decode("latin-1").lower(), value.decode("latin-1"))
            for name, value in scope["headers"]
        ]
        """Their names in small letters."""
        self._first = dict(reversed(self.headers))
        self._query = scope["query_string"].decode()
        self._receive = receive
        self._limit = limit
        length, coding = self.header("content-length"), self.header("transfer-encoding")
        self._announced = get_content_length(length, coding)
        has_no_body = length is None and coding is None and scope["http_version"].startswith("1")
        self._is_taken = has_no_body or self._announced == 0
        self._body: Body | None = None

    def header(self, name: str) -> str | None:
        """The first of this name, which is in small letters."""
        return self._first.get(name)

    @property
    def media_type(self) -> str:
        """The body's, in small letters and without parameters; empty where none is given."""
        return _media_type(self.header("content-type") or "")

    def query(self, name: str) -> str | None:
        """The first value of this name in the query."""
        if not self._query:
            return None
        # As Werkzeug does it: what is no UTF-8 stays as it came.
        errors = "werkzeug.url_quote"
        pairs = parse_qsl(self._query, keep_blank_values=True, errors=errors)
        return next((value for known, value in pairs if known == name), None)

    async def read(self) -> bytes:
        """The whole body.

        Raises:
            ProblemError: it is too large.
        """
        pieces: list[bytes] = []
        arrived, is_last = 0, False
        while True:
            if max(arrived, self._announced or 0) > self._limit:
                detail = f"the body may have {self._limit} bytes"
                raise ProblemError("body_too_large", detail, {"limit": self._limit})
            if is_last:
                return b"".join(pieces)
            message = await self._receive()
            if message["type"] != "http.request":
                raise _LeftError
            pieces.append(message["body"])
            arrived += len(message["body"])
            # That nothing follows may come as a message of its own, which need not be waited for.
            self._is_taken = is_last = not message["more_body"] or arrived == self._announced

    @property
    def body(self) -> Body:
        """For who reads it piece by piece, while attended: it may have any number of bytes."""
        if self._body is None:
            self._body = Body(self._announced, None)
        return self._body

    async def attended(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do what may take its time, and give it up if the client leaves."""
        results: list[T] = []
        fault: Exception | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._listen, nursery.cancel_scope)
            try:
                results.append(await work())
            except Exception as error:  # Out of the nursery, which would group it.
                fault = error
            nursery.cancel_scope.cancel()
        if fault is not None:
            raise fault
        if not results:
            raise _LeftError
        return results[0]

    async def _listen(self, working: trio.CancelScope) -> None:
        await take_in(self.body, self._receive)
        working.cancel()

    async def finish(self, send: Callable[[], Awaitable[None]]) -> None:
        """Send the answer; let the rest of the body go by, for a server waits until it is taken."""
        if self._is_taken or (self._body is not None and self._body.is_complete):
            await send()
        else:
            self.body.discard()
            await self.attended(send)


@lru_cache(maxsize=32)
def _media_type(content_type: str) -> str:
    return parse_options_header(content_type)[0].lower()


Answers = Callable[[Call], Awaitable[Answer]]


@attrs.frozen
class Way:
    """Where something is answered, and by whom."""

    method: str
    rule: str
    """In Quart's syntax; it may end with a variable that takes one segment."""
    answers: Answers


class Front:
    """An ASGI application that answers some requests, in front of one for everything else.

    Args:
        behind: the other one. It has the rules too, and answers other methods at the same paths.
        runtime: the program.
    """

    def __init__(self, behind: ASGIFramework, runtime: Runtime) -> None:
        self._behind = behind
        self._runtime = runtime
        self._ways: dict[tuple[str, str], Way] = {}

    def add(self, method: str, rule: str, answers: Answers) -> None:
        """Answer at a path; HEAD as GET."""
        way = Way(method, rule, answers)
        head = rule.partition("<")[0]
        for verb in ("GET", "HEAD") if method == "GET" else (method,):
            self._ways[verb, head] = way

    def __iter__(self) -> Iterator[Way]:
        return iter(dict.fromkeys(self._ways.values()))

    def find(self, method: str, path: str) -> tuple[Way, str] | None:
        """Who answers, and what stands in place of the variable; None if nobody does here."""
        way = self._ways.get((method, path))
        if way is not None and not path.endswith("/"):
            return way, ""
        head, _, variable = path.rpartition("/")
        way = self._ways.get((method, head + "/"))
        return None if way is None or not variable else (way, variable)

    async def __call__(
        self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable
    ) -> None:
        """Answer here, or let the other one do it."""
        found = self.find(scope["method"], _path(scope)) if scope["type"] == "http" else None
        if found is None or scope["type"] != "http":
            await self._behind(scope, receive, send)
            return
        way, variable = found
        call = Call(scope, receive, variable, self._runtime.program.settings.max_body)
        try:
            status, headers, body = await self._answer(way, call)
            await call.finish(partial(_send, send, status, headers, body))
        except _LeftError:
            return

    async def _answer(self, way: Way, call: Call) -> tuple[int, list[tuple[str, str]], bytes]:
        """The status, the headers and the body."""
        try:
            admit(self._runtime, way.rule)
            document, status = await way.answers(call)
            return status, [("content-type", "application/json")], _encoder.encode(document) + b"\n"
        except _LeftError:
            raise
        except ProblemError as error:
            problem = error
        except Exception:
            exchange = current_exchange()
            _log.exception("handler crashed", route=exchange.route, plugin=exchange.plugin)
            problem = ProblemError("internal_error", "the handler crashed")
        current_exchange().error_code = problem.error_code
        headers = [(name.lower(), value) for name, value in problem.headers.items()]
        return problem.status.value, [*headers, ("content-type", MEDIA_TYPE)], problem.document()


def _path(scope: HTTPScope) -> str:
    """The path as Quart sees it, where it looks for a rule."""
    path = scope["path"]
    root = scope["root_path"] if "root_path" in scope else ""  # noqa: SIM401 - of unknown type
    if root:
        is_within = path.startswith(root) and path != root
        path = path.removeprefix(root) if is_within else " "
    return "/" + path.lstrip("/")


async def _send(
    send: ASGISendCallable, status: int, headers: list[tuple[str, str]], body: bytes
) -> None:
    headers = [*headers, ("content-length", str(len(body)))]
    encoded = [(name.encode("ascii"), value.encode("latin-1")) for name, value in headers]
    await send({"type": "http.response.start", "status": status, "headers": encoded})
    await send({"type": "http.response.body", "body": body, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})
