"""Settings that are changed while `trivet serve` runs, and outlive it."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from .test_serve import RECORDER, kill_child, plugins, running

__all__ = ["plugins"]
pytestmark = pytest.mark.process

TOKEN = "a-token-of-an-operator"
SETTINGS = f"""
active_plugins = ["recorder"]
plugins_directory = "."
bind = "127.0.0.1:0"
tokens = [{{ name = "operator", scopes = ["admin", "read"], secret = "{TOKEN}" }}]
"""
HEADERS = {
    "Authorization": f"Bearer {TOKEN}",
    "Content-Type": "application/merge-patch+json",
    "If-Match": "*",
}


async def test_a_change_outlives_a_kill(plugins: Callable[..., Path]) -> None:
    """The program that follows one that was killed has the changed settings; what the environment
    sets is refused."""
    directory = plugins(recorder=RECORDER)
    (directory / "trivet.toml").write_text(SETTINGS)
    environ = {"TRIVET_RESTARTS__BACKOFF_MAX": "0", "TRIVET_MAX_CONNECTIONS": "50"}
    async with running(["trivet", "serve"], directory, **environ) as server:
        url = (await server.logged("serving"))["urls"][0]
        async with httpx.AsyncClient(base_url=url, headers=HEADERS) as client:
            answer = await client.patch("/-/settings", json={"max_connections": 5})
            assert answer.status_code == 409
            assert "TRIVET_MAX_CONNECTIONS" in answer.json()["detail"]
            patch = {"plugins": {"recorder": {"pause": 0.125}}, "max_body": 12345}
            answer = await client.patch("/-/settings", json=patch)
            assert answer.status_code == 200, answer.text
        server.lines.clear()
        kill_child(server.process.pid)
        url = (await server.logged("serving"))["urls"][0]
        async with httpx.AsyncClient(base_url=url, headers=HEADERS) as client:
            document = (await client.get("/-/settings")).json()
        found = by_key(document)
        assert found["max_body"]["value"] == 12345
        assert found["plugins.recorder.pause"]["origin"] == "overlay"
        assert found["max_connections"]["origin"] == "environment"
        assert await server.stop() == 0
    assert (directory / "trivet.toml").read_text() == SETTINGS


@pytest.mark.usefixtures("own_garbage")  # httpx leaves the body of a request that is cut off.
@pytest.mark.filterwarnings("ignore:Async generator 'httpx:ResourceWarning")
async def test_a_kill_amid_changes_leaves_one_of_them(plugins: Callable[..., Path]) -> None:
    """A program that is killed while changes come has, when it is back, the settings that are
    written: all of one change."""
    directory = plugins(recorder=RECORDER)
    (directory / "trivet.toml").write_text(SETTINGS)
    environ = {"TRIVET_RESTARTS__BACKOFF_MAX": "0", "TRIVET_RESTARTS__MAX_RESTARTS": "9"}
    async with running(["trivet", "serve"], directory, **environ) as server:
        for delay in (0.0, 0.02, 0.07):
            url = (await server.logged("serving"))["urls"][0]
            server.lines.clear()
            async with httpx.AsyncClient(base_url=url, headers=HEADERS) as client:
                answered = trio.Event()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(change_on_and_on, client, answered)
                    await answered.wait()
                    await trio.sleep(delay)  # Somewhere within a change.
                    kill_child(server.process.pid)
                    url = (await server.logged("serving"))["urls"][0]
                    nursery.cancel_scope.cancel()
            async with httpx.AsyncClient(base_url=url, headers=HEADERS) as client:
                found = by_key((await client.get("/-/settings")).json())
            number = found["max_body"]["value"]
            assert number > 1000
            assert found["plugins.recorder.pause"]["value"] == number / 1e6
            written = tomllib.loads((directory / "trivet.overlay.toml").read_text())
            assert written["max_body"] == number
        assert await server.stop() == 0


async def change_on_and_on(client: httpx.AsyncClient, answered: trio.Event) -> None:
    """Change two settings together, to other values each time, until the program is gone."""
    for number in count(1001):
        patch = {"max_body": number, "plugins": {"recorder": {"pause": number / 1e6}}}
        try:
            await client.patch("/-/settings", json=patch)
        except httpx.HTTPError:
            return
        answered.set()


def by_key(document: Any) -> dict[str, Any]:
    """The settings of a document by their keys."""
    return {each["key"]: each for each in document["settings"]}


SLOW = """
    import time
    from pathlib import Path
    from trivet import BackgroundPlugin

    while Path("hold").exists():
        Path("importing").touch()
        time.sleep(0.01)

    class Slow(BackgroundPlugin): ...
"""


async def test_a_change_during_a_restart_goes_over(plugins: Callable[..., Path]) -> None:
    """A new program that had read its settings before the old one changed them reads them anew
    when it takes the old one's place."""
    directory = plugins(recorder=RECORDER, slow=SLOW)
    settings = SETTINGS.replace('["recorder"]', '["recorder", "slow"]', 1)
    (directory / "trivet.toml").write_text(settings)
    environ = {"TRIVET_BIND": f"unix:{directory}/socket"}
    async with running(["trivet", "serve"], directory, **environ) as server:
        await server.logged("serving")
        server.lines.clear()
        transport = httpx.AsyncHTTPTransport(uds=f"{directory}/socket")
        async with httpx.AsyncClient(
            transport=transport, base_url="http://localhost", headers=HEADERS, timeout=50
        ) as client:
            hold = trio.Path(directory / "hold")
            await hold.touch()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.post, "/-/restart")
                while not await trio.Path(directory / "importing").exists():
                    await trio.sleep(0.01)
                answer = await client.patch("/-/settings", json={"max_body": 12345})
                assert answer.status_code == 200, answer.text
                server.lines.clear()
                await hold.unlink()
            await server.logged("serving")
            await server.logged("reloaded")
            document = (await client.get("/-/settings")).json()
        assert by_key(document)["max_body"]["value"] == 12345
        assert await server.stop() == 0


async def test_a_broken_overlay_ends_the_start_with_2(plugins: Callable[..., Path]) -> None:
    """The message names the overlay, and the line or the key."""
    directory = plugins(recorder=RECORDER)
    (directory / "trivet.toml").write_text(SETTINGS)
    for text, said in (("max_body = 1\nbind = ]", "line 2"), ("max_body = 0", "max_body")):
        (directory / "trivet.overlay.toml").write_text(text)
        async with running(["trivet", "serve"], directory) as server:
            assert await server.process.wait() == 2
            await server.has_said_all()
        (line,) = server.text
        assert line.startswith("trivet: trivet.overlay.toml: ")
        assert said in line
