"""A real browser that looks at the page.

Owns the browser, and what counts as a fault of any page: a line of error in its console, among
which are violations of the content policy, and an exception of its scripts. A test that fails has
notes about the page.
Never knows what a test looks for.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import trio
from playwright.sync_api import (
    Browser,
    ConsoleMessage,
    Error,
    Page,
    Playwright,
    Request,
    expect,
    sync_playwright,
)

T = TypeVar("T")

AXE = Path(__file__).parent / "vendor" / "axe.min.js"
PATIENCE = 60_000
"""Milliseconds in which the page shows what is looked for, on a busy machine too."""
REFUSED = "Failed to load resource"
"""The beginning of the line by which a browser tells of a response that is an error: no fault."""
WIDTHS = (360, 1280, 1600)
THEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
PICTURES = os.environ.get("SCREENSHOTS")
"""The directory for the pictures of the documents; none are kept where it is not set."""


async def browse(url: str, look: Callable[[Page], T], script: str = "") -> T:
    """Open the page in a browser, and look at it, in a thread.

    Args:
        url: the address of the page.
        look: is given the page, and may use it as long as it runs.
        script: runs in the page before its own scripts.
    """
    return await trio.to_thread.run_sync(partial(_browse, url, look, script))


def _browse(url: str, look: Callable[[Page], T], script: str) -> T:
    with _own_asyncio(), sync_playwright() as playwright, _chromium(playwright) as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.set_default_timeout(PATIENCE)
        page.set_default_navigation_timeout(PATIENCE)
        expect.set_options(timeout=PATIENCE)
        if script:
            page.add_init_script(script)
        witness = Witness(page)
        with witness.telling():
            page.goto(url, wait_until="commit")
            found = look(page)
    assert witness.faults == []
    return found


class Witness:
    """The account of a page: its console, and its requests.

    Args:
        page: the page, before it is opened.
    """

    def __init__(self, page: Page) -> None:
        self.faults: list[str] = []
        """Lines of error, and exceptions."""
        self._page = page
        self._console: list[str] = []
        self._asked: list[Request] = []
        self._failed: list[str] = []
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("request", self._ask)
        page.on("response", lambda response: self._answered(response.request))
        page.on("requestfailed", self._lost)

    def _hear(self, message: ConsoleMessage) -> None:
        self._console.append(f"{message.type}: {message.text}")
        if message.type == "error" and not message.text.startswith(REFUSED):
            self.faults.append(message.text)

    def _ask(self, request: Request) -> None:
        self._asked.append(request)

    def _answered(self, request: Request) -> None:
        if request in self._asked:
            self._asked.remove(request)

    def _lost(self, request: Request) -> None:
        self._answered(request)
        self._failed.append(f"{_named(request)}: {request.failure}")

    @contextmanager
    def telling(self) -> Generator[None]:
        """Add the account to an exception of the block, as notes."""
        try:
            yield
        except BaseException as error:
            error.add_note(f"the page shows: {self._text()}")
            error.add_note(f"its console: {self._console}")
            error.add_note(f"its requests that failed: {self._failed}")
            error.add_note(f"its requests without an answer: {[*map(_named, self._asked)]}")
            raise

    def _text(self) -> str:
        try:
            return repr(self._page.locator("body").inner_text(timeout=5000))
        except Error as error:
            return f"nothing that can be read: {error}"


def _named(request: Request) -> str:
    return f"{request.method} {request.url}"


@contextmanager
def _own_asyncio() -> Generator[None]:
    """Give Playwright a loop of asyncio's own, also where trio-asyncio was imported."""
    before = asyncio.get_event_loop_policy()  # pyright: ignore[reportDeprecated]
    own = asyncio.DefaultEventLoopPolicy()  # pyright: ignore[reportDeprecated]
    asyncio.set_event_loop_policy(own)  # pyright: ignore[reportDeprecated]
    try:
        yield
    finally:
        asyncio.set_event_loop_policy(before)  # pyright: ignore[reportDeprecated]


def _chromium(playwright: Playwright) -> Browser:
    program = shutil.which("chromium")
    assert program is not None, "chromium is not on the PATH"
    return playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])


def hindrances(page: Page) -> list[str]:
    """The findings of axe that are serious for somebody who cannot see, or has no mouse."""
    page.evaluate(AXE.read_text("utf-8"))
    found: Any = page.evaluate("async () => (await axe.run()).violations")
    return [
        f"{each['id']}: {node['html']}: {node['failureSummary']}"
        for each in found
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"]
    ]


def in_each_window(page: Page, name: str) -> None:
    """Nothing hinders anybody, and nothing is wider than the window, at each width and theme.

    Args:
        page: the page.
        name: of the pictures for the documents, where they are wanted.
    """
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 800})
        for theme in THEMES:
            page.emulate_media(color_scheme=theme)
            assert hindrances(page) == [], (width, theme)
            wider: bool = page.evaluate("document.documentElement.scrollWidth > innerWidth")
            assert not wider, width
            if PICTURES is not None:
                page.screenshot(path=Path(PICTURES) / f"{name}-{theme}-{width}.png")
