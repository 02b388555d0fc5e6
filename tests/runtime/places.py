"""Places in a file, as errors and the log name them."""

from __future__ import annotations

from pathlib import Path


def line_of(file: Path, needle: str) -> int:
    """The number of the first line that contains a text."""
    text = file.read_text("utf-8")
    return text[: text.index(needle)].count("\n") + 1
