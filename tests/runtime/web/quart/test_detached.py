"""Handlers that are called outside of Quart have its contexts, as soon as they ask for one."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
from typing import Any, ClassVar

import pytest
import trio
from quart import (
    copy_current_request_context,  # pyright: ignore[reportUnknownVariableType]
    g,
    has_app_context,
    has_request_context,
    request,
    request_finished,
)
from quart.sessions import SecureCookieSessionInterface
from quart_trio import QuartTrio
from trio.testing import MockClock

from trivet import BackgroundPlugin, route
from trivet._web._app import build_app
from trivet._web._quart._detached import has_hooks
from trivet.testing import open_plugins

from ..test_plain_routes import ask


class OwnSessions(SecureCookieSessionInterface):
    """Sessions that are kept in a way of their own."""


async def nothing(*_: Any, **__: Any) -> Any:
    """A hook that does nothing."""


HOOKS: dict[str, Callable[[Any], object]] = {
    "before a request": lambda app: app.before_request(nothing),
    "after a request": lambda app: app.after_request(nothing),
    "at a teardown": lambda app: app.teardown_request(nothing),
    "at the application's teardown": lambda app: app.teardown_appcontext(nothing),
    "for the values of a path": lambda app: app.url_value_preprocessor(nothing),
    "a signal": lambda app: request_finished.connect(nothing, app),
    "a secret": lambda app: app.config.update(SECRET_KEY="secret"),
    "a name": lambda app: app.config.update(SERVER_NAME="shop.test"),
    "sessions": lambda app: setattr(app, "session_interface", OwnSessions()),
    "hosts": lambda app: setattr(app.url_map, "host_matching", True),
}


@pytest.mark.parametrize("hook", HOOKS)
def test_a_hook_is_noticed(hook: str) -> None:
    """Every hook of the application that Quart calls at a request, or that changes it, is seen."""
    app = QuartTrio("trivet")
    app.before_request(nothing)  # The application's own check.
    assert not has_hooks(app)
    HOOKS[hook](app)
    try:
        assert has_hooks(app)
    finally:
        request_finished.disconnect(nothing)


class Shop(BackgroundPlugin):
    """Handlers that leave something behind."""

    noted: ClassVar[list[str]] = []

    @route("/asks-whether")
    async def asks_whether(self) -> list[bool]:
        return [has_request_context(), has_app_context()]

    @route("/copies")
    async def copies(self) -> str:
        g.given = "given"
        async with trio.open_nursery() as nursery:

            @copy_current_request_context
            async def note() -> None:
                self.noted.append(request.path)

            nursery.start_soon(note)  # pyright: ignore[reportUnknownArgumentType]
        return self.noted.pop()

    @route("/asks-in-a-thread")
    async def asks_in_a_thread(self) -> str:
        return await trio.to_thread.run_sync(lambda: request.path)

    @route("/leaves")
    async def leaves(self) -> str:
        trio.lowlevel.spawn_system_task(self.ask_later, context=copy_context())
        return "left"

    async def ask_later(self) -> None:
        await trio.sleep(1)
        self.noted.append(request.path)


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/asks-whether", b"[true,true]\n"),
        ("/copies", b"/copies"),
        ("/asks-in-a-thread", b"/asks-in-a-thread"),
    ],
)
async def test_a_context_is_there_for_everything_that_a_handler_calls(
    path: str, answer: bytes, autojump_clock: MockClock
) -> None:
    """Questions for the context, copies of it, and other threads get the request's context."""
    async with open_plugins(Shop) as runtime:
        status, _, body = await ask(build_app(runtime), "GET", path)
    assert (status, body) == (200, answer)


async def test_a_task_may_ask_for_the_request_after_the_response(
    autojump_clock: MockClock,
) -> None:
    """A task that a handler leaves behind asks for the request when the response has been sent."""
    async with open_plugins(Shop) as runtime:
        await ask(build_app(runtime), "GET", "/leaves")
        await trio.sleep(2)
    assert Shop.noted.pop() == "/leaves"
