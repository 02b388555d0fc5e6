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
    r"""One event of an `EventStream`, where it needs more than its data.

    >>> ServerSentEvent({"temperature": 90}, event="boiling", id="7").encode()
    b'event: boiling\nid: 7\ndata: {"temperature":90}\n\n'

    Raises:
        ValueError: `event` or `id` has more than one line.
    """

    data: object
    """Text, which is sent as it is, or any value that JSON can express, such as an `Event`."""
    event: str | None = attrs.field(default=None, validator=_one_line, kw_only=True)
    """The type; browsers read `message` where there is none."""
    id: str | None = attrs.field(default=None, validator=_one_line, kw_only=True)
    """The id; a client that reconnects sends the last one as `Last-Event-ID`."""
    retry: float | None = attrs.field(default=None, kw_only=True)
    """Seconds after which a client that has lost the stream reconnects."""

    def encode(self) -> bytes:
        """The event on the wire.

        Raises:
            TypeError: JSON cannot express `data`.
        """
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
    """The answer of a route that streams server-sent events to its client.

    After 15 seconds of silence a comment keeps the connection alive.

    Life: the stream ends with its source, or when the client has left. A stop, or the end of the
    plugin's lifetime, ends it with an event `stopping` that says when to reconnect.
    """

    source: AsyncIterable[object]
    """An iterable of `ServerSentEvent`, or of the data of one. It is iterated after the route has
    returned, so the route itself must read `quart.request`. It is closed at its end if it has an
    `aclose` method, as generators and memory channels do."""
