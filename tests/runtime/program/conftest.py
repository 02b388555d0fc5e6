"""Fixtures that the tests of this room share."""

from __future__ import annotations

from pathlib import Path

import pytest

from .directories import Directory


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    """A plugins' directory, created when the first file is written."""
    return Directory(tmp_path / "plugins")
