"""Fixtures that the tests of this room share."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from .files import HEADER, Write


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a plugin's file, `mistake.py`, below some imports and two events."""

    def put(text: str) -> Path:
        file = tmp_path / "mistake.py"
        file.write_text(HEADER + textwrap.dedent(text), "utf-8")
        return file

    return put
