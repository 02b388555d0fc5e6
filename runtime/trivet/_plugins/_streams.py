"""Server-sent events, as authors write them: `return EventStream(source)` in a route.

Owns the two classes, and the form of one event on the wire.
Never knows the web framework, nor when a stream ends.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterable, Iterator
from typing import Any

import attrs
import msgspec

_LINE_END = re.compile(r"\r\n|\r|\n")


def _one_line(event: ServerSentEvent, field: attrs.Attribute[Any], value: str | None) -> None:
    if value is not None and re.search(r"[\r\n\0]", value):
        raise ValueError(f"{field.name} of a server-sent event is one line, not {value!r}")


@attrs.frozen
class ServerSentEvent:
    r"""One event of an `EventStream`, for more than its data.

    >>> ServerSentEvent({"temperature": 90}, event="boiling", id="7").encode()
    b'event: boiling\nid: 7\ndata: {"temperature":90}\n\n'

    Raises:
        ValueError: `event` or `id` has more than one line.
    """

    data: object
    """Text, which goes as it is, or anything that has a form in JSON, Trivet's events included."""
    event: str | None = attrs.field(default=None, validator=_one_line, kw_only=True)
    """Its type; browsers take `message` for one that has none."""
    id: str | None = attrs.field(default=None, validator=_one_line, kw_only=True)
    """What a client that comes back sends as `Last-Event-ID`, if it was its last one."""
    retry: float | None = attrs.field(default=None, kw_only=True)
    """Seconds after which a client that loses the stream is to come back."""

    def encode(self) -> bytes:
        """The event on the wire."""
        return ("\n".join(self._lines()) + "\n\n").encode()

    def _lines(self) -> Iterator[str]:
        if self.event is not None:
            yield f"event: {self.event}"
        if self.id is not None:
            yield f"id: {self.id}"
        if self.retry is not None:
            yield f"retry: {round(self.retry * 1000)}"
        data = self.data
        text = data if isinstance(data, str) else msgspec.json.encode(data).decode()
        for line in _LINE_END.split(text):
            yield f"data: {line}"


@attrs.frozen
class EventStream:
    """The answer of a route whose client is told what happens, for as long as it listens.

    After 15 seconds of silence a comment keeps the connection alive. The stream ends with its
    source, or when the client has left; at the stop, or when the plugin is not up any more, with
    an event `stopping` that says when to come back.
    """

    source: AsyncIterable[object]
    """Gives each event's data, or a `ServerSentEvent`. It is iterated after the route has
    returned, so what it needs of `quart.request` the route reads; it is closed in the end, if it
    has an `aclose` method, as generators and memory channels have."""
