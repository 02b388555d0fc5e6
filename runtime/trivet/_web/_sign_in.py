"""Signing in: a browser gives a token once, and has a session from then on.

Owns the page with the form, and the cookie.
Never knows what a token is for.
"""

from __future__ import annotations

from html import escape
from typing import Any, cast

import structlog
from quart import Response, request
from quart.typing import ResponseReturnValue
from quart_trio import QuartTrio

from .._access._sessions import DURATION
from .._access._tokens import Scope
from ._asgi import HttpScope
from ._context import current_context
from ._doors import COOKIE, Doors, address_of, session_of
from ._problems import ProblemError

PATH, OUT = "/sign-in", "/sign-out"
PAGE_PATH = "/-/"
SCOPES: dict[str, Scope | None] = {"form": None, "sign_in": None, "sign_out": None}
"""The scopes of Quart's endpoints here."""
PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Sign in</title>
<form method="post">
<p role="alert">{fault}</p>
<p><label>Token <input type="password" name="token" required autofocus></label>
<button>Sign in</button></p>
</form>
<form method="post" action="{out}"><p><button>Sign out</button></p></form>
</html>
"""
HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Content-Security-Policy": "default-src 'none'; form-action 'self'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
}

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger("trivet.http")


def add_sign_in(app: QuartTrio, doors: Doors) -> None:
    """Serve `/sign-in` and `POST /sign-out`."""

    @app.get(PATH)
    async def form() -> ResponseReturnValue:
        """The form, in which a token is given."""
        return _page(200, "")

    @app.post(PATH)
    async def sign_in() -> ResponseReturnValue:
        """Begin a session, and go on to the page of the administration, where it is served."""
        doors.refuse_cross_site()
        current: Any = request  # Its form has no types.
        secret = str((await current.form).get("token", ""))
        try:
            token = doors.checked(secret.encode("utf-8", "replace"), address_of(_scope()))
        except ProblemError as problem:
            current_context().error_code = problem.error_code
            return _page(problem.status.value, problem.detail, problem.headers)
        _log.info("signed in", token=token.name)
        following = PAGE_PATH if doors.serves(PAGE_PATH) else PATH
        response = Response(b"", 303, {"Location": f"{request.root_path}{following}"})
        _set_cookie(response, doors.sessions.begin(token), DURATION)
        return response

    @app.post(OUT)
    async def sign_out() -> ResponseReturnValue:
        """End the session."""
        doors.refuse_cross_site()
        session = session_of(_scope())
        if session is not None:
            doors.sessions.end(session)
            _log.info("signed out")
        response = Response(b"", 303, {"Location": f"{request.root_path}{PATH}"})
        _set_cookie(response, "", 0)
        return response


def _scope() -> HttpScope:
    return cast("HttpScope", request.scope)


def _page(status: int, fault: str, headers: dict[str, str] | None = None) -> Response:
    text = PAGE.format(fault=escape(fault), out=escape(f"{request.root_path}{OUT}"))
    return Response(text, status, {**HEADERS, **(headers or {})})


def _set_cookie(response: Response, value: str, max_age: int) -> None:
    response.set_cookie(
        COOKIE,
        value,
        max_age=max_age,
        path=request.root_path or "/",
        secure=request.scheme == "https",
        httponly=True,
        samesite="Strict",
    )
