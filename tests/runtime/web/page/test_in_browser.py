"""The page in a real browser."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from playwright.sync_api import Page

from trivet import (
    BackgroundPlugin,
    Delivery,
    OperatorActionEvent,
    Status,
    listening,
)
from trivet._web._page import _series
from trivet.testing import open_plugins, serving

from ....contrib.programs import free_port, needs
from ...loop.samples import Samples
from ...reload.programs import Files, plugin
from .browser import browse, hindrances, in_each_window
from .programs import (
    MARKUP,
    OPERATOR,
    VAULT,
    VAULT_SETTINGS,
    Billing,
    Carrier,
    Mailer,
    Odd,
    Refund,
    Till,
    confirm,
    expect,
    go_to,
    row,
    shop,
    sign_in,
    till,
)

pytestmark = [pytest.mark.process, pytest.mark.real_time, needs("chromium")]


async def test_an_overview_without_tokens() -> None:
    """Without tokens the page opens with the overview at once: each plugin with its status and its
    rates, which change by themselves; faults come first."""

    def look(page: Page) -> None:
        expect(page.get_by_role("heading", name="What to do first")).to_be_visible()
        for name in ("billing", "carrier", "feed", "ledger", "mailer"):
            expect(row(page, name)).to_be_visible()
        expect(row(page, "mailer")).to_contain_text("degraded")
        expect(page.locator(".advice")).to_contain_text("renew the password of the mailbox")
        expect(row(page, "billing")).to_contain_text("running")
        expect(row(page, "billing").get_by_role("cell").nth(1)).to_have_text(re.compile("[1-9]"))
        expect(page).to_have_title("Overview · shop")
        expect(page.get_by_text("Loading")).to_have_count(0)

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
    right one; signed out, it gets the form again. What a program has to send is told to nobody."""

    def look(page: Page) -> None:
        sign_in(page, "x" * 20)
        expect(page.get_by_role("alert")).to_contain_text("does not know this token")
        expect(page.locator("main")).not_to_contain_text("Bearer")
        assert hindrances(page) == []
        sign_in(page)
        expect(row(page, "billing")).to_be_visible()
        page.reload()
        expect(row(page, "billing")).to_be_visible()
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_label("Token")).to_be_visible()
        expect(page.locator("main")).to_contain_text("your session has ended")
        expect(page.locator("main")).not_to_contain_text("Bearer")

    async with shop(tokens=[OPERATOR]) as (_, url):
        await browse(url, look)


async def test_a_failure_tells_of_the_page() -> None:
    """A test that fails has notes: what the page shows, its console, and its requests."""

    def look(page: Page) -> None:
        expect(page.get_by_label("Token")).to_be_visible()
        page.route("**/lost", lambda route: route.abort())
        page.route("**/open", lambda _: None)
        page.evaluate("fetch('lost').catch((error) => console.log('no answer'))")
        with page.expect_request("**/open"):
            page.evaluate("void fetch('open')")
        raise LookupError

    async with shop(tokens=[OPERATOR]) as (_, url):
        with pytest.raises(LookupError) as raised:
            await browse(url, look)
    shows, console, failed, unanswered = raised.value.__notes__
    assert "Give a token of this service" in shows
    assert "log: no answer" in console
    assert f"GET {url}lost" in failed
    assert f"['GET {url}open']" in unanswered


FRAMES_COME_LATE = """
const later = window.setTimeout.bind(window);
let answer;
const answered = new Promise((done) => { answer = done; });
const read = Response.prototype.json;
Response.prototype.json = async function () {
  const document = await read.call(this);
  later(answer);
  return document;
};
window.requestAnimationFrame = (draw) => (answered.then(draw), 0);
window.setTimeout = (call, ...rest) => later(() => answered.then(call), ...rest);
"""
"""A browser that draws nothing before the first answer has been read, as on a busy machine."""


async def test_the_form_appears_in_a_slow_browser() -> None:
    """A browser whose first frame comes after the service's answer has the form all the same."""

    def look(page: Page) -> None:
        sign_in(page)
        expect(row(page, "billing")).to_be_visible()

    async with shop(tokens=[OPERATOR]) as (_, url):
        await browse(url, look, FRAMES_COME_LATE)


