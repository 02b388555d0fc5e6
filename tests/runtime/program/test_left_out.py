"""Active plugins that one run leaves out."""

from __future__ import annotations

from pathlib import Path

import pytest

from .directories import Directory, names

PAIR = """
class Cup(BackgroundPlugin): ...
class Saucer(BackgroundPlugin):
    width: int = 1
"""
DEATH = "raise RuntimeError('this file must not be imported')"


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    """A directory with two sound files, and one that must not be imported."""
    found = Directory(tmp_path)
    found.write("pair.py", PAIR)
    found.write("spoon.py", "class Spoon(BackgroundPlugin): ...\nclass Stirred(Event): ...")
    found.write("broken.py", DEATH)
    return found


def test_a_file_that_is_left_out_is_not_imported(directory: Directory) -> None:
    """The name of a file leaves all its plugins out, and none of its code runs."""
    program = directory.load("pair", "broken", left_out=("broken",))
    assert names(program) == ["cup", "saucer"]


def test_one_plugin_of_a_file(directory: Directory) -> None:
    """The name of a plugin leaves that plugin out, and the others of its file run."""
    assert names(directory.load("pair", "spoon", left_out=("cup",))) == ["saucer", "spoon"]


@pytest.mark.parametrize(("name", "nearest"), [("cub", "'cup'"), ("brokn", "'broken'")])
def test_an_unknown_name(directory: Directory, name: str, nearest: str) -> None:
    """A name that is neither an active file's nor a plugin's is a fault, with the nearest name."""
    fault = directory.fault("pair", "spoon", "broken", left_out=(name, "broken"))
    assert f"--without: no plugin {name!r} is active: did you mean {nearest}" in fault


def test_a_plugin_that_needs_one_that_is_left_out(directory: Directory) -> None:
    """A plugin that needs one that is left out is a fault, which says to leave both out."""
    directory.write("table.py", "class Table(BackgroundPlugin):\n    needs = ('cup',)")
    fault = directory.fault("pair", "table", left_out=("cup",))
    assert "'table' needs 'cup', which is not active" in fault
    assert "leave both out: --without cup --without table" in fault
    fault = directory.fault("pair", "table", left_out=("pair",))
    assert "perhaps it is of a file that --without leaves out ('pair')" in fault


def test_settings_about_what_is_left_out(directory: Directory) -> None:
    """Tables and events of a file that is left out are no fault, however its plugins are named."""
    directory.write("cups.py", "class Cups(BackgroundPlugin): ...")
    program = directory.load(
        "cups",
        "pair",
        "spoon",
        left_out=("pair", "spoon"),
        plugins={"cup": {}, "saucer": {"width": 2}, "spoon": {}},
        event_rates={"stirred": 1.0},
        open_events=["stirred"],
    )
    assert names(program) == ["cups"]
