"""The documents about a plugin, for an operator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import trio
from trio.testing import MockClock

from trivet import (
    BackgroundPlugin,
    Event,
    EventPlugin,
    Runtime,
    Secret,
    Status,
    SupervisionSettings,
    TokenSettings,
    route,
)
from trivet.testing import client, open_plugins

TOKEN = "a-token-of-an-operator"
TOKENS = [TokenSettings(name="operator", scopes=["admin"], secret=Secret(TOKEN))]
PLANTED = "the-planted-password"


class Frail(BackgroundPlugin):
    supervision = SupervisionSettings(max_restarts=0)
    password: Secret
    depth: int = 3

    async def run(self) -> None:
        raise ValueError(f"wrong: {self.password.reveal()}")


class Poured(Event):
    pass


class Kettle(EventPlugin[Poured]):
    @route("/kettle")
    async def kettle(self) -> str:
        return "hot"

    async def handle_event(self, event: Poured) -> None:
        pass


async def told(runtime: Runtime, path: str) -> Any:
    """The document for an operator at a path."""
    answer = await client(runtime).get(path, headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 200
    assert PLANTED not in (await answer.get_data(as_text=True))
    return await answer.get_json()


async def test_a_plugin_that_failed() -> None:
    """The document of a plugin has its last error with a traceback, its version, and its settings
    with their origins; no secret is in it."""
    settings = {"frail": {"password": PLANTED}}
    async with open_plugins(Frail, settings=settings, tokens=TOKENS) as runtime:
        host = runtime.hosts["frail"]
        await host.wait_for_status(Status.FAILED)
        found = await told(runtime, "/-/plugins/frail")
        assert found["since"] == host.since.isoformat().replace("+00:00", "Z")
    assert (found["status"], found["class"], found["inbox"]) == ("failed", "Frail", None)
    assert found["error"]["summary"] == "ValueError: wrong: ***"
    assert "in run" in found["error"]["traceback"]
    version = found["version"]
    assert (version["file"], version["distribution"]) == (str(Path(__file__)), None)
    assert len(version["sha256"]) == 64
    origins = {each["key"]: (each["value"], each["origin"]) for each in found["settings"]}
    assert origins["plugins.frail.password"] == ("***", "program")
    assert origins["plugins.frail.depth"] == (3, "default")


async def test_a_plugin_that_is_well() -> None:
    """The document of a plugin that is well has no error, but its inbox and its routes."""
    async with open_plugins(Kettle, tokens=TOKENS) as runtime:
        found = await told(runtime, "/-/plugins/kettle")
    assert (found["status"], found["error"]) == ("running", None)
    assert found["inbox"]["accepted"] == 0
    assert found["routes"] == [{"path": "/kettle", "methods": ["GET"], "scope": "read"}]
    keys = [each["key"] for each in found["settings"]]
    assert "plugins.kettle.delivery.events" in keys


class Stove(BackgroundPlugin):
    pass


class Cup(BackgroundPlugin):
    needs = (Stove,)


class Saucer(BackgroundPlugin):
    needs = (Cup,)
    supervision = SupervisionSettings(backoff_initial=60, backoff_max=60)

    async def run(self) -> None:
        raise ValueError("broken")


async def test_the_needs_of_a_plugin(autojump_clock: MockClock) -> None:
    """The document of a plugin has what it needs itself, what needs it, and its next start."""
    async with open_plugins(Stove, Cup, Saucer, tokens=TOKENS) as runtime:
        await runtime.host("saucer").wait_for_status(Status.BACKING_OFF)
        names = ("stove", "cup", "saucer")
        found = {name: await told(runtime, f"/-/plugins/{name}") for name in names}
    assert [(found[name]["needs"], found[name]["needed_by"]) for name in names] == [
        ([], ["cup", "saucer"]),
        (["stove"], ["saucer"]),
        (["cup"], []),
    ]
    assert found["cup"]["retry_in"] is None
    assert 0 < found["saucer"]["retry_in"] <= 60
    assert (found["cup"]["paused"], found["cup"]["log_level"]) == (False, None)


async def test_all_plugins() -> None:
    """The list has each plugin's status, and its last error in one line."""
    settings = {"frail": {"password": PLANTED}}
    async with open_plugins(Frail, Kettle, settings=settings, tokens=TOKENS) as runtime:
        await runtime.hosts["frail"].wait_for_status(Status.FAILED)
        found = (await told(runtime, "/-/plugins"))["plugins"]
    assert {name: each["status"] for name, each in found.items()} == {
        "frail": "failed",
        "kettle": "running",
    }
    assert found["frail"]["error"] == "ValueError: wrong: ***"
    assert found["kettle"]["error"] is None


async def test_an_unknown_plugin() -> None:
    """A name that no plugin has is a 404 with the nearest one."""
    async with open_plugins(Kettle, tokens=TOKENS) as runtime:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        answer = await client(runtime).get("/-/plugins/kettel", headers=headers)
        problem = await answer.get_json()
    assert (answer.status_code, problem["error_code"]) == (404, "unknown_plugin")
    assert "kettle" in problem["detail"]


async def test_plugins_that_hold_all_threads_of_trio() -> None:
    """An operator is answered although plugins have taken all of Trio's threads."""
    async with open_plugins(Kettle, tokens=TOKENS) as runtime:
        limiter = trio.to_thread.current_default_thread_limiter()
        threads = [object() for _ in range(int(limiter.total_tokens))]
        for each in threads:
            limiter.acquire_on_behalf_of_nowait(each)
        with trio.fail_after(60):
            found = await told(runtime, "/-/plugins/kettle")
        for each in threads:
            limiter.release_on_behalf_of(each)
    assert found["status"] == "running"
