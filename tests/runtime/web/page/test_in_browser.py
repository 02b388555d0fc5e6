"""The page in a real browser."""

from __future__ import annotations

import math
import re
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
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
    OperatorActionEvent,
    Plugin,
    Runtime,
    Secret,
    StallSettings,
    Status,
    StoreSettings,
    SupervisionSettings,
    TokenSettings,
    listening,
    route,
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
        self.degrade("the mail server answers 451")
        await trio.sleep_forever()


class Odd(BackgroundPlugin):
    async def run(self) -> None:
        self.degrade(f"the printer says {MARKUP}")
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


class Refund(Event):
    """Money that goes back."""

    order_id: str
    amount: float = 0.0
    is_whole: bool = True


class Till(EventPlugin[Refund]):
    delivery = DeliverySettings(durable=True, max_attempts=1)
    drawer: str = "left"

    def __init__(self, app: App) -> None:
        self.is_jammed = True
        self.paid: list[Refund] = []

    async def handle_event(self, event: Refund) -> None:
        if self.is_jammed:
            raise OSError(f"drawer jams at {MARKUP}, refund {event.order_id}")
        self.paid.append(event)
        self.log.warning("paid", order=event.order_id)

    @route("/till")
    async def till(self) -> dict[str, object]:
        return {}


@asynccontextmanager
async def till(directory: Path, *letters: Refund) -> AsyncGenerator[tuple[Runtime, str]]:
    """A program with a durable inbox, the dead letters in it, and the address of its page."""
    store, stalls = StoreSettings(path=directory / "store.db"), StallSettings()
    settings: Any = {"service": "till", "store": store, "stalls": stalls, "tokens": [OPERATOR]}
    async with open_plugins(Till, Mailer, patience=math.inf, **settings) as runtime:
        for letter in letters:
            await runtime.publish(letter, wait=True)
        async with serving(runtime) as url:
            yield runtime, f"{url}/-/"


def go_to(page: Page, view: str) -> None:
    """Sign in, and go to a view."""
    sign_in(page)
    page.get_by_role("navigation").get_by_role("link", name=view).click()


def confirm(page: Page, verb: str, reason: str = "") -> None:
    """Give the reason that a dialog asks for, and confirm."""
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Reason").fill(reason)
    dialog.get_by_role("button", name=verb).click()
    expect(dialog).to_have_count(0)


@asynccontextmanager
async def shop(*more: type[Plugin], **settings: Any) -> AsyncGenerator[tuple[Runtime, str]]:
    """A program with some plugins, and the address of its page."""
    plugins: list[type[Plugin]] = [Billing, Ledger, Mailer, Carrier, Feed, *more]
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

    async with shop(Odd) as (_, url):
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


async def test_a_plugin(tmp_path: Path) -> None:
    """A plugin's page has its error, its inbox, its history, its log, its tasks, its settings with
    their origins, and its routes; the level of its log is chosen there."""

    def look(page: Page) -> None:
        sign_in(page)
        row(page, "till").get_by_role("link").click()
        expect(page.get_by_role("heading", name="till", exact=True)).to_be_visible()
        expect(page.get_by_label("Inbox").get_by_text("dead lettered")).to_be_visible()
        expect(page.get_by_role("region", name="All settings")).to_contain_text(
            "plugins.till.drawer"
        )
        expect(page.get_by_role("cell", name="/till")).to_be_visible()
        expect(page.get_by_text("supervise", exact=True)).to_be_visible()
        expect(page.get_by_role("region", name="Statuses")).to_contain_text("running")
        in_each_window(page, "plugin")

    async with till(tmp_path, Refund("1")) as (_, url):
        await browse(url, look)


async def test_orders(tmp_path: Path) -> None:
    """A plugin is paused, resumed, disabled and enabled by buttons, each after a question; the
    reason that is given there is in the log."""
    done: list[OperatorActionEvent] = []

    def look(page: Page) -> None:
        sign_in(page)
        row(page, "till").get_by_role("link").click()
        for verb, seen in (("Pause", "paused"), ("Resume", "running"), ("Disable", "disabled")):
            page.get_by_role("button", name=verb).click()
            confirm(page, verb, f"to {verb.lower()} it")
            expect(page.locator(".head .line")).to_contain_text(seen)
        page.get_by_role("button", name="Enable").click()
        page.keyboard.press("Escape")
        expect(page.get_by_role("dialog")).to_have_count(0)
        page.get_by_role("link", name="Plugins").click()
        expect(row(page, "till")).to_contain_text("disabled")

    async with till(tmp_path) as (runtime, url):
        runtime.operator_acted = done.append  # type: ignore[assignment, method-assign]
        await browse(url, look)
        assert runtime.hosts["till"].status is Status.DISABLED
    assert [(each.action, each.plugin, each.reason) for each in done] == [
        ("pause", "till", "to pause it"),
        ("resume", "till", "to resume it"),
        ("disable", "till", "to disable it"),
    ]


