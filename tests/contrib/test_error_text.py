from __future__ import annotations

from trivet_contrib._error_text import LONGEST, describe


class UnspeakableError(Exception):
    """An error that fails at its own text."""

    def __str__(self) -> str:
        raise RecursionError


def test_an_error_without_a_text_is_told_by_its_context() -> None:
    """A library that wraps an error without a text leaves the text to what it wraps."""
    outer = ConnectionError()
    outer.__context__ = OSError("reset by peer")
    assert describe(outer) == "ConnectionError: reset by peer"


def test_a_context_is_no_cause() -> None:
    """An error that happened while another was handled speaks for itself."""
    outer = ValueError("bad")
    outer.__context__ = OSError("reset by peer")
    assert describe(outer) == "ValueError: bad"


def test_a_cause_that_repeats_the_error_is_left_out() -> None:
    """A library that copies the text of the cause has said it."""
    outer, inner = ConnectionError("all attempts failed: refused"), OSError("refused")
    outer.__cause__ = inner
    assert describe(outer) == "ConnectionError: all attempts failed: refused"


def test_an_error_whose_text_fails() -> None:
    """An author's `__str__` that raises costs nothing but the text."""
    assert describe(UnspeakableError()) == "UnspeakableError"


def test_a_text_is_bounded() -> None:
    """A text as long as a message does not fill the log."""
    assert describe(ValueError("x" * 10_000)) == f"ValueError: {'x' * LONGEST}"
