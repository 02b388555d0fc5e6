"""Quart is imported when a request needs it, and not sooner."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from trivet import Event, EventPlugin
from trivet._web import _late
from trivet._web._importing import import_in_thread
from trivet.testing import open_plugins, serving

from .clients import connect, get
from .test_middleware import Points
from .ways import uniform

FRAMEWORK = {"quart", "quart_trio", "flask", "werkzeug", "hypercorn"}

PROGRAM = """
import sys, httpx, trio, trivet

class Ping(trivet.Event): ...

class Sink(trivet.EventPlugin[Ping]):
    async def handle_event(self, event): ...

{more}
def tell(*answers):
    print("told", *(answer.status_code for answer in answers))
    print("told", *sys.modules)

async def main():
    async with trivet.open_runtime(plugins=[{plugins}]) as runtime:
        async with trivet.listening(runtime, "127.0.0.1:0") as [url]:
            async with httpx.AsyncClient(base_url=url) as client:
                tell()
                tell(
                    await client.post("/events/ping", json={{}}),
                    await client.get("/livez"), await client.get("/startupz"),
                    await client.get("/readyz"), await client.get("/plugins"),
                    await client.post("/events/nothing", json={{}}),
                )
                tell(
                    await client.get("/openapi.json"), await client.get("/nothing"),
                    await client.delete("/livez"),
                    await client.get("/sign-in"), await client.get("/shop"),
                )

trio.run(main)
"""
SHOP = """
class Shop(trivet.BackgroundPlugin):
    @trivet.route("/shop")
    async def shop(self):
        from quart import request
        return request.path
"""


def told_by(program: str, directory: Path) -> list[tuple[str, set[str]]]:
    """The statuses of the answers, and the framework's modules by then, three times."""
    told = subprocess.run(
        [sys.executable, "-c", program],
        cwd=directory,
        check=True,
        capture_output=True,
        text=True,
    )
    lines = [line.split()[1:] for line in told.stdout.splitlines() if line.startswith("told")]
    return [
        (" ".join(statuses), FRAMEWORK & set(modules))
        for statuses, modules in zip(lines[::2], lines[1::2], strict=True)
    ]


@pytest.mark.process
def test_events_and_probes_are_answered_without_quart(tmp_path: Path) -> None:
    """A program without routes imports Quart for the first request that only Quart answers."""
    first, own, rest = told_by(PROGRAM.format(more="", plugins="Sink"), tmp_path)
    assert first == ("", set())
    assert own == ("202 200 200 200 200 404", set())
    assert rest == ("200 404 405 200 404", FRAMEWORK)


NOWHERE = [
    get(b"/favicon.ico"),
    get(b"/nothing/at/all?q=1"),
    get(b"/nothing/"),
    get(b"/Plugins"),
    get(b"/eventsx"),
    get(b"/no%20thing"),
    get(b"/nothing", b"Luna-Request-Id: r-1", b"Sec-Fetch-Site: cross-site"),
    get(b"/nothing").replace(b"GET", b"HEAD"),
    get(b"/nothing").replace(b"GET", b"DELETE"),
    get(b"/nothing").replace(b"GET", b"OPTIONS"),
    get(b"/nothing").replace(b"GET", b"BREW"),
    get(b"/nothing", b"Content-Length: 3").replace(b"GET", b"POST") + b"abc",
    get(b"/nothing").replace(b"HTTP/1.1", b"HTTP/1.0"),
    get(b"/nothing").replace(b"localhost", b"evil.example"),
    get(b"http://localhost/nothing"),
    get(b"/nothing", b"Connection: Upgrade", b"Upgrade: h2c"),
]
"""Requests for paths at which there is nothing."""
SOMEWHERE = [
    get(b"/"),  # It leads to the page.
    get(b"/plugins/nothing"),
    get(b"/livez/"),
    get(b"/livez").replace(b"GET", b"DELETE"),
    get(b"//nothing"),
    get(b"/nothing//"),
    get(b"/n%c3%a9"),
    get(b"/n%0a"),
    get(b"*").replace(b"GET", b"OPTIONS"),
]
"""Requests that only Quart answers."""


class Quiet(Event):
    """An event."""


class Silent(EventPlugin[Quiet]):
    async def handle_event(self, event: Quiet) -> None:
        """Do nothing."""


async def shown(requests: list[bytes]) -> tuple[list[bytes], list[object], list[object]]:
    """Everything that a program without routes shows of these requests."""
    async with open_plugins(Silent, Points) as runtime:
        with capture_logs() as logs:
            got: list[bytes] = []
            async with serving(runtime) as url:
                for request in requests:
                    async with await connect(url) as stream:
                        await stream.send_all(request * 2)
                        await stream.send_eof()
                        got.append(uniform(b"".join([data async for data in stream])))
        points = [
            (each.series, each.tags) for some in runtime.get(Points).requests for each in some
        ]
    return got, [*points], [(log["event"], log.get("route"), log.get("error")) for log in logs]


def _yes(_: object) -> bool:
    return True


@pytest.mark.parametrize(
    ("requests", "imports"), [(NOWHERE, 0), *(([each], 1) for each in SOMEWHERE)]
)
async def test_nothing_is_not_to_be_told_from_quarts(
    monkeypatch: pytest.MonkeyPatch, requests: list[bytes], imports: int
) -> None:
    """The answer that there is nothing at a path is Quart's, and does not import it."""
    imported: list[str] = []

    async def noted(module: str) -> None:
        imported.append(module)
        await import_in_thread(module)

    with monkeypatch.context() as patch:
        patch.setattr(_late, "import_in_thread", noted)
        found = await shown(requests)
    with monkeypatch.context() as patch:
        patch.setattr(_late, "_has_routes", _yes)
        expected = await shown(requests)
    for request, mine, theirs in zip(requests, found[0], expected[0], strict=True):
        assert (request, mine) == (request, theirs)
    assert found == expected
    assert len(imported) == imports


@pytest.mark.process
def test_quart_is_there_before_the_clients_of_a_plugin_with_routes(tmp_path: Path) -> None:
    """The first client of a plugin's route does not wait until Quart is imported."""
    first, own, rest = told_by(PROGRAM.format(more=SHOP, plugins="Sink, Shop"), tmp_path)
    assert first == ("", FRAMEWORK)
    assert own == ("202 200 200 200 200 404", FRAMEWORK)
    assert rest == ("200 404 405 200 200", FRAMEWORK)
