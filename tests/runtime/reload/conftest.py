"""Fixtures that the tests of this room share."""

from __future__ import annotations

from pathlib import Path

import pytest

from .programs import Files


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """The files of a program, none of which is there yet."""
    return Files(tmp_path)