async def test_scripts_that_do_not_come() -> None:
    """A page one of whose scripts is lost says so, and comes by itself when the script does."""

    def look(page: Page) -> None:
        expect(row(page, "billing")).to_be_visible()
        page.route("**/overview.js", lambda route: route.abort())
        page.reload(wait_until="commit")
        expect(page.get_by_role("status")).to_contain_text("could not be loaded")
        assert hindrances(page) == []
        page.unroute("**/overview.js")
        expect(row(page, "billing")).to_be_visible()

    async with shop() as (_, url):
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


async def test_everybody_can_use_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """In each theme and at each width nothing serious hinders somebody who cannot see, and nothing
    is wider than the window, with curves that are drawn."""
    monkeypatch.setattr(_series, "EVERY", 0.25)  # A quarter of an hour in 22 seconds.

    def look(page: Page) -> None:
        expect(row(page, "billing").get_by_role("cell").nth(1)).to_have_text(re.compile("[1-9]"))
        expect(row(page, "billing").get_by_role("img", name="events in")).to_be_visible()
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


async def test_a_plugin_that_changes(tmp_path: Path) -> None:
    """While a plugin's page is open it shows the error by which the plugin is given up, and once
    the plugin is mended the new settings, without that error."""
    files = Files(tmp_path)
    files.plugin("vault", VAULT)
    files.settings(VAULT_SETTINGS)

    def look(page: Page, fail: Callable[[], None], mend: Callable[[], object]) -> None:
        sign_in(page)
        row(page, "vault").get_by_role("link").click()
        settings, statuses = (
            page.get_by_role("region", name=name) for name in ("All settings", "Statuses")
        )
        expect(settings).to_contain_text("of last year")
        fault = page.get_by_role("region", name="Last error")
        expect(fault).to_have_count(0)
        fail()
        expect(fault).to_contain_text("the key is refused")
        expect(statuses).to_contain_text("failed")
        mend()
        expect(settings).to_contain_text("of this year")
        expect(fault).to_have_count(0)

    async with files.running() as (runtime, reloader), serving(runtime) as url:

        def mend() -> object:
            files.settings(f'{VAULT_SETTINGS}[plugins.vault]\nkey = "of this year"')
            return trio.from_thread.run(reloader.reload)

        refused: trio.Event = plugin(runtime, "vault").is_refused
        fail = partial(trio.from_thread.run_sync, refused.set)
        await browse(f"{url}/-/", partial(look, fail=fail, mend=mend))


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
        expect(page.get_by_role("dialog").get_by_label("Reason")).to_be_visible()
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
        with trio.fail_after(30):  # The store looks for replayed events every few seconds.
            while not plugin.paid:
                await trio.sleep(0.01)
        assert plugin.paid == [letters[1]]


async def test_the_way_to_the_dead_letters_of_a_plugin(tmp_path: Path) -> None:
    """The advice to replay dead letters leads to those of its plugin; another plugin can be chosen
    there, and the view's own link leads to all of them."""

    def look(page: Page) -> None:
        sign_in(page)
        page.get_by_role("link", name="Open the dead letters of till").click()
        chosen = page.get_by_role("combobox", name="Plugin")
        expect(chosen).to_have_value("till")
        expect(page.locator(".group").get_by_role("listitem")).to_have_count(1)
        chosen.select_option("mailer")
        expect(page.get_by_text("No dead letter matches.")).to_be_visible()
        page.get_by_role("navigation").get_by_role("link", name="Dead letters").click()
        expect(chosen).to_have_value("")
        expect(page.locator(".group").get_by_role("listitem")).to_have_count(1)

    async with till(tmp_path, Refund("1")) as (_, url):
        await browse(url, look)


async def test_dead_letters_that_nobody_has_seen_stay(tmp_path: Path) -> None:
    """A dead letter that comes between the question and its confirmation is not deleted."""

    def look(page: Page, come: Callable[[], None]) -> None:
        go_to(page, "Dead letters")
        page.get_by_role("button", name="Delete all 2").click()
        come()
        confirm(page, "Delete")
        expect(page.get_by_text("Deleted 2 dead letters.")).to_be_visible()
        page.reload()  # The third may have been on its way to the disk.
        expect(page.locator(".group").get_by_role("listitem")).to_have_count(1)

    async with till(tmp_path, Refund("1"), Refund("2")) as (runtime, url):

        def come() -> None:
            trio.from_thread.run(partial(runtime.publish, Refund("3"), wait=True))

        await browse(url, partial(look, come=come))


