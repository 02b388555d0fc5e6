"""The parent process, as a module that imports nothing of Trivet."""

from __future__ import annotations

import ast
import json
import os
import random
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trivet import full_jitter
from trivet._process import _parent
from trivet._process._parent._child import Child
from trivet._process._parent._config import ParentConfig
from trivet._process._parent._keeper import full_jitter as copied_full_jitter
from trivet._process._parent._last_words import LastWords, create_report, read_facts
from trivet._process._parent._wire import STOP
from trivet._process._report import Report


def test_the_standard_library_only() -> None:
    """The parent's modules import one another, and otherwise the standard library alone."""
    assert _parent.__file__
    folder = Path(_parent.__file__).parent
    own = {f"._{file.stem.removeprefix('_')}" for file in folder.glob("*.py")}
    names: set[str] = set()
    for file in folder.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level:
                names.add("." * node.level + (node.module or ""))
            elif isinstance(node, ast.ImportFrom):
                names.add((node.module or "").partition(".")[0])
    assert names <= sys.stdlib_module_names | own


def test_bytes_that_the_child_did_not_mean_are_passed_over() -> None:
    """A plugin may write anything to descriptors that are not its own; the last verdict counts."""
    beat_read, beat_write = os.pipe()
    child = Child(0, os.dup(beat_write), beat_read, create_report())
    try:
        os.write(beat_write, b".3\xb2x.")
        assert child.read_beats()
        assert child.verdict == 3
        assert not child.read_beats()
    finally:
        child.close()
        os.close(beat_write)


def test_the_way_of_a_program_to_its_service() -> None:
    """The child says that it is checked, that it serves, and that an operator wants a new one."""
    beat_read, beat_write = os.pipe()
    child = Child(0, os.dup(beat_write), beat_read, create_report())
    try:
        assert not child.is_checked
        assert not child.take_wish()
        os.write(beat_write, b"c.")
        child.read_beats()
        assert child.is_checked
        assert child.serving_since is None
        os.write(beat_write, b"sr")
        child.read_beats()
        assert child.serving_since is not None
        assert [child.take_wish(), child.take_wish()] == [True, False]
    finally:
        child.close()
        os.close(beat_write)


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        (b"..!", 0, 0),
        (b"..", 0, 1),
        (b"", 0, 1),
        (b"!.", 0, 1),
        (b"!", 3 << 8, 3),
        (b".", 9, 137),
    ],
)
def test_an_exit_code(sent: bytes, status: int, code: int) -> None:
    """A 0 counts only after the sign of a clean exit, sent last; a signal is 128 and its number."""
    beat_read, beat_write = os.pipe()
    stop_read, stop_write = os.pipe()
    child = Child(0, stop_write, beat_read, create_report())
    os.write(beat_write, sent)
    os.close(beat_write)
    os.close(stop_read)
    assert child.exit_code(status) == code
    child.close()


def test_a_word_to_a_child_that_has_ended() -> None:
    """A pipe without a reader is no error."""
    beat_read, beat_write = os.pipe()
    stop_read, stop_write = os.pipe()
    child = Child(0, stop_write, beat_read, create_report())
    os.close(stop_read)
    child.send(STOP)
    child.close()
    os.close(beat_write)


def test_the_last_words_are_printed(capfd: pytest.CaptureFixture[str]) -> None:
    """A report is printed with `trivet:` before each line, control characters spelt out; an empty
    one is not."""
    report = create_report()
    try:
        LastWords(report).say(whole=True)
        assert capfd.readouterr().err == ""
        os.pwrite(report, b"close() of 'x'", 0)
        os.write(report, b"held\n\x1b[31mred\n")
        LastWords(report).say(whole=True)
    finally:
        os.close(report)
    assert capfd.readouterr().err == (
        "trivet: held\ntrivet: \\x1b[31mred\ntrivet: when it ended it was at close() of 'x'\n"
    )


def test_facts_stand_beside_the_last_words() -> None:
    """A child's facts are read back, whatever else is in the report; too many are left out."""
    descriptor = create_report()
    try:
        report = Report(descriptor)
        assert read_facts(descriptor) == {}
        report.note("x" * 1000)
        report.say("words")
        report.state({"limits": {"budget": 3.0}})
        assert read_facts(descriptor) == {"limits": {"budget": 3.0}}
        assert LastWords(descriptor).text == "words"
        report.state({"files": "x" * (1 << 20)})
        assert read_facts(descriptor) == {"limits": {"budget": 3.0}}
    finally:
        os.close(descriptor)


CONFIG = {
    "command": ["x"],
    "first": [1, 2, 3, 4],
    "listeners": [],
    "public": 0,
    "addresses": [],
    "budget": 25.0,
    "hang_limit": 62.0,
    "max_restarts": 5,
    "restart_window": 30.0,
    "disable_after": 3,
    "backoff_initial": 0.5,
    "backoff_max": 30.0,
}


def test_limits_of_newer_settings() -> None:
    """A program whose settings are newer brings its own limits; a missing one stays."""
    config = ParentConfig(json.dumps(CONFIG))
    config.adopt({"limits": {"budget": 70.0, "max_restarts": 1}})
    assert (config.budget, config.max_restarts, config.hang_limit) == (70.0, 1, 62.0)
    config.adopt({})
    assert config.budget == 70.0


@given(
    initial=st.floats(min_value=0.0, max_value=10.0),
    most=st.floats(min_value=0.0, max_value=100.0),
    attempt=st.integers(min_value=1, max_value=3_000),
    seed=st.integers(),
)
def test_the_copy_of_the_back_off(initial: float, most: float, attempt: int, seed: int) -> None:
    """The copy gives the numbers of the original, also after thousands of failures."""
    draw = random.Random(seed).uniform
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("random.uniform", random.Random(seed).uniform)
        copied = copied_full_jitter(initial, most, attempt)
    assert copied == full_jitter(initial, 2.0, most, attempt, draw)
