"""`trivet check --strict`: the rules of flake8-async about plugins' files."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from trivet._cli import _strict

from ..places import line_of
from .commands import as_json, trivet, write

pytestmark = pytest.mark.process

HASTY = """
    import time
    import trio
    from trivet import BackgroundPlugin
    from .helping import wait

    class Hasty(BackgroundPlugin):
        async def run(self) -> None:
            trio.sleep(1)
            await wait()
            time.sleep(2)  # noqa: ASYNC251
"""
HELPING = """
    import time

    async def wait():
        time.sleep(3)
"""
CALM = """
    from trivet import Event, EventPlugin

    class Sip(Event):
        size: int

    class Calm(EventPlugin[Sip]):
        async def handle_event(self, event: Sip) -> None:
            self.size = event.size
"""


def test_each_finding_has_its_place_and_the_rule(here: Path) -> None:
    """A plugin's file and what it imports from the directory are looked at; `# noqa` is heeded;
    without the option all is well."""
    hasty = write(here / "plugins/hasty.py", HASTY)
    helping = write(here / "plugins/helping.py", HELPING)
    write(here / "plugins/calm.py", CALM)
    assert trivet("check", "hasty", "calm").exit_code == 0
    result = trivet("check", "hasty", "calm", "--strict")
    assert (result.exit_code, result.stdout) == (2, "2 faults\n")
    first, second = result.stderr.splitlines()
    assert first.startswith(f"trivet: {hasty}:{line_of(hasty, 'trio.sleep(1)')}:")
    assert " ASYNC105 " in first
    assert second.startswith(f"trivet: {helping}:{line_of(helping, 'time.sleep')}:")
    assert " ASYNC251 " in second
    faults = as_json("check", "hasty", "--strict", "--json")["faults"]
    assert [f"trivet: {each}" for each in faults] == [first, second]


def test_a_plugin_that_follows_the_rules_passes(here: Path) -> None:
    """A handler that does not wait is no fault, and neither is a program without plugins."""
    write(here / "plugins/calm.py", CALM)
    result = trivet("check", "calm", "--strict")
    assert (result.exit_code, result.output) == (0, "no fault: calm\n")
    assert trivet("check", "--strict").exit_code == 0


def test_faults_of_the_program_are_told_with_it(here: Path) -> None:
    """A wrong setting and a finding are told at once."""
    write(here / "plugins/hasty.py", HASTY)
    write(here / "plugins/helping.py", HELPING)
    write(here / "trivet.toml", 'max_body = 0\nactive_plugins = ["hasty"]')
    result = trivet("check", "--strict")
    assert (result.exit_code, result.stdout) == (2, "3 faults\n")


def test_without_the_library_the_extra_is_named(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The extra is an error with code 2, before anything is checked."""
    monkeypatch.setattr(_strict, "find_spec", {_strict.LIBRARY: None}.get)
    result = trivet("check", "--strict")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "pip install 'trivet[strict]'" in result.stderr


def test_a_library_that_fails_is_no_clean_bill(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last line of what it said is the fault."""

    def failing(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1, "", "Traceback\nValueError: no\n")

    write(here / "plugins/calm.py", CALM)
    monkeypatch.setattr("trivet._cli._strict.subprocess.run", failing)
    result = trivet("check", "calm", "--strict")
    assert result.exit_code == 2
    assert result.stderr == "trivet: --strict: flake8-async has failed: ValueError: no\n"
