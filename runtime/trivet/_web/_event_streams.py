"""Server-sent events: a response that lasts.

Owns when a stream of events ends, what keeps its connection alive, and its last event.
Never knows the events; it asks an author's iterable for them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing
from types import TracebackType
from typing import Any

import trio
from quart import Response

from .._faults._containment import split_failure
from .._plugins._streams import EventStream, ServerSentEvent
from .._runtime import Runtime
from .._supervision._host import Host
from ._crashes import report_crash
from ._problems import RETRY_WHEN_STOPPING
from ._quart._responses import StreamingBody

KEEP_ALIVE_INTERVAL = 15.0
"""Seconds without an event after which a comment is sent; many proxies close after 60."""
KEEP_ALIVE = b": keep-alive\n\n"
HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache",
    "X-Accel-Buffering": "no",  # nginx would collect the events before it passes them on.
}


def stream_response(
    answer: EventStream, runtime: Runtime, host: Host, *, has_body: bool
) -> Response:
    """The response of a route that has returned a stream of events."""
    response = Response(b"", headers=HEADERS)
    if has_body:
        response.response = _Body(answer, runtime, host)
        del response.headers["Content-Length"]
    response.timeout = None  # Quart would end it after a minute.
    return response


class _Body(StreamingBody):
    """The body of such a response: the events, comments between them, and the last event."""

    def __init__(self, answer: EventStream, runtime: Runtime, host: Host) -> None:
        self._source = answer.source
        self._runtime = runtime
        self._host = host
        self._manager = trio.open_nursery()
        self._nursery: trio.Nursery
        self._reading = trio.CancelScope()
        self._end_reason = ""
        self._crash: BaseException | None = None
        self._send, self._receive = trio.open_memory_channel[bytes](0)

    async def __aenter__(self) -> _Body:
        self._nursery = nursery = await self._manager.__aenter__()
        reason = f"plugin {self._host.name!r} is not running"
        nursery.start_soon(self._end_after, self._host.wait_until_down, reason)
        nursery.start_soon(self._end_after, self._runtime.stopping.wait, "the service stops")
        nursery.start_soon(self._read)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._nursery.cancel_scope.cancel()
        await self._manager.__aexit__(exc_type, exc_value, tb)  # noqa: ASYNC102 - as `async with`

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        with trio.move_on_after(KEEP_ALIVE_INTERVAL):
            try:
                return await self._receive.receive()
            except trio.EndOfChannel:
                if self._crash is None:
                    raise StopAsyncIteration from None
                raise RuntimeError("the source of a stream of events crashed") from self._crash
        return KEEP_ALIVE

    async def _end_after(self, wait: Callable[[], Awaitable[None]], reason: str) -> None:
        await wait()
        self._end_reason = reason
        self._reading.cancel()

    async def _read(self) -> None:
        with self._send:
            with self._reading:
                try:
                    await self._send_events()
                except BaseException as error:  # noqa: ASYNC103 - a cancellation goes on
                    cancelled, self._crash = split_failure(
                        error, contains_interrupts=self._runtime.contains_interrupts
                    )
                    if cancelled is not None:
                        raise cancelled from None  # noqa: ASYNC104
            if self._reading.cancel_called:
                if self._crash is not None:
                    report_crash(self._crash)
                    self._crash = None
                last = ServerSentEvent(
                    self._end_reason, event="stopping", retry=RETRY_WHEN_STOPPING
                )
                await self._send.send(last.encode())

    async def _send_events(self) -> None:
        source: Any = self._source
        async with AsyncExitStack() as resources:
            if hasattr(source, "aclose"):
                await resources.enter_async_context(aclosing(source))
            async for item in source:
                event = item if isinstance(item, ServerSentEvent) else ServerSentEvent(item)
                await self._send.send(event.encode())
