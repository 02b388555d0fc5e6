"""Quart's contexts of a request whose handler runs outside of Quart.

Owns `quart.request`, `session`, `g` and `current_app` in such a handler: they are made when they
are asked for.
Never knows the handler, nor how its answer is sent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar, Token
from operator import attrgetter
from typing import Any, cast

from quart import Quart
from quart import globals as quart_globals
from quart.sessions import SecureCookieSessionInterface
from quart.signals import (
    appcontext_popped,
    appcontext_pushed,
    appcontext_tearing_down,
    request_finished,
    request_started,
    request_tearing_down,
)
from werkzeug.routing import Rule

from .._asgi import ASGIApp, HttpScope, Receive, Send, SendMessage
from .._bodies import Body
from ._inside import CONTEXT_VARIABLES, REQUEST_CONTEXT

DETACHED = "trivet.detached"
"""The key, in a scope, of the `Detached` that Quart is to go on with."""

_SIGNALS = (
    appcontext_popped,
    appcontext_pushed,
    appcontext_tearing_down,
    request_finished,
    request_started,
    request_tearing_down,
)
_receivers = attrgetter("receivers")
_variables: list[ContextVar[Any]] = [getattr(quart_globals, name) for name in CONTEXT_VARIABLES]


def has_hooks(app: Quart) -> bool:
    """Whether code is to be called at each request, besides the application's own check.

    A plugin may connect to a signal of Quart, or register a hook. Only Quart calls them.
    """
    config = app.config
    return bool(
        len(app.before_request_funcs[None]) > 1
        or app.after_request_funcs[None]
        or app.teardown_request_funcs[None]
        or app.teardown_appcontext_funcs
        or app.url_value_preprocessors[None]
        or config["SECRET_KEY"] is not None
        or type(app.session_interface) is not SecureCookieSessionInterface
        or app.url_map.host_matching
        or config["SERVER_NAME"] is not None
        or (
            any(map(_receivers, _SIGNALS))
            and any(signal.has_receivers_for(app) for signal in _SIGNALS)
        )
    )


def keeps_context(scope: HttpScope) -> bool:
    """Whether a test client asks for the context of its request, to look at it afterwards."""
    return bool(cast("Any", scope).get("_quart._preserve_context"))


class _Lazy:
    """A context of Quart, which is made when an attribute is asked for."""

    __slots__ = ("_detached", "_place")

    def __init__(self, detached: Detached, place: int) -> None:
        _set_detached(self, detached)
        _set_place(self, place)

    def _real(self) -> Any:
        detached: Detached = object.__getattribute__(self, "_detached")
        place: int = object.__getattribute__(self, "_place")
        detached.make()
        return detached.contexts[place]

    def __getattr__(self, name: str) -> Any:
        return getattr(_Lazy._real(self), name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(_Lazy._real(self), name, value)


# An attribute of the stand-in is one of the context's, and each request makes two stand-ins.
_set_detached: Callable[[_Lazy, Detached], None] = vars(_Lazy)["_detached"].__set__
_set_place: Callable[[_Lazy, int], None] = vars(_Lazy)["_place"].__set__


class Detached:
    """The contexts of one request, and the outcome of its handler.

    Whatever a handler, or code that it calls, asks Quart's context variables for, they hold a
    stand-in that makes the real contexts first.

    Args:
        app: the Quart application.
        scope: makes the server's scope, or returns it.
        limit: bytes that the body may have.
        rule: the rule of the request's route.
        variables: the values of the path's variables.
    """

    __slots__ = ("_app", "_body", "_limit", "_make_scope", "_rule", "_scope", "_send",
                 "_variables", "answer", "contexts", "fault")  # fmt: skip

    def __init__(
        self,
        app: Quart,
        scope: Callable[[], HttpScope],
        limit: int,
        rule: Rule,
        variables: Mapping[str, Any],
    ) -> None:
        self._app = app
        self._make_scope = scope
        self._scope: Any = None
        self._send: Any = None
        self._limit = limit
        self._rule = rule
        self._variables = variables
        self._body: Body | None = None
        self.contexts: tuple[Any, ...] = ()
        """The contexts for the variables of Quart, the request's at the end; none before they are
        made."""
        self.answer: Any = None
        """The return value of the handler."""
        self.fault: BaseException | None = None
        """The exception of the handler."""

    @property
    def body(self) -> Body:
        """The body, which is made when it is asked for."""
        if self._body is None:
            self._body = Body(None, self._limit)
        return self._body

    @property
    def changes_response(self) -> bool:
        """Whether the handler has left functions that are to be called with the response.

        Nothing else of the contexts comes to it: without a secret, a session cannot be changed.
        """
        return bool(self.contexts and self.contexts[-1]._after_request_functions)

    def enter(self) -> list[Token[Any]]:
        """Set the context variables of Quart; returns their state before, for `leave`."""
        return [variable.set(_Lazy(self, place)) for place, variable in enumerate(_variables)]

    @staticmethod
    def leave(before: list[Token[Any]]) -> None:
        """Restore the context variables of Quart."""
        for token in before:
            token.var.reset(token)

    def make(self) -> None:
        """Make the contexts, unless they are made."""
        if self.contexts:
            return
        going_on: Any = {**self._make_scope(), DETACHED: self}
        self._scope = going_on
        app = self._app
        connection: Any = app.asgi_http_class(app, going_on)
        request: Any = connection._create_request_from_scope(self._send_later)
        request.body = self.body
        request.url_rule, request.view_args = self._rule, dict(self._variables)
        session = app.session_interface.null_session_class()
        context = REQUEST_CONTEXT(app, request=request, session=session)
        self.contexts = (context,) if len(_variables) == 1 else (app.app_context(), context)

    async def _send_later(self, message: SendMessage) -> None:
        """Send a message; the handler may have begun before there is a way to do so."""
        await self._send(message)

    def outcome(self) -> Any:
        """The return value of the handler; its exception is raised."""
        if self.fault is not None:
            raise self.fault
        return self.answer

    async def go_on(self, app: ASGIApp, receive: Receive, send: Send) -> None:
        """Have Quart go on with the request: it has the contexts, and the handler's outcome.

        Args:
            app: Quart's own ASGI application.
            receive: the server's.
            send: the middleware's.
        """
        self._send = send
        self.make()
        application = _variables[0]
        before = application.set(self.contexts[0])
        try:
            await app(self._scope, receive, self._send)
        finally:
            application.reset(before)
