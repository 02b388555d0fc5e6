"""A short soak; `nox -s soak` is the long one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.process

SOAK = Path(__file__).parent / "soak.py"


def test_random_programs_end_in_time_and_leave_nothing() -> None:
    """No task, thread, descriptor or child is left, whatever crashes, restarts and stops."""
    command = [sys.executable, str(SOAK), "--batch", "25", "--batches", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
