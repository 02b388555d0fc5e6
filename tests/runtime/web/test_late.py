"""Quart is imported when a request needs it, and not sooner."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

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


@pytest.mark.process
def test_quart_is_there_before_the_clients_of_a_plugin_with_routes(tmp_path: Path) -> None:
    """The first client of a plugin's route does not wait until Quart is imported."""
    first, own, rest = told_by(PROGRAM.format(more=SHOP, plugins="Sink, Shop"), tmp_path)
    assert first == ("", FRAMEWORK)
    assert own == ("202 200 200 200 200 404", FRAMEWORK)
    assert rest == ("200 404 405 200 200", FRAMEWORK)
