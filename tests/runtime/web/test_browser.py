"""Pages of other sites in a real browser: what they try, and what becomes of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from quart import Response, websocket

from trivet import (
    Event,
    EventPlugin,
    EventStream,
    MonitoringEvent,
    Secret,
    TokenSettings,
    route,
    websocket_route,
)
from trivet.testing import open_plugins, serving

from ...contrib.programs import needs

pytestmark = [pytest.mark.process, pytest.mark.real_time, needs("chromium")]

EVIL = "evil.example"
SECRET = "of-the-user-of-a-browser"
TOKEN: Any = TokenSettings(name="user", scopes=["ingest", "read"], secret=Secret(SECRET))
SCRIPT = """
const target = "{target}", said = {{}};
const patience = () => new Promise(done => setTimeout(done, 10000, "nothing"));
async function attempt(name, work) {{
  try {{ said[name] = await Promise.race([work(), patience()]); }}
  catch {{ said[name] = "refused"; }}
}}
const order = {{
  method: "POST", credentials: "include",
  headers: {{"Content-Type": "application/json"}}, body: '{{"number": 1}}',
}};
const unread = {{...order, mode: "no-cors", headers: {{"Content-Type": "text/plain"}}}};
const listened = (it, good, bad) => new Promise(done => {{
  it[good] = () => done("open");
  it[bad] = () => done("refused");
}});
async function submit() {{
  const frame = document.createElement("iframe"), form = document.createElement("form");
  frame.name = "frame";
  Object.assign(form, {{method: "POST", action: target + "/shop", target: "frame"}});
  document.body.append(frame, form);
  const loaded = new Promise(done => {{ frame.onload = () => done("sent"); }});
  form.submit();
  return await loaded;
}}
async function look() {{
  const image = new Image(), seen = listened(image, "onload", "onerror");
  image.src = target + "/plugins";
  return await seen;
}}
(async () => {{
  const url = target + "/events/order_placed";
  const known = {{credentials: "include"}};
  await attempt("read", async () => (await fetch(target + "/plugins", known)).status);
  await attempt("publish", async () => (await fetch(url, order)).status);
  await attempt("publish unread", async () => (await fetch(url, unread)).type);
  await attempt("post unread", async () => (await fetch(target + "/shop", unread)).type);
  await attempt("beacon", async () => navigator.sendBeacon(url, '{{"number": 1}}'));
  await attempt("form", submit);
  await attempt("image", look);
  const socket = () => new WebSocket(target.replace("http", "ws") + "/news");
  await attempt("websocket", () => listened(socket(), "onopen", "onerror"));
  const stream = () => new EventSource(target + "/stream", {{withCredentials: true}});
  await attempt("stream", () => listened(stream(), "onmessage", "onerror"));
  await fetch("{done}", {{method: "POST", mode: "no-cors", body: JSON.stringify(said)}});
}})();
"""
"""The attempts of a page at a target; the last request tells what came of them."""


class OrderPlaced(Event):
    number: int = 0


class Shop(EventPlugin[OrderPlaced | MonitoringEvent]):
    def __init__(self, app: object) -> None:
        self.orders = 0
        self.done = Counter[str]()
        self.answers = Counter[tuple[str, int]]()
        self.page = ""

    async def handle_event(self, event: OrderPlaced | MonitoringEvent) -> None:
        if isinstance(event, OrderPlaced):
            self.orders += 1
            return
        for point in event.points:
            if point.series == "requests":
                self.answers[str(point.tags["route"]), int(point.tags["status_code"])] += 1

    @route("/shop", methods=["GET", "POST"])
    async def shop(self) -> str:
        self.done["post"] += 1
        return "done"

    @websocket_route("/news")
    async def news(self) -> None:
        self.done["websocket"] += 1
        await websocket.send("news")

    @route("/stream")
    async def stream(self) -> EventStream:
        return EventStream(self.first_and_nothing_more())

    async def first_and_nothing_more(self) -> AsyncGenerator[str]:  # noqa: ASYNC900 - Quart ends it
        yield "first"
        await self.stopping.wait()

    @route("/page", scope=None)
    async def own_page(self) -> Response:
        return Response(self.page, content_type="text/html")


@attrs.define
class Site:
    """A site of somebody else's at a port of this machine."""

    port: int = 0
    page: str = ""
    """The page at `/`."""
    said: trio.MemorySendChannel[dict[str, object]] | None = None
    """Gets what a page says in the end."""
    rebound: int = 0
    """The port to which the name leads, once the page was loaded; 0 for this site's own."""
    is_loaded: bool = False

    async def serve(self, task_status: trio.TaskStatus[None]) -> None:
        """Serve until cancelled."""
        async with trio.open_nursery() as nursery:
            listeners = await nursery.start(
                partial(trio.serve_tcp, self._answer, 0, host="127.0.0.1")
            )
            self.port = listeners[0].socket.getsockname()[1]
            task_status.started()

    async def _answer(self, stream: trio.SocketStream) -> None:
        received = b""
        while b"\r\n\r\n" not in received:
            data = await stream.receive_some()
            if not data:
                return
            received += data
        if self.rebound and self.is_loaded:
            await self._pass_on(stream, received)
            return
        head, _, body = received.partition(b"\r\n\r\n")
        if head.startswith(b"POST /done "):
            length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
            while len(body) < length:
                body += await stream.receive_some()
            assert self.said is not None
            await self.said.send(json.loads(body))
        self.is_loaded = self.is_loaded or head.startswith(b"GET / ")
        page = self.page.encode()
        start = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n"
        await stream.send_all(start + b"Content-Length: %d\r\n\r\n" % len(page) + page)

    async def _pass_on(self, stream: trio.SocketStream, received: bytes) -> None:
        """Be the service itself, at which the client arrives by a name that was led there."""
        async with await trio.open_tcp_stream("127.0.0.1", self.rebound) as service:
            await service.send_all(received)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_copy, stream, service, nursery.cancel_scope)
                nursery.start_soon(_copy, service, stream, nursery.cancel_scope)


