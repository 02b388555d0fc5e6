"""The deaths of the program, as the operator of the next one is told of them."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from trivet._process._parent._child import Child
from trivet._process._parent._deaths import (
    KEPT,
    LINE,
    LINES,
    REPORT,
    SIZE,
    Deaths,
    kills_for_memory,
    said_of_memory,
)
from trivet._process._parent._last_words import LastWords, create_report
from trivet._process._parent._wire import LOG_SIZE
from trivet._process._report import Report

from .test_serve import RECORDER, plugins, serving

__all__ = ["plugins"]


def left_by(*lines: str, text: str = "") -> LastWords:
    """The last words of a process that has logged these lines."""
    descriptor = create_report()
    try:
        report = Report(descriptor)
        for line in lines:
            report.log(f"{line}\n".encode())
        report.say(text)
        return LastWords(descriptor)
    finally:
        os.close(descriptor)


def test_the_last_lines_of_the_log() -> None:
    """The report has the last lines, whole ones only, and they are apart from the other words."""
    assert left_by().log == []
    words = left_by("one", "two", text="three")
    assert (words.log, words.text) == (["one", "two"], "three")
    lines = [f"line {number}" for number in range(10_000)]
    kept = left_by(*lines).log
    assert kept == lines[-len(kept) :]
    assert LOG_SIZE - len(kept[0]) - 2 <= sum(len(line) + 1 for line in kept) < LOG_SIZE
    assert left_by("first", "x" * LOG_SIZE, "last").log == ["last"]


def test_the_accounts_are_bounded() -> None:
    """A few accounts are kept, of bounded length, whatever a program has said; colours and what
    commands a terminal is not in them."""
    deaths = Deaths()
    read, write = os.pipe()
    child = Child(1, write, read, create_report())
    words = left_by("\x1b[31mred\x1b[0m", "a\x1b]0;b", *["ä" * 2 * LINE] * LINES, text="ü" * 9999)
    for number in range(KEPT + 3):
        deaths.note(child, number, words, ["billing"])
    child.close()
    told = deaths.told
    assert 0 < len(told) <= KEPT
    assert len(json.dumps(told)) <= SIZE
    assert told[-1]["ended"] == f"code {KEPT + 2}"
    assert told[-1]["plugins"] == ["billing"]
    assert told[-1]["served"] is None
    assert {len(line) for line in told[-1]["log"]} == {LINE}
    assert [len(line) for line in told[-1]["report"]] == [REPORT]
    deaths.note(child, 139, left_by("\x1b[31mred\x1b[0m", "a\x1b]0;b"), [])
    assert deaths.told[-1]["log"] == ["red", "a\\x1b]0;b"]


@pytest.mark.parametrize("sign", ["a", "字", "😀"])
def test_the_last_death_is_always_told(sign: str) -> None:
    """The newest account is told whatever characters the log has, and the numbers show which of
    the earlier ones had no room."""
    deaths = Deaths()
    read, write = os.pipe()
    child = Child(1, write, read, create_report())
    words = left_by(*[sign * (LOG_SIZE // LINES // 4 - 1)] * LINES, text=sign * REPORT)
    for number in range(KEPT):
        deaths.note(child, number, words, [])
    child.close()
    told = deaths.told
    assert len(json.dumps(told)) <= SIZE
    assert [each["number"] for each in told] == [*range(KEPT - len(told) + 1, KEPT + 1)]
    assert told[-1]["ended"] == f"code {KEPT - 1}"


def test_the_kills_for_want_of_memory(tmp_path: Path) -> None:
    """The kernel's count of the group is told, and nothing is guessed where there is none."""
    membership = tmp_path / "cgroup"
    membership.write_text("1:cpu:/a\n0::/app.slice/trivet\n")
    assert kills_for_memory(membership, tmp_path) is None
    group = tmp_path / "app.slice" / "trivet"
    group.mkdir(parents=True)
    (group / "memory.events").write_text("low 0\nhigh 0\nmax 9\noom 3\noom_kill 2\n")
    assert kills_for_memory(membership, tmp_path) == 2
    assert [said_of_memory(*each) for each in ((None, 2), (2, None), (2, 2))] == [""] * 3
    assert "has killed 3 processes" in said_of_memory(2, 5)


TOKEN = "a-token-of-an-operator"
OLGA = {"Authorization": f"Bearer {TOKEN}"}
BAD = """
    import os
    from trivet import EventPlugin
    from .recorder import Ping


    class Bad(EventPlugin[Ping]):
        async def handle_event(self, event: Ping) -> None:
            self.log.warning("the end is near", number=event.number)
            if event.number:
                os.abort()
"""


@pytest.mark.process
async def test_the_next_program_tells_how_the_last_ones_died(
    plugins: Callable[..., Path],
) -> None:
    """The account says when and how each one died, to which plugin that is put down, and its last
    lines of the log; a kill from outside is put down to nobody."""
    directory = plugins(recorder=RECORDER, bad=BAD)
    (directory / "trivet.toml").write_text(
        f'tokens = [{{ name = "olga", scopes = ["admin", "ingest"], secret = "{TOKEN}" }}]\n'
    )
    environ = {"TRIVET_RESTARTS__BACKOFF_MAX": "0"}
    async with serving("recorder", "bad", directory=directory, **environ) as server:
        pid = 0
        for number in (1, 0):
            server.lines.clear()
            async with httpx.AsyncClient(base_url=server.url, timeout=30, headers=OLGA) as client:
                pid = (await client.get("/-/tasks")).json()["pid"]
                with suppress(httpx.TransportError):
                    await client.post("/events/ping", json={"number": number})
            if not number:
                await server.logged("the end is near")
                os.kill(pid, signal.SIGKILL)
            await server.logged("serving")
        async with httpx.AsyncClient(base_url=server.url, timeout=30, headers=OLGA) as client:
            account = (await client.get("/-/diagnostics")).json()
        first, second = account["earlier_deaths"]
        assert first["ended"] == "code 134 (SIGABRT)"
        assert first["plugins"] == ["bad"]
        assert first["report"][0] == "Fatal Python error: Aborted"
        assert any("the end is near" in line for line in first["log"])
        assert (second["ended"], second["pid"], second["plugins"]) == (
            "code 137 (SIGKILL)",
            pid,
            [],
        )
        assert "the end is near" in second["log"][-1]
        assert first["at"][:19] <= second["at"][:19] <= account["written_at"][:19]
        assert account["machine"]["pid"] not in (first["pid"], pid)
        assert await server.stop() == 0
