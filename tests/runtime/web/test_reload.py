"""The request to read the settings anew."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from trivet import Runtime, Secret, TokenSettings, listening
from trivet.testing import client, open_plugins

from ..reload.programs import Files

pytestmark = pytest.mark.real_time

TOKEN = "a-token-of-an-operator"
OTHER = "another-token-of-an-operator"
TOKENS = """
[[tokens]]
name = "operator"
scopes = ["admin", "ingest", "read"]
secret = "{}"
"""
GREETER = """
class Said(Event):
    word: str

class Greeter(BackgroundPlugin):
    word: str = "hello"
    fails: bool = False

    async def initialize(self) -> None:
        if self.fails:
            raise OSError("no")

    @route("/greeting")
    async def greeting(self) -> str:
        return self.word
"""


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """The files of a program with a route."""
    found = Files(tmp_path)
    found.plugin("greeter", GREETER)
    found.settings('active_plugins = ["greeter"]' + TOKENS.format(TOKEN))
    return found


@asynccontextmanager
async def served(files: Files) -> AsyncGenerator[tuple[Runtime, httpx.AsyncClient]]:
    """Serve the program; the client has the operator's token."""
    async with files.running() as (runtime, _), listening(runtime, "127.0.0.1:0") as urls:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with httpx.AsyncClient(base_url=urls[0], headers=headers) as asking:
            yield runtime, asking


async def test_the_answer_says_what_became_of_each_thing(files: Files) -> None:
    """A plugin, a limit and the address: replaced, changed, and left for a restart."""
    async with served(files) as (_, asking):
        assert (await asking.get("/greeting")).text == "hello"
        files.settings(
            'active_plugins = ["greeter"]\nmax_body = 9\nbind = "127.0.0.1:9"\n'
            '[plugins.greeter]\nword = "good day"' + TOKENS.format(TOKEN)
        )
        answer = await asking.post("/-/reload")
        assert answer.status_code == 200, answer.text
        assert [(each["what"], each["result"]) for each in answer.json()["changes"]] == [
            ("bind", "needs a restart"),
            ("max_body", "changed"),
            ("plugins.greeter", "replaced"),
        ]
        assert (await asking.get("/greeting")).text == "good day"
        large = await asking.post("/events/said", json={"word": "0123456789"})
        assert large.status_code == 413


async def test_faults_are_told_one_by_one_and_nothing_changes(files: Files) -> None:
    """409, with a line for each fault."""
    async with served(files) as (_, asking):
        files.settings('active_plugins = ["greeter"]\nmax_body = 0\nservice = ""')
        answer = await asking.post("/-/reload")
        assert answer.status_code == 409
        assert answer.json()["error_code"] == "reload_refused"
        keys = [fault.split(": ")[1] for fault in answer.json()["faults"]]
        assert sorted(keys) == ["max_body", "service"]
        assert (await asking.get("/greeting")).text == "hello"


async def test_a_plugin_that_does_not_start_is_named(files: Files) -> None:
    """409, and the old instance answers."""
    async with served(files) as (_, asking):
        files.settings(
            'active_plugins = ["greeter"]\n[plugins.greeter]\nfails = true' + TOKENS.format(TOKEN)
        )
        answer = await asking.post("/-/reload")
        assert answer.status_code == 409
        assert "'greeter' did not start" in answer.json()["detail"]
        assert (await asking.get("/greeting")).text == "hello"


async def test_a_token_is_exchanged_in_place(files: Files) -> None:
    """The old secret is refused from the reload on, and the new one is let in."""
    async with served(files) as (_, asking):
        files.settings('active_plugins = ["greeter"]' + TOKENS.format(OTHER))
        assert (await asking.post("/-/reload")).status_code == 200
        assert (await asking.get("/greeting")).status_code == 401
        other = {"Authorization": f"Bearer {OTHER}"}
        assert (await asking.get("/greeting", headers=other)).status_code == 200


async def test_routes_come_and_go_with_their_plugin(files: Files) -> None:
    """A path is unknown once its plugin is gone, and so is it in the contract."""
    async with served(files) as (_, asking):
        assert "/greeting" in (await asking.get("/openapi.json")).json()["paths"]
        files.settings("active_plugins = []" + TOKENS.format(TOKEN))
        assert (await asking.post("/-/reload")).status_code == 200
        assert (await asking.get("/greeting")).status_code == 404
        assert "/greeting" not in (await asking.get("/openapi.json")).json()["paths"]


