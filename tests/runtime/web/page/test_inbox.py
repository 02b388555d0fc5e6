"""The inbox in the view of a plugin, in a real browser."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
import trio
from playwright.sync_api import Page

from trivet import DeliverySettings, Event, EventPlugin
from trivet.testing import open_plugins, serving

from ....contrib.programs import needs
from .browser import browse, in_each_window
from .programs import MARKUP, OPERATOR, expect, row, sign_in

pytestmark = [pytest.mark.process, pytest.mark.real_time, needs("chromium")]

LONG = 1e6
"""Seconds before another attempt, at most."""


class Refunded(Event):
    account: str
    amount: float = 0.0
    note: str = ""


class Till(EventPlugin[Refunded]):
    """A plugin that works on one event, has failed at another, and has more before it."""

    delivery = DeliverySettings(
        retry=True,
        retry_initial=LONG,
        retry_max=LONG,
        retry_for=0,
        max_attempts=5,
        time_limit=0,
        ordering_key="account",
    )

    async def handle_event(self, event: Refunded) -> None:
        if event.amount < 0:
            raise OSError(f"the drawer jams at {MARKUP}")
        await trio.sleep_forever()


@asynccontextmanager
async def till() -> AsyncGenerator[str]:
    """A program whose plugin has events before it; yields the address of its page."""
    async with open_plugins(Till, service="till", tokens=[OPERATOR], patience=2 * LONG) as runtime:
        for number, account in enumerate(["eve", "adam", "adam", "eve"]):
            amount = -1.0 if number == 0 else 9.5
            event = Refunded(account, amount, note=MARKUP)
            await runtime.publish(event, id=f"refund-{number}", key=account)
        for number in range(60):
            await runtime.publish(Refunded("adam"), id=f"more-{number}")
        async with serving(runtime) as url:
            yield f"{url}/-/"
        runtime.hurry()


async def test_what_waits_is_seen() -> None:
    """The view of a plugin shows what it works on, what has failed and when it is tried again, and
    what waits, the oldest first; a payload when it is asked for; all texts are text."""

    def look(page: Page) -> None:
        sign_in(page)
        row(page, "till").get_by_role("link").click()
        inbox = page.get_by_role("region", name="All that are shown")
        rows = inbox.get_by_role("row")
        expect(rows).to_have_count(51)
        expect(rows.nth(1)).to_contain_text("refund-0")
        expect(rows.nth(1)).to_contain_text("attempt 2 of 5 in")
        expect(rows.nth(1)).to_contain_text(MARKUP)
        expect(rows.nth(2)).to_contain_text("in flight")
        expect(rows.nth(3)).to_contain_text("queued")
        expect(page.get_by_text("14 more.")).to_be_visible()
        assert inbox.locator("pre, b, img").count() == 0
        inbox.get_by_role("button", name="Show the payload of refund-1").click()
        expect(rows.nth(2).locator("pre")).to_contain_text('"amount": 9.5')
        expect(inbox.locator("pre")).to_have_count(1)
        in_each_window(page, "inbox")
        inbox.get_by_role("button", name="Hide the payload of refund-1").click()
        expect(inbox.locator("pre")).to_have_count(0)
        assert inbox.locator("b, img").count() == 0

    async with till() as url:
        await browse(url, look)
