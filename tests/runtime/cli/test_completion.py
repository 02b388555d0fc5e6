from __future__ import annotations

from pathlib import Path

import pytest

from .commands import trivet, write


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_a_script(shell: str) -> None:
    """The script of each shell asks the command itself, by its variable."""
    assert "_TRIVET_COMPLETE" in trivet("completion", shell).stdout


def completed(line: str) -> list[str]:
    """The completions of the last word of a command line, as bash gets them."""
    words = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}
    printed = trivet(_TRIVET_COMPLETE="bash_complete", **words).stdout
    return [line.partition(",")[2] for line in printed.splitlines() if line]


def test_commands_and_plugins_are_completed(here: Path) -> None:
    """Commands are completed, and the names of plugins that are there."""
    write(here / "plugins/teapot.py", "")
    assert completed("trivet sch") == ["schema"]
    assert completed("trivet dead-letters pu") == ["purge"]
    assert completed("trivet serve te") == ["teapot"]


def test_a_fault_of_settings_completes_nothing(here: Path) -> None:
    """A shell is told nothing, and no error, where the settings have a fault."""
    write(here / "trivet.toml", "[")
    assert completed("trivet serve te") == []