async def test_the_settings_of_an_embedder_are_its_own() -> None:
    """409 where the code around Trivet has made the settings: nothing could be read anew."""
    tokens = [TokenSettings(name="operator", scopes=["admin"], secret=Secret(TOKEN))]
    async with open_plugins(tokens=tokens) as runtime:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        answer = await client(runtime).post("/-/reload", headers=headers)
        assert answer.status_code == 409
        assert "code around Trivet" in (await answer.get_json())["detail"]


async def test_a_client_that_published_without_a_token_needs_one_after_it(files: Files) -> None:
    """The same request on the same connection is looked at again, by the new settings."""
    files.settings('active_plugins = ["greeter"]')
    async with files.running() as (runtime, reloader), listening(runtime, "127.0.0.1:0") as urls:
        async with httpx.AsyncClient(base_url=urls[0]) as asking:
            statuses = [await posted(asking) for _ in range(3)]
            files.settings('active_plugins = ["greeter"]' + TOKENS.format(TOKEN))
            await reloader.reload()
            statuses += [await posted(asking) for _ in range(3)]
    assert statuses == [202, 202, 202, 401, 401, 401]


async def test_the_points_of_requests_begin_with_their_plugin(files: Files) -> None:
    """A plugin that comes by a reload gets the points of each request from then on, whichever way
    the request is answered."""
    files.plugin(
        "points",
        """
        class Points(MonitoringPlugin):
            async def initialize(self) -> None:
                self.routes = []

            async def flush_points(self, points: list[MonitoringPoint]) -> None:
                self.routes += [point.tags["route"] for point in points]
        """,
    )
    files.settings('active_plugins = ["greeter"]')
    async with files.running() as (runtime, reloader), listening(runtime, "127.0.0.1:0") as urls:
        async with httpx.AsyncClient(base_url=urls[0]) as asking:
            assert await posted(asking) == 202
            files.settings('active_plugins = ["greeter", "points"]')
            await reloader.reload()
            assert await posted(asking) == 202
            await asking.get("/greeting")
            await asking.get("/livez")
        plugin: Any = runtime.host("points").plugin
        with trio.fail_after(10):
            while len(plugin.routes) < 3:
                await trio.sleep(0.01)
    assert plugin.routes == ["POST:/events/{name}", "GET:/greeting", "GET:/livez"]


async def posted(asking: httpx.AsyncClient) -> int:
    """Publish an event; returns the status."""
    return (await asking.post("/events/said", json={"word": "hello"})).status_code


async def test_the_routes_of_new_code_are_there_at_once(files: Files) -> None:
    """While clients ask without a pause, each gets the old answer or the new one, none an error."""
    async with served(files) as (_, asking):
        answers: list[tuple[int, str]] = []
        over = trio.Event()

        async def ask() -> None:
            while not over.is_set():
                answer = await asking.get("/greeting")
                answers.append((answer.status_code, answer.text))

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(ask)
            for number in range(10):
                files.plugin("greeter", GREETER.replace("self.word", f'"{number}"'))
                answer = await asking.post("/-/plugins/greeter/reload")
                assert answer.json()["changes"] == [
                    {"what": "plugins.greeter", "result": "replaced", "reason": None}
                ]
                assert (await asking.get("/greeting")).text == str(number)
            over.set()
        assert {status for status, _ in answers} == {200}
        texts = [text for _, text in answers]
        assert {*texts} <= {"hello", *map(str, range(10))}
        assert len({*texts}) > 2


async def test_a_fault_in_new_code_is_told_with_file_and_line(files: Files) -> None:
    """409; a plugin that is not there is 404."""
    async with served(files) as (_, asking):
        files.plugin("greeter", GREETER + "\nwords = [\n")
        answer = await asking.post("/-/plugins/greeter/reload")
        assert answer.status_code == 409
        assert "greeter.py:" in answer.json()["detail"]
        assert (await asking.get("/greeting")).text == "hello"
        assert (await asking.post("/-/plugins/nobody/reload")).status_code == 404
