"""Around every request and every websocket: known while it lasts, cut off, measured.

Owns what is open now, and what a client is told whose answer fails or comes too late.
Never knows what answers: it wraps any ASGI application.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog
import trio
from hypercorn.typing import (
    ASGIFramework,
    ASGIReceiveCallable,
    ASGISendCallable,
    HTTPScope,
    Scope,
    WebsocketScope,
)

from .._events._event import MonitoringEvent
from .._runtime import Runtime
from ._crashes import separate
from ._exchange import Exchange
from ._problems import ProblemError, stopping
from ._senders import (
    INTERNAL_ERROR,
    LAST_WORD_WITHIN,
    SERVICE_RESTART,
    HttpWire,
    WebsocketWire,
    Wire,
)
from ._targets import checked

PUBLISH_WITHIN = 2.0
"""Seconds in which a request's points are published, also when the stop has cut it off; twice
what a full inbox makes a publisher wait by default."""
WEBSOCKETS_WITHIN = 1.0
"""Seconds that websockets have to end by themselves when the stop begins."""

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger("trivet.http")


class Measured:
    """An ASGI application, with each of its requests and websockets in a scope of its own.

    What is neither passes through untouched.
    """

    def __init__(self, app: ASGIFramework, runtime: Runtime) -> None:
        self._app = app
        self._runtime = runtime
        self._open: set[Exchange] = set()
        self._ended = trio.Event()

    async def __call__(
        self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable
    ) -> None:
        """Serve one request, one websocket, or another scope."""
        if scope["type"] == "http":
            exchange = Exchange.begin(scope)
            wire: Wire = HttpWire(exchange, send, scope, self._runtime.stopping)
        elif scope["type"] == "websocket":
            exchange = Exchange.begin(scope)
            wire = WebsocketWire(exchange, send, scope)
        else:
            await self._app(scope, receive, send)
            return
        self._open.add(exchange)
        try:
            with exchange.in_context():
                try:
                    await self._answer(wire, scope, receive)
                finally:
                    await self._publish(exchange)  # noqa: ASYNC102 - shielded and bounded in there
        finally:
            self._open.remove(exchange)
            self._ended.set()

    async def finish(self, until: float) -> None:
        """Let what is open end, and cut off what does not.

        Websockets have a second, or until then if that is sooner; what is not a response yet by
        then is answered 503. Responses that have begun are left to whoever ends the server. In a
        hurry all of that is now.

        Args:
            until: a moment on Trio's clock.
        """
        websockets_until = min(until, trio.current_time() + WEBSOCKETS_WITHIN)
        await self._let_end(websockets_until)
        self._cut_off(lambda exchange: exchange.is_websocket)
        await self._let_end(until)
        self._cut_off(lambda exchange: exchange.status is None)
        with trio.move_on_after(LAST_WORD_WITHIN, shield=True):
            await self._quiet(lambda exchange: exchange.scope.cancel_called)

    def _cut_off(self, which: Callable[[Exchange], bool]) -> None:
        for exchange in filter(which, self._open):
            exchange.scope.cancel()

    async def _let_end(self, until: float) -> None:
        async def hurry() -> None:
            await self._runtime.hurried.wait()
            waiting.cancel_scope.cancel()

        with trio.CancelScope(shield=True, deadline=until):
            async with trio.open_nursery() as waiting:
                waiting.start_soon(hurry)
                await self._quiet()
                waiting.cancel_scope.cancel()

    async def _quiet(self, which: Callable[[Exchange], bool] = lambda _: True) -> None:
        while any(map(which, self._open)):
            self._ended = trio.Event()
            await self._ended.wait()

    async def _publish(self, exchange: Exchange) -> None:
        if not self._runtime.listens(MonitoringEvent):
            return
        points = exchange.points(self._runtime.service)
        if not points:
            return
        with trio.move_on_after(PUBLISH_WITHIN, shield=True) as publishing:
            await self._runtime.publish(MonitoringEvent(points))
        if publishing.cancelled_caught:
            _log.warning("monitoring points lost: an inbox is full", after=PUBLISH_WITHIN)

    async def _answer(
        self, wire: Wire, scope: HTTPScope | WebsocketScope, receive: ASGIReceiveCallable
    ) -> None:
        exchange = wire.exchange
        try:
            scope = checked(scope)
        except ProblemError as problem:
            _log.info("request refused", status=problem.status.value, error=problem.detail)
            await wire.last_word(problem, INTERNAL_ERROR)
            return
        cancelled: BaseException | None = None
        fault: BaseException | None = None
        try:
            with exchange.scope:
                await self._app(scope, exchange.listening(receive), wire.send)
        except BaseException as error:  # noqa: ASYNC103 - a cancellation goes on
            cancelled, fault = separate(error, self._runtime)
        is_cut_off = exchange.scope.cancelled_caught or cancelled is not None
        if not (is_cut_off or fault or exchange.has_ended or exchange.client_left):
            # A cancellation that nobody asked for ends Quart's own nursery in silence.
            fault = RuntimeError("the application has not answered to the end")
        if fault is not None:
            await self._failed(wire, fault)
        if is_cut_off:
            await wire.last_word(_why_cut_off(exchange), SERVICE_RESTART)
        if cancelled is not None:
            raise cancelled

    async def _failed(self, wire: Wire, fault: BaseException) -> None:
        exchange = wire.exchange
        _log.error("request failed", route=exchange.route, plugin=exchange.plugin, exc_info=fault)
        breaks_off = exchange.status is not None and not exchange.is_websocket
        problem = ProblemError("internal_error", "the request could not be answered")
        await wire.last_word(problem, INTERNAL_ERROR)
        exchange.error_code = problem.error_code
        if breaks_off:  # The server cuts the connection, which tells the client.
            if isinstance(fault, Exception):
                raise fault
            raise RuntimeError("the response breaks off") from fault


def _why_cut_off(exchange: Exchange) -> ProblemError:
    if exchange.is_too_slow:
        detail = "the body did not arrive in time"
        return ProblemError("request_timeout", detail, exchange.account())
    return stopping(exchange.account())
