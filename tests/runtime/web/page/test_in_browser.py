"""The page in a real browser."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio
from playwright import sync_api
from playwright.sync_api import Page

from trivet import (
    App,
    BackgroundPlugin,
    DeliverySettings,
    Event,
    EventPlugin,
    Runtime,
    Secret,
    StallSettings,
    SupervisionSettings,
    TokenSettings,
    listening,
)
from trivet.testing import open_plugins, serving

from ....contrib.programs import free_port, needs
from .browser import browse, hindrances, in_each_window

pytestmark = [pytest.mark.process, pytest.mark.real_time, needs("chromium")]

SECRET = "of-an-operator-with-a-browser"
OPERATOR: Any = TokenSettings(
    name="operator", scopes=["read", "admin", "ingest"], secret=Secret(SECRET)
)
expect: Any = sync_api.expect  # Its types are unknown in part.
MARKUP = "<img src=x onerror=\"document.title='broken in'\"><b>bold</b>"
"""A text that would do harm, if it was taken for HTML."""


class OrderPlaced(Event):
    order_id: str
    total: float = 0.0


class Billing(EventPlugin[OrderPlaced]):
    async def handle_event(self, event: OrderPlaced) -> None:
        self.log.info("billed", order=event.order_id)


class Ledger(EventPlugin[OrderPlaced]):
    delivery = DeliverySettings(buffer=20, overflow="drop_oldest")

    async def handle_event(self, event: OrderPlaced) -> None:
        await trio.sleep(0.5)


class Mailer(BackgroundPlugin):
    async def run(self) -> None:
        self.degrade(f"the mail server says {MARKUP}")
        await trio.sleep_forever()


class Carrier(BackgroundPlugin):
    """A plugin that a test has crash."""

    supervision = SupervisionSettings(max_restarts=1000, backoff_initial=0.3, backoff_max=0.3)

    def __init__(self, app: App) -> None:
        self.is_broken = trio.Event()

    async def run(self) -> None:
        await self.is_broken.wait()
        raise ConnectionError(f"no carrier at {MARKUP}")


class Feed(BackgroundPlugin):
    async def run(self) -> None:
        number = 0
        while True:
            number += 1
            await self.app.publish(OrderPlaced(f"o-{number}", total=9.5))
            await trio.sleep(0.05)


@asynccontextmanager
async def shop(**settings: Any) -> AsyncGenerator[tuple[Runtime, str]]:
    """A program with some plugins, and the address of its page."""
    plugins = [Billing, Ledger, Mailer, Carrier, Feed]
    stalls = StallSettings()
    async with open_plugins(*plugins, service="shop", stalls=stalls, **settings) as runtime:
        async with serving(runtime) as url:
            yield runtime, f"{url}/-/"


def row(page: Page, plugin: str) -> Any:
    """The row of a plugin in the overview."""
    return page.get_by_role("row").filter(has=page.get_by_role("link", name=plugin, exact=True))


def sign_in(page: Page, secret: str = SECRET) -> None:
    """Give a token to the form."""
    page.get_by_label("Token").fill(secret)
    page.get_by_role("button", name="Sign in").click()


async def test_an_overview_without_tokens() -> None:
    """Without tokens the page opens with the overview at once: each plugin with its status and its
    rates, which change by themselves; faults come first."""

    def look(page: Page) -> None:
        expect(page.get_by_role("heading", name="What to do first")).to_be_visible()
        for name in ("billing", "carrier", "feed", "ledger", "mailer"):
            expect(row(page, name)).to_be_visible()
        expect(row(page, "mailer")).to_contain_text("degraded")
        expect(row(page, "billing")).to_contain_text("running")
        expect(row(page, "billing").get_by_role("cell").nth(1)).to_have_text(re.compile("[1-9]"))
        expect(page).to_have_title("Overview · shop")

    async with shop() as (_, url):
        await browse(url, look)


async def test_markup_is_text() -> None:
    """A text of a plugin's that looks like HTML is shown as it is."""

    def look(page: Page) -> None:
        expect(page.get_by_text(MARKUP).first).to_be_visible()
        assert page.locator("main b, main img").count() == 0
        expect(page).to_have_title("Overview · shop")

    async with shop() as (_, url):
        await browse(url, look)


async def test_a_crash_loop_turns_red() -> None:
    """A plugin that crashes again and again turns red, and is named first with what to do."""

    def look(page: Page, break_it: Callable[[], None]) -> None:
        expect(row(page, "carrier")).to_contain_text("running")
        break_it()
        expect(row(page, "carrier").locator(".status.bad")).to_have_text("crash loop")
        first = page.locator(".advice li").first
        expect(first).to_contain_text("carrier crashes again and again")
        expect(first).to_contain_text("ConnectionError")

    async with shop() as (runtime, url):
        broken = runtime.get(Carrier).is_broken
        await browse(url, partial(look, break_it=partial(trio.from_thread.run_sync, broken.set)))


async def test_signing_in() -> None:
    """A browser without a session gets the form, is told that a token is wrong, and is in with a
    right one; signed out, it gets the form again."""

    def look(page: Page) -> None:
        sign_in(page, "x" * 20)
        expect(page.get_by_role("alert")).to_contain_text("does not know this token")
        assert hindrances(page) == []
        sign_in(page)
        expect(row(page, "billing")).to_be_visible()
        page.reload()
        expect(row(page, "billing")).to_be_visible()
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_label("Token")).to_be_visible()

    async with shop(tokens=[OPERATOR]) as (_, url):
        await browse(url, look)


async def test_the_stop_is_seen_and_the_page_comes_back() -> None:
    """The page shows that the service stops and within which time, then that it is gone, and goes
    on by itself when it is back."""
    address = f"127.0.0.1:{free_port()}"
    is_seen, is_back = trio.Event(), trio.Event()

    def look(page: Page) -> None:
        expect(row(page, "billing")).to_be_visible()
        trio.from_thread.run_sync(is_seen.set)
        expect(page.get_by_role("heading", name="The service stops")).to_be_visible()
        trio.from_thread.run(is_back.wait)
        expect(page.locator(".overall")).to_contain_text("degraded")
        expect(page.get_by_role("heading", name="The service stops")).to_have_count(0)

    async def serve_twice(task_status: trio.TaskStatus[None]) -> None:
        async with open_plugins(Billing, Mailer) as runtime, listening(runtime, address):
            task_status.started()
            await is_seen.wait()
        async with open_plugins(Billing, Mailer) as runtime, listening(runtime, address):
            is_back.set()
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        await nursery.start(serve_twice)
        await browse(f"http://{address}/-/", look)
        nursery.cancel_scope.cancel()


async def test_everybody_can_use_it() -> None:
    """In each theme and at each width nothing serious hinders somebody who cannot see, and nothing
    is wider than the window."""

    def look(page: Page) -> None:
        expect(row(page, "billing").get_by_role("cell").nth(1)).to_have_text(re.compile("[1-9]"))
        in_each_window(page, "overview")

    async with shop() as (_, url):
        await browse(url, look)


async def test_with_the_keyboard() -> None:
    """Without a mouse one gets past the frame to the content, and to each plugin."""

    def look(page: Page) -> None:
        expect(row(page, "billing")).to_be_visible()
        page.keyboard.press("Tab")
        expect(page.get_by_text("Skip to the content")).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.locator("main")).to_be_focused()

    async with shop() as (_, url):
        await browse(url, look)
