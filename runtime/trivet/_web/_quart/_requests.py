"""Quart's request and its connection, with back-pressure and limits.

Owns what a handler reads of a request (text, JSON, credentials), and that unreadable input is the
client's fault.
Never knows how a form is parsed, nor which handler answers.
"""

from __future__ import annotations

from typing import Any, cast

import trio
from quart.wrappers import Request as QuartRequest
from quart_trio.asgi import TrioASGIHTTPConnection
from quart_trio.wrappers import TrioRequest
from werkzeug.datastructures import Authorization
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge

from .._asgi import Receive
from .._bodies import Body, receive_body
from ._detached import DETACHED, Detached
from ._forms import LimitedFormParser

MAX_JSON_MARKS, MAX_JSON_ESCAPES = 50_000, 1_000_000
"""Commas, colons and opening brackets, and backslashes, that a JSON body may have: more would hold
the loop while they are decoded."""


async def check_json_size(encoded: bytes) -> None:
    """Count the characters of a document that take time to be decoded, in turns.

    Raises:
        RequestEntityTooLarge: there are too many.
    """
    marks = escapes = 0
    for at in range(0, len(encoded), 1024 * 1024):
        some = encoded[at : at + 1024 * 1024]
        marks += sum(map(some.count, (b",", b":", b"[", b"{")))
        escapes += some.count(b"\\")
        if marks > MAX_JSON_MARKS or escapes > MAX_JSON_ESCAPES:
            raise RequestEntityTooLarge
        if at:
            await trio.lowlevel.checkpoint()


class Request(TrioRequest):
    """Quart's request, in which malformed input is the client's fault, and never the handler's."""

    body_class = Body  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    body: Body  # type: ignore[assignment]  # pyright: ignore[reportIncompatibleVariableOverride]
    form_data_parser_class = LimitedFormParser

    async def get_data(  # type: ignore[override]  # Quart has an overload for each type.
        self, cache: bool = True, as_text: bool = False, parse_form_data: bool = False
    ) -> bytes | str:
        """The whole body; 400 where it is to be text and is not UTF-8."""
        try:
            return await super().get_data(cache, as_text, parse_form_data)
        except UnicodeDecodeError:
            raise BadRequest("the body is no UTF-8") from None

    async def get_json(self, force: bool = False, silent: bool = False, cache: bool = True) -> Any:
        """The body as JSON; 400 where it is malformed, and 413 where it has too many values."""
        if force or self.is_json:
            await check_json_size(await self.body)
        try:
            return await super().get_json(force, silent, cache)
        except (BadRequest, RecursionError):
            if silent:
                return None
        if not await self.get_data():
            raise BadRequest("the body is empty, and no JSON")
        raise BadRequest("the body is no JSON that can be read")

    @property
    def authorization(self) -> Authorization | None:
        """The credentials of the client; None where they cannot be read."""
        try:
            return Authorization.from_header(self.headers.get("Authorization"))
        except ValueError:
            return None


class HttpConnection(TrioASGIHTTPConnection):
    """Quart's connection, which receives no more from the client than the handler reads.

    Quart's types of `receive` and `send` are hypercorn's; here they are ASGI's.
    """

    async def __call__(self, receive: Receive, send: Any) -> None:  # type: ignore[override]
        """Answer the request; this task, and not a second one, receives the body meanwhile."""
        detached: Detached | None = cast("Any", self.scope).get(DETACHED)
        if detached is None:
            request = self._create_request_from_scope(send)
        else:
            request = detached.contexts[-1].request
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.handle_request, nursery, request, send)
            await self.handle_messages(nursery, request, receive)

    async def handle_messages(  # type: ignore[override]  # As in quart-trio.
        self, nursery: trio.Nursery, request: QuartRequest, receive: Receive
    ) -> None:
        """Receive the body; when the client has disconnected, the request is cancelled."""
        await receive_body(cast("Body", request.body), receive)
        nursery.cancel_scope.cancel()

    async def handle_request(  # type: ignore[override]  # As in quart-trio.
        self, nursery: trio.Nursery, request: QuartRequest, send: Any
    ) -> None:
        """Answer; then discard the rest of the body, since a server waits until it is received."""
        body = cast("Body", request.body)

        async def send_and_discard(message: Any) -> None:
            """Send; once the last part is sent, no handler reads the body any more."""
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                body.discard()
            await send(message)

        await super().handle_request(nursery, request, send_and_discard)
