"""A browser that signs in."""

from __future__ import annotations

from typing import Any

import pytest
from trio.testing import MockClock

from trivet import BackgroundPlugin, Secret, TokenSettings, create_app, route
from trivet._access._sessions import DURATION
from trivet.testing import client, open_plugins

SECRET = "of-a-reader-with-a-browser"
TOKENS: Any = [
    TokenSettings(name="reader", scopes=["read"], secret=Secret(SECRET)),
    TokenSettings(name="operator", scopes=["admin"], secret=Secret("of-the-operator-alone")),
]


class Shop(BackgroundPlugin):
    @route("/shop")
    async def shop(self) -> str:
        return "open"


async def test_a_browser_gives_its_token_once() -> None:
    """The form begins a session, by a cookie that no script reads and no other site sends; with it
    the doors of the token are open, and no others."""
    async with open_plugins(Shop, tokens=TOKENS) as runtime:
        asking = client(runtime)
        page = await asking.get("/sign-in")
        assert page.status_code == 200
        assert 'type="password"' in await page.get_data(as_text=True)
        answer = await asking.post("/sign-in", form={"token": SECRET})
        assert (answer.status_code, answer.headers["Location"]) == (303, "/-/")
        cookie = answer.headers["Set-Cookie"]
        value, *attributes = cookie.split("; ")
        assert value.startswith("trivet_session=reader:")
        assert {*attributes} >= {"HttpOnly", "SameSite=Strict", "Path=/", f"Max-Age={DURATION}"}
        assert "Secure" not in attributes
        assert SECRET not in cookie + answer.headers["Location"]
        headers = {"Cookie": f"theme=dark; {value}"}
        other = client(runtime)
        assert (await other.get("/plugins", headers=headers)).status_code == 200
        assert (await other.get("/shop", headers=headers)).status_code == 200
        assert (await other.post("/-/plugins/shop/restart", headers=headers)).status_code == 403
        assert (await other.get("/plugins")).status_code == 401


async def test_over_tls_the_cookie_is_secure() -> None:
    """Over TLS the browser keeps the cookie from plain connections."""
    async with open_plugins(Shop, tokens=TOKENS) as runtime:
        asking = client(runtime)
        answer = await asking.post("/sign-in", form={"token": SECRET}, scheme="https")
        assert "Secure" in answer.headers["Set-Cookie"].split("; ")


async def test_a_browser_signs_out() -> None:
    """Signing out ends the session, also for a copy of its cookie."""
    async with open_plugins(Shop, tokens=TOKENS) as runtime:
        app = create_app(runtime)
        asking, copy = app.test_client(), app.test_client()
        answer = await asking.post("/sign-in", form={"token": SECRET})
        headers = {"Cookie": answer.headers["Set-Cookie"].partition(";")[0]}
        assert (await asking.get("/plugins", headers=headers)).status_code == 200
        out = await asking.post("/sign-out", headers=headers)
        assert (out.status_code, out.headers["Location"]) == (303, "/sign-in")
        assert "Max-Age=0" in out.headers["Set-Cookie"]
        assert (await copy.get("/plugins", headers=headers)).status_code == 401
        assert (await client(runtime).post("/sign-out")).status_code == 303


@pytest.mark.parametrize("form", [{}, {"token": ""}, {"token": SECRET + "x"}, {"token": "ünrecht"}])
async def test_a_wrong_token_begins_no_session(
    form: dict[str, str], autojump_clock: MockClock
) -> None:
    """A wrong token shows the form again, with the reason, and sets no cookie."""
    async with open_plugins(Shop, tokens=TOKENS) as runtime:
        answer = await client(runtime).post("/sign-in", form=form)
        assert (answer.status_code, answer.content_type) == (401, "text/html; charset=utf-8")
        assert "the token is unknown" in await answer.get_data(as_text=True)
        assert "Set-Cookie" not in answer.headers


async def test_no_script_and_no_other_page_gets_the_form() -> None:
    """The page runs no script, stands in no frame and is kept in no cache."""
    async with open_plugins(Shop, tokens=TOKENS) as runtime:
        headers = (await client(runtime).get("/sign-in")).headers
    assert headers["Cache-Control"] == "no-store"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
