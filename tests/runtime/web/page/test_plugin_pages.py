"""The pages that plugins' authors have written, in a real browser."""

from __future__ import annotations

from functools import partial

import pytest
import trio
from playwright.sync_api import Page

from trivet import App, BackgroundPlugin, Curve, Facts, Part, Table, page
from trivet.testing import open_plugins, serving

from ....contrib.programs import needs
from .browser import browse, in_each_window
from .programs import MARKUP, OPERATOR, expect, row, sign_in

pytestmark = [pytest.mark.process, pytest.mark.real_time, needs("chromium")]


class Cellar(BackgroundPlugin):
    """A plugin with a page that is well, and one that fails until somebody lights a lamp."""

    def __init__(self, app: App) -> None:
        self.has_light = trio.Event()

    @page("Barrels")
    async def stock(self) -> list[Part]:
        return [
            "Counted on Monday.",
            Facts({"barrels": 1204, "full": False, "keeper": MARKUP}),
            Table(["wine", "barrels"], [[f"wine {number}", number] for number in range(12)]),
            Curve("degrees", [11.0, 11.4, 12.2, 12.1]),
        ]

    @page("Leaks")
    async def leaks(self) -> str:
        if not self.has_light.is_set():
            raise OSError(f"too dark to see {MARKUP}")
        return "All is dry."


async def test_cards_and_views() -> None:
    """A plugin has a card for each page: with the parts as text, or with the fault of the author's
    code, which goes away by itself when the code is well again. A card leads to a view with all."""

    def look(browser: Page, cellar: Cellar) -> None:
        sign_in(browser)
        row(browser, "cellar").get_by_role("link").click()
        card = browser.get_by_role("region", name="Barrels", exact=True)
        expect(card).to_contain_text("Counted on Monday.")
        expect(card).to_contain_text("1,204")
        expect(card).to_contain_text(MARKUP)
        expect(card).to_contain_text("7 more rows.")
        expect(card.get_by_role("row")).to_have_count(6)
        expect(card.get_by_role("img", name="degrees")).to_be_visible()
        leaks = browser.get_by_role("region", name="Leaks", exact=True)
        expect(leaks.get_by_role("alert")).to_contain_text(f"too dark to see {MARKUP}")
        assert browser.locator("main b, main img").count() == 0
        in_each_window(browser, "cards")
        trio.from_thread.run_sync(cellar.has_light.set)
        expect(leaks).to_contain_text("All is dry.")
        card.get_by_role("link", name="Barrels").click()
        expect(browser.get_by_role("heading", name="Barrels")).to_be_visible()
        expect(browser.get_by_role("row")).to_have_count(13)
        in_each_window(browser, "page-of-a-plugin")
        browser.get_by_role("link", name="cellar").click()
        expect(leaks).to_be_visible()

    async with open_plugins(Cellar, service="shop", tokens=[OPERATOR]) as runtime:
        async with serving(runtime) as url:
            await browse(f"{url}/-/", partial(look, cellar=runtime.get(Cellar)))


class Ledger(BackgroundPlugin):
    """A plugin with a page that has more of everything than is shown."""

    @page("All")
    async def all_of_it(self) -> list[Part]:
        facts, curve = Facts({f"fact {n}": n for n in range(203)}), Curve("cups", [1.0] * 504)
        return [facts, curve, *["A text."] * 23]


async def test_what_is_left_out_is_told() -> None:
    """A page tells how many facts, values of a curve and parts are not shown."""

    def look(browser: Page) -> None:
        sign_in(browser)
        for said in ("3 more facts.", "4 earlier values.", "5 more parts."):
            expect(browser.get_by_text(said, exact=True)).to_be_visible()

    async with open_plugins(Ledger, service="shop", tokens=[OPERATOR]) as runtime:
        async with serving(runtime) as url:
            await browse(f"{url}/-/#/plugins/ledger/all_of_it", look)


async def test_a_page_that_is_not_there() -> None:
    """An address of a page that the plugin does not have tells so."""

    def look(browser: Page) -> None:
        sign_in(browser)
        expect(browser.get_by_role("alert")).to_contain_text("has no page 'stok'")

    async with open_plugins(Cellar, service="shop", tokens=[OPERATOR]) as runtime:
        async with serving(runtime) as url:
            await browse(f"{url}/-/#/plugins/cellar/stok", look)
