"""The middleware around every request and every websocket.

Owns which requests are open now, their end at a stop, and the answer to a client whose request
fails or is cut off.
Never knows which code answers: it wraps any ASGI application.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog
import trio

from .._faults._containment import split_failure
from .._runtime import Runtime
from ._asgi import RESPOND, ASGIApp, HttpScope, Receive, Scope, Send, WebsocketScope
from ._begun import BEGUN, Begun
from ._bodies import PendingBody
from ._context import RequestContext
from ._doors import Doors, address_of
from ._monitoring import Monitoring
from ._problems import ProblemError, stopping
from ._senders import (
    ABORT_TIMEOUT,
    INTERNAL_ERROR,
    SERVICE_RESTART,
    HttpSender,
    Sender,
    WebsocketSender,
)
from ._targets import validated
from ._traffic import Traffic

WEBSOCKET_DRAIN_TIMEOUT = 1.0
"""Seconds that websockets have to end by themselves when the stop begins."""

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger("trivet.http")


class RequestMiddleware:
    """An ASGI application that runs another one, each request and websocket in its own scope.

    The `send` of a request is an `HttpSender`, which can send a whole response in one step.
    Other scopes pass through untouched.
    """

    def __init__(self, app: ASGIApp, runtime: Runtime, doors: Doors, traffic: Traffic) -> None:
        self._app = app
        self._runtime = runtime
        self._doors = doors
        self._monitoring = Monitoring(runtime)
        self._traffic = traffic
        self._tracing = runtime.tracing
        self._open: set[RequestContext] = set()
        self._has_ended = trio.Event()
        traffic.count_open = self._open.__len__
        self.heed()

    def heed(self) -> None:
        """Go by the present settings of the program from now on."""
        self.is_verbose = self._runtime.program.settings.log.level == "debug"
        """Whether each request is a line in the log."""

    @property
    def needs_layers(self) -> bool:
        """Whether each request has to be seen here, with its line in the log, or its span."""
        return self.is_verbose or self._tracing is not None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, one websocket, or another scope."""
        if scope["type"] == "http":
            pending: PendingBody | None = None
            if RESPOND not in (scope.get("extensions") or {}):
                pending = PendingBody(scope, receive)
                receive = pending.receive
            begun: Begun | None = (scope.get("extensions") or {}).get(BEGUN)
            if begun is None:
                context = RequestContext.from_scope(scope, receive)
            else:
                context = begun.context
                context.attach(scope, receive)
            sender: Sender = HttpSender(context, send, scope, self._runtime.leaving, pending)
        elif scope["type"] == "websocket":
            context = RequestContext.from_scope(scope, receive)
            sender = WebsocketSender(context, send, scope)
        else:
            await self._app(scope, receive, send)
            return
        context.caller = self._doors.caller_of(scope)
        if self._tracing is None or context.is_websocket:
            await self._answer(sender, scope)
            return
        with self._tracing.request(context):
            await self._answer(sender, scope)

    async def _answer(self, sender: Sender, scope: HttpScope | WebsocketScope) -> None:
        """Have a request answered, known to all who work for it, and counted."""
        context = sender.context
        self._open.add(context)
        before = context.activate()
        try:
            try:
                await self._serve(sender, scope)
            finally:
                now = trio.current_time()
                self._traffic.ended(context, now)
                if self.is_verbose:
                    route, status = context.route, context.status
                    _log.debug("request", client=address_of(scope), route=route, status=status)
                if self._monitoring.is_on:
                    points = context.points(self._runtime.service, now)
                    wait = self._monitoring.publish(points, context.origin)
                    if wait is not None:
                        await wait  # noqa: ASYNC102 - shielded and bounded in there
        finally:
            context.deactivate(before)
            self._open.remove(context)
            self._has_ended.set()

    async def drain(self, until: float) -> None:
        """Let the open requests end, and cut off those that do not.

        Websockets have a second, or until `until` if that is sooner. A request whose response has
        not begun by then is answered 503. Responses that have begun are left to the server, which
        ends them. After `Runtime.hurry` nothing is waited for.

        Args:
            until: a moment on Trio's clock.
        """
        websockets_until = min(until, trio.current_time() + WEBSOCKET_DRAIN_TIMEOUT)
        await self._wait_for_end(websockets_until)
        self._cancel_open(lambda context: context.is_websocket)
        await self._wait_for_end(until)
        self._cancel_open(lambda context: context.status is None)
        with trio.move_on_after(ABORT_TIMEOUT, shield=True):
            await self._until_ended(lambda context: context.scope.cancel_called)

    def _cancel_open(self, which: Callable[[RequestContext], bool]) -> None:
        for context in filter(which, self._open):
            context.scope.cancel()

    async def _wait_for_end(self, until: float) -> None:
        async def hurry() -> None:
            await self._runtime.hurried.wait()
            waiting.cancel_scope.cancel()

        with trio.CancelScope(shield=True, deadline=until):
            async with trio.open_nursery() as waiting:
                waiting.start_soon(hurry)
                await self._until_ended()
                waiting.cancel_scope.cancel()

    async def _until_ended(self, which: Callable[[RequestContext], bool] = lambda _: True) -> None:
        while any(map(which, self._open)):
            self._has_ended = trio.Event()
            await self._has_ended.wait()

    async def _serve(self, sender: Sender, scope: HttpScope | WebsocketScope) -> None:
        context = sender.context
        try:
            scope = validated(scope)
            self._doors.look_at(context, scope)
        except ProblemError as problem:
            _log.info("request refused", status=problem.status.value, error=problem.detail)
            await sender.abort(problem, INTERNAL_ERROR)
            return
        cancelled: BaseException | None = None
        fault: BaseException | None = None
        try:
            if context.is_scope_open:
                await self._app(scope, context.receive, sender)
            else:
                with context.scope:
                    await self._app(scope, context.receive, sender)
        except BaseException as error:  # noqa: ASYNC103 - a cancellation goes on
            cancelled, fault = split_failure(
                error, contains_interrupts=self._runtime.contains_interrupts
            )
        is_cut_off = context.scope.cancelled_caught or cancelled is not None
        if not (is_cut_off or fault or context.is_complete or context.client_disconnected):
            # A stray cancellation, of no scope, ends Quart's own nursery in silence.
            fault = RuntimeError("the application did not complete its response")
        if fault is not None:
            await self._handle_fault(sender, fault)
        if is_cut_off and not context.client_disconnected:
            await sender.abort(_cut_off_problem(context), SERVICE_RESTART)
        if cancelled is not None:
            raise cancelled

    async def _handle_fault(self, sender: Sender, fault: BaseException) -> None:
        context = sender.context
        _log.error("request failed", route=context.route, plugin=context.plugin, exc_info=fault)
        breaks_off = context.status is not None and not context.is_websocket
        problem = ProblemError("internal_error", "the request could not be answered")
        await sender.abort(problem, INTERNAL_ERROR)
        context.error_code = problem.error_code
        if breaks_off:  # The server closes the connection, which tells the client.
            if isinstance(fault, Exception):
                raise fault
            raise RuntimeError("the response breaks off") from fault


def _cut_off_problem(context: RequestContext) -> ProblemError:
    if context.is_too_slow:
        detail = "the body did not arrive in time"
        return ProblemError("request_timeout", detail, context.progress())
    return stopping(context.progress())
