"""Programs that the page shows, and the steps of their operator.

Owns the plugins, of which some fail when a test wants it.
Never knows what a test looks for.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio
from playwright import sync_api
from playwright.sync_api import Page

from trivet import (
    App,
    BackgroundPlugin,
    DeliverySettings,
    Event,
    EventPlugin,
    Plugin,
    Runtime,
    Secret,
    StallSettings,
    StoreSettings,
    SupervisionSettings,
    TokenSettings,
    route,
)
from trivet.testing import open_plugins, serving

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
        self.degrade("the mail server answers 451", remedy="renew the password of the mailbox")
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
            await trio.sleep(0.05 + 0.03 * math.sin(number / 20))


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


VAULT = """
class Vault(BackgroundPlugin):
    key: str = "of last year"

    async def initialize(self) -> None:
        self.is_refused = trio.Event()

    async def run(self) -> None:
        await self.is_refused.wait()
        raise PermanentError("the key is refused")
"""
VAULT_SETTINGS = f"""\
active_plugins = ["vault"]
[[tokens]]
name = "operator"
scopes = ["read", "admin"]
secret = "{SECRET}"
"""


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