async def test_many_dead_letters(tmp_path: Path) -> None:
    """A thousand dead letters that were selected are deleted, in several requests."""

    def look(page: Page) -> None:
        go_to(page, "Dead letters")
        page.get_by_role("button", name="Show more of").click()
        expect(page.locator(".group").get_by_role("listitem")).to_have_count(1000)
        page.get_by_label("All with this error").check()
        page.get_by_role("button", name="Delete 1000 selected").click()
        sent: list[str] = []
        page.on("request", lambda request: sent.append(request.url))
        confirm(page, "Delete")
        assert len([url for url in sent if "/purge?" in url]) == 5
        expect(page.get_by_text(re.compile("Deleted 1.?000 dead letters"))).to_be_visible()
        expect(page.get_by_text("There is no dead letter.")).to_be_visible()

    async with till(tmp_path) as (runtime, url):
        letters = [Delivery.of(Refund(str(number))) for number in range(1000)]
        await runtime.publish_many(letters, wait=True)
        await browse(url, look)


async def test_an_address_that_is_not_encoded() -> None:
    """A text behind the `#` that no program has encoded leads to the overview, or to its view."""

    def look(page: Page) -> None:
        expect(page.locator("dl.totals")).to_be_visible()
        page.evaluate("location.hash = '#/plugins/100%'")
        expect(page.locator("main")).to_contain_text("100%")

    async with open_plugins(Billing) as runtime, serving(runtime) as url:
        await browse(f"{url}/-/#/%", look)


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


class Hog(BackgroundPlugin):
    """A plugin that holds the loop when a test wants it."""

    async def initialize(self) -> None:
        self.begin = trio.Event()
        self.hold: Callable[[], object] = dict

    async def run(self) -> None:
        await self.begin.wait()
        self.hold()
        await trio.sleep_forever()


async def test_the_profile_of_a_stall(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stall has a flame graph, through which the keyboard leads, and which zooms; its file is
    the one that speedscope reads. The names of functions are text."""
    samples = Samples(monkeypatch)
    values: dict[str, Any] = {"samples": samples}
    source = "def count_all():\n    samples.wait(3)\ndef add_up():\n    samples.wait(2)\n"
    exec(compile(source, f"/shop/{MARKUP}.py", "exec"), values)

    def hold() -> None:
        values["count_all"]()
        values["add_up"]()

    def look(page: Page, begin: Callable[[], None]) -> None:
        sign_in(page)
        expect(row(page, "hog")).to_be_visible()
        begin()
        page.get_by_role("navigation").get_by_role("link", name="Stalls").click()
        page.get_by_role("link", name="hog, stall").click()
        graph = page.get_by_label("Flame graph")
        call = graph.get_by_role("button", name=re.compile("^count_all, .*%"))
        expect(call).to_be_visible()
        expect(graph.get_by_role("button", name=re.compile("^add_up, "))).to_be_visible()
        assert page.locator("main b, main img").count() == 0
        in_each_window(page, "stall")
        graph.get_by_role("button", name=re.compile("^all, ")).focus()
        for name in ("all", "Hog.run", "test_the_profile_of_a_stall.<locals>.hold"):
            expect(graph.locator(":focus")).to_have_attribute(
                "aria-label", re.compile(f"^{name}, ")
            )
            page.keyboard.press("ArrowDown")
        call.focus()
        expect(graph.locator("dl")).to_contain_text(f"/shop/{MARKUP}.py:2")
        page.keyboard.press("Enter")
        expect(call).to_have_attribute("aria-pressed", "true")
        expect(graph.get_by_role("button", name=re.compile("^add_up, "))).to_have_count(0)
        page.keyboard.press("Escape")
        expect(graph.get_by_role("button", name=re.compile("^add_up, "))).to_be_visible()
        with page.expect_download() as downloaded:
            page.get_by_role("link", name="Download").click()
        assert re.fullmatch(r"stall-\d+\.speedscope\.json", downloaded.value.suggested_filename)
        document = json.loads(downloaded.value.path().read_text("utf-8"))
        assert "count_all" in [each["name"] for each in document["shared"]["frames"]]

    async with shop(Hog, tokens=[OPERATOR]) as (runtime, url):
        hog = runtime.get(Hog)
        hog.hold = hold
        await browse(url, partial(look, begin=partial(trio.from_thread.run_sync, hog.begin.set)))


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
