"""Shortcuts: requests that Trivet's own server answers in one call, without the layers of ASGI.

Owns the form in which the server asks for one, and gets the response.
Never knows which requests have one, nor how a request without one is answered.

A shortcut is a fast path. It answers only where the layers would answer the same, byte by byte, and
would not wait. Otherwise it says so before it has done anything, and the request goes through the
layers as if there were no shortcut. Which shortcut a request has follows from its head alone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import NamedTuple, Protocol

from ._asgi import Headers, HttpScope
from ._begun import Begun

STATUS_LINES = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode("ascii")
    for status in HTTPStatus
}
"""The status lines of the statuses that have a name."""


class RequestHead(Protocol):
    """The head of a request, as the server has parsed it."""

    @property
    def method(self) -> str:
        """The method."""
        ...

    @property
    def target(self) -> bytes:
        """The target, of the first line."""
        ...

    @property
    def length(self) -> int | None:
        """Bytes of the body; None for one in chunks."""
        ...

    @property
    def headers(self) -> Headers:
        """Names in lower case, and values, in the order in which they came."""
        ...

    def __contains__(self, name: bytes) -> bool: ...

    def get(self, name: bytes, default: bytes = b"") -> bytes:
        """The first header of a name in lower case."""
        ...

    def joined(self, name: bytes) -> bytes:
        """All headers of a name in lower case, with commas between; empty for none."""
        ...


class Answer(NamedTuple):
    """The response of a shortcut."""

    lines: bytes
    """The status line and the headers, without those about the connection and the date."""
    body: bytes
    is_of_author: bool
    """Whether code of a plugin's author was called, which may have set context variables."""
    after: Awaitable[object] | None
    """Work that is left, and may wait; mostly there is none."""


class Shortcut(Protocol):
    """The short way of all requests with one head."""

    length: int
    """Bytes of the body. All of them are there when `answer` is called."""

    def answer(
        self, body: bytes, address: str, scope: Callable[[], HttpScope]
    ) -> Answer | Begun | None:
        """Answer a request.

        Args:
            body: the whole body.
            address: the address of the client; empty on a Unix socket.
            scope: makes the scope of the request, which the layers are to get then.

        Returns:
            The response; or the beginning of one, which the layers are to end: it is for the scope,
            under `BEGUN`; or None where the request has to go through the layers, and nothing was
            done.
        """
        ...


FindShortcut = Callable[[RequestHead, str], "Shortcut | None"]
"""Finds the shortcut of a head, and of the address of this machine that the client has reached."""
