"""The last stalls of the event loop, as an operator gets them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import trio

from trivet import BackgroundPlugin, Runtime, Secret, StallSettings, TokenSettings, page
from trivet.testing import client, open_plugins

from ..loop.samples import Samples

QUICK = StallSettings(warn=0.02, error=20)
SECRET = "of-an-operator-of-a-hog"
TOKENS: Any = [TokenSettings(name="operator", scopes=["admin"], secret=Secret(SECRET))]


class Hog(BackgroundPlugin):
    """A plugin that holds the loop once."""

    async def initialize(self) -> None:
        self.samples: Samples | None = None
        self.begin = trio.Event()

    async def run(self) -> None:
        await self.begin.wait()
        assert self.samples is not None
        self.samples.wait(2)
        await trio.sleep_forever()

    @page("Hay")
    async def hay(self) -> str:
        """A page that holds the loop each time."""
        assert self.samples is not None
        self.samples.wait(2)
        return "enough"


async def ask(runtime: Runtime, path: str) -> tuple[int, Any]:
    """The status and the document of an answer to an operator."""
    headers = {"Authorization": f"Bearer {SECRET}"}
    answer = await client(runtime).get(path, headers=headers)
    return answer.status_code, json.loads(await answer.get_data())


@pytest.mark.real_time
async def test_a_stall_and_its_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    """The list tells who, when, how long and where; the profile is at the stall's number."""
    async with open_plugins(Hog, stalls=QUICK, tokens=TOKENS) as runtime:
        hog = runtime.get(Hog)
        hog.samples = Samples(monkeypatch)
        before = datetime.now(UTC)
        hog.begin.set()
        found: list[Any] = []
        with trio.fail_after(60):
            while not found:
                _, listed = await ask(runtime, "/-/stalls")
                found = [each for each in listed["stalls"] if each["plugin"] == "hog"]
        (stall,) = found
        assert (stall["doing"], "samples.py" in stall["at"]) == ("waiting in a call", True)
        assert "supervise" in stall["task"]
        began = datetime.fromisoformat(stall["began"])
        second = timedelta(seconds=1)
        assert before - second < began < datetime.now(UTC) + second
        status, profile = await ask(runtime, f"/-/stalls/{stall['number']}")
        assert status == 200
        assert profile["name"] == f"hog: {stall['seconds']} s"
        assert "Hog.run" in [each["name"] for each in profile["shared"]["frames"]]


@pytest.mark.real_time
async def test_the_time_of_a_page_is_the_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stall in the method of a page is the plugin's, in the list and in its use of the loop."""
    async with open_plugins(Hog, stalls=QUICK, tokens=TOKENS) as runtime:
        runtime.get(Hog).samples = Samples(monkeypatch)
        status, _ = await ask(runtime, "/-/plugins/hog/pages/hay")
        assert status == 200
        found: list[Any] = []
        with trio.fail_after(60):
            while not found:
                _, listed = await ask(runtime, "/-/stalls")
                found = [each for each in listed["stalls"] if "samples.py" in each["at"]]
        (stall,) = found
        assert stall["plugin"] == "hog"
        assert stall["task"] == "page hay of hog"
        assert runtime.meter is not None
        assert runtime.meter.usage()["hog"].stalls == 1


@pytest.mark.parametrize("number", ["4711", "0", "-1", "x", "²", "9" * 5000])
async def test_a_stall_that_is_not_kept(number: str) -> None:
    """Any other number, and what is none, is unknown."""
    async with open_plugins(Hog, stalls=QUICK, tokens=TOKENS) as runtime:
        status, problem = await ask(runtime, f"/-/stalls/{number}")
        assert (status, problem["error_code"]) == (404, "unknown_stall")


async def test_without_the_measurement() -> None:
    """The list is empty where stalls are switched off, and there is no profile."""
    async with open_plugins(Hog, stalls=StallSettings(enabled=False), tokens=TOKENS) as runtime:
        assert await ask(runtime, "/-/stalls") == (200, {"stalls": []})
        assert (await ask(runtime, "/-/stalls/1"))[0] == 404
