"""The parent process, as a module that imports nothing of Trivet."""

from __future__ import annotations

import ast
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
from trivet._process._parent._keeper import full_jitter as copied_full_jitter
from trivet._process._parent._last_words import create_report, print_report


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
    stop_write = os.dup(beat_write)
    child = Child(0, stop_write, beat_read)
    try:
        os.write(beat_write, b".3\xb2x.")
        assert child.read_beats()
        assert child.verdict == 3
        assert not child.read_beats()
    finally:
        for descriptor in (stop_write, beat_read, beat_write):
            os.close(descriptor)


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
    child = Child(0, stop_write, beat_read)
    os.write(beat_write, sent)
    os.close(beat_write)
    os.close(stop_read)
    assert child.exit_code(status) == code


def test_a_request_to_a_child_that_has_ended() -> None:
    """A pipe without a reader is no error."""
    beat_read, beat_write = os.pipe()
    stop_read, stop_write = os.pipe()
    child = Child(0, stop_write, beat_read)
    os.close(stop_read)
    child.request_stop()
    for descriptor in (beat_read, beat_write, stop_write):
        os.close(descriptor)


def test_a_report_is_printed_and_emptied(capfd: pytest.CaptureFixture[str]) -> None:
    """A report is printed with `trivet:` before each line, control characters spelt out, and
    emptied."""
    report = create_report()
    try:
        os.pwrite(report, b"close() of 'x'", 0)
        os.write(report, b"held\n\x1b[31mred\n")
        print_report(report, whole=True)
        said = capfd.readouterr().err
        print_report(report, whole=True)
    finally:
        os.close(report)
    assert said == (
        "trivet: held\ntrivet: \\x1b[31mred\ntrivet: when it ended it was at close() of 'x'\n"
    )
    assert capfd.readouterr().err == ""


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