async def test_dead_letters(tmp_path: Path) -> None:
    """Dead letters are grouped by their error and found by its text; the payload is shown when it
    is asked for; once the cause is mended, all that match are replayed, and others are deleted."""

    def look(page: Page, mend: Callable[[], None]) -> None:
        go_to(page, "Dead letters")
        group = page.locator(".group")
        expect(group).to_have_count(1)
        expect(group).to_contain_text(MARKUP)
        expect(group.get_by_role("listitem")).to_have_count(3)
        in_each_window(page, "dead-letters")
        page.get_by_label("Error has the text").fill("refund 2")
        page.keyboard.press("Enter")
        expect(group.get_by_role("listitem")).to_have_count(1)
        group.locator("summary").click()
        expect(page.locator(".payload")).to_have_count(0)
        page.get_by_role("button", name="Show the payload").click()
        expect(page.locator(".payload")).to_contain_text("12.5")
        mend()
        page.get_by_role("button", name="Replay all 1").click()
        confirm(page, "Replay")
        expect(page.get_by_text("No dead letter matches.")).to_be_visible()
        page.get_by_label("Error has the text").fill("")
        page.keyboard.press("Enter")
        page.get_by_label("All with this error").check()
        page.get_by_role("button", name="Delete 2 selected").click()
        confirm(page, "Delete")
        expect(page.get_by_text("There is no dead letter.")).to_be_visible()

    letters = Refund("1"), Refund("2", amount=12.5), Refund("3")
    async with till(tmp_path, *letters) as (runtime, url):
        plugin = runtime.get(Till)

        def mend() -> None:
            plugin.is_jammed = False

        await browse(url, partial(look, mend=mend))
        assert plugin.paid == [letters[1]]


async def test_events(tmp_path: Path) -> None:
    """Each event type is shown with its listeners; one is published by a form that is made from its
    schema, and what became of it is said."""

    def look(page: Page) -> None:
        go_to(page, "Events")
        expect(page.get_by_role("row", name="refund")).to_contain_text("till")
        page.get_by_role("button", name="Publish refund").click()
        form = page.get_by_role("region", name="Publish refund")
        expect(form).to_contain_text("Money that goes back.")
        form.get_by_label("order_id").fill("7")
        form.get_by_label("amount").fill("2.5")
        form.get_by_label("is_whole").select_option("false")
        in_each_window(page, "events")
        form.get_by_role("button", name="Publish", exact=True).click()
        expect(form.get_by_role("status")).to_contain_text("handled")

    async with till(tmp_path) as (runtime, url):
        runtime.get(Till).is_jammed = False
        await browse(url, look)
        assert runtime.get(Till).paid == [Refund("7", amount=2.5, is_whole=False)]


async def test_brokers_and_stalls(tmp_path: Path) -> None:
    """The views of brokers and stalls say what there is, or that there is nothing."""

    def look(page: Page) -> None:
        go_to(page, "Brokers")
        expect(page.get_by_text("No plugin tells of a connection")).to_be_visible()
        assert hindrances(page) == []
        page.get_by_role("navigation").get_by_role("link", name="Stalls").click()
        expect(page.get_by_role("row", name="till")).to_contain_text("ms")
        assert hindrances(page) == []

    async with till(tmp_path) as (_, url):
        await browse(url, look)


async def test_behind_a_proxy_at_a_prefix() -> None:
    """The page, its files, its stream and its form work at the prefix at which a proxy has put the
    service."""

    def look(page: Page) -> None:
        sign_in(page)
        expect(row(page, "billing")).to_contain_text("running")
        page.get_by_role("navigation").get_by_role("link", name="Events").click()
        expect(page.get_by_role("row", name="order_placed")).to_contain_text("billing")

    async with shop(tokens=[OPERATOR], root_path="/shop") as (_, url):
        await browse(url.replace("/-/", "/shop/-/"), look)