async def _copy(
    source: trio.SocketStream, target: trio.SocketStream, scope: trio.CancelScope
) -> None:
    with suppress(trio.BrokenResourceError):
        async for data in source:
            await target.send_all(data)
    scope.cancel()


@asynccontextmanager
async def chromium(directory: Path, url: str, rules: str) -> AsyncGenerator[None]:
    """A browser that has opened a page; names lead where the rules say."""
    command = [
        *("chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"),
        *("--disable-dev-shm-usage", "--disable-background-networking", "--disable-sync"),
        f"--user-data-dir={directory}",
        f"--host-resolver-rules={rules}",
        url,
    ]
    quiet = subprocess.DEVNULL
    process = await trio.lowlevel.open_process(
        command, stdout=quiet, stderr=quiet, start_new_session=True
    )
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        with trio.CancelScope(shield=True):
            await process.wait()


@attrs.frozen
class Tried:
    """The attempts of a page."""

    said: dict[str, object]
    """The result of each attempt, as the page sees it."""
    shop: Shop
    """The service's plugin, with the effects."""


async def tried(
    directory: Path, *, as_page_of: str, signs_in: bool = False, **settings: Any
) -> Tried:
    """Have a page try everything at a service.

    Args:
        directory: for the browser.
        as_page_of: `another site`, `a name that was led here`, or `the service`.
        signs_in: whether the browser has a session before.
        settings: the service's.
    """
    send, receive = trio.open_memory_channel[dict[str, object]](1)
    async with (
        open_plugins(Shop, event_types=[OrderPlaced], **settings) as runtime,
        serving(runtime) as url,
        trio.open_nursery() as nursery,
    ):
        shop = runtime.get(Shop)
        site, report = Site(), Site(said=send)
        await nursery.start(site.serve)
        await nursery.start(report.serve)
        done = f"http://127.0.0.1:{report.port}/done"
        port = int(url.rpartition(":")[2])
        rules = f"MAP {EVIL} 127.0.0.1"
        target, first = url, f"http://{EVIL}:{site.port}/"
        if as_page_of == "a name that was led here":
            site.rebound = port
            rules = f"MAP {EVIL} 127.0.0.1:{site.port}"
            target = f"http://{EVIL}:{port}"
            first = f"{target}/"
        elif as_page_of == "the service":
            first = f"{url}/page"
        script = f"<body><script>{SCRIPT.format(target=target, done=done)}</script></body>"
        shop.page = site.page = script
        if signs_in:
            shop.page = _signing_in(first)
            first = f"{url}/page"
        async with chromium(directory, first, rules):
            with trio.fail_after(60):
                said = await receive.receive()
        nursery.cancel_scope.cancel()
    return Tried(said, shop)


def _signing_in(following: str) -> str:
    """A page of the service that signs its user in, and goes on to another page."""
    return f"""<script>
      const form = new URLSearchParams({{token: "{SECRET}"}});
      fetch("/sign-in", {{method: "POST", body: form}}).then(() => {{
        location = "{following}";
      }});
    </script>"""


SEEN_FROM_ANOTHER_SITE = {
    "read": "refused",
    "publish": "refused",
    "publish unread": "opaque",
    "post unread": "opaque",
    "beacon": True,
    "form": "sent",
    "image": "refused",
    "websocket": "refused",
    "stream": "refused",
}
"""A page of another site is not told what comes of a request that it cannot read."""


@pytest.mark.parametrize("signs_in", [False, True], ids=["open", "signed in"])
async def test_a_page_of_another_site(tmp_path: Path, *, signs_in: bool) -> None:
    """A page of another site publishes nothing, changes nothing, reads nothing and opens no
    websocket; neither where everybody on this machine may, nor where its user has a session."""
    settings: dict[str, Any] = {"tokens": [TOKEN]} if signs_in else {}
    found = await tried(tmp_path, as_page_of="another site", signs_in=signs_in, **settings)
    assert found.said == SEEN_FROM_ANOTHER_SITE
    shop = found.shop
    assert (shop.orders, dict(shop.done)) == (0, {})
    assert shop.answers["POST:/events/{name}", 403] >= 2
    assert shop.answers["POST:/shop", 403] == 2


async def test_a_name_that_was_led_here(tmp_path: Path) -> None:
    """A page whose own name was led to this machine is of the same site as the service, for the
    browser: the name alone gives it away, in each request."""
    found = await tried(tmp_path, as_page_of="a name that was led here")
    said = found.said
    assert (said["read"], said["publish"]) == (421, 421)
    assert (said["websocket"], said["stream"], said["image"]) == ("refused",) * 3
    shop = found.shop
    assert (shop.orders, dict(shop.done)) == (0, {})
    assert {status for _, status in shop.answers} == {421}


@pytest.mark.parametrize("page", ["a name that was led here", "the service"])
async def test_a_page_that_may(tmp_path: Path, page: str) -> None:
    """The same attempts succeed from a page of the service's own, and under a name that the
    operator allows: what stops the others is the doors alone."""
    found = await tried(tmp_path, as_page_of=page, allowed_hosts=[EVIL])
    said = found.said
    assert (said["read"], said["publish"], said["websocket"]) == (200, 202, "open")
    assert said["stream"] == "open"
    shop = found.shop
    assert shop.orders >= 1
    assert shop.done["websocket"] == 1
    assert shop.done["post"] == 2
