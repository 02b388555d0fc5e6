"""pytest finds Trivet's fixtures by itself, and imports nothing for a project without plugins."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROJECT = """
[pytest]
trio_mode = true
"""
TEST = """
import pytest
from trivet import Event, EventPlugin


class Order(Event):
    number: int


class Billing(EventPlugin[Order]):
    async def handle_event(self, event):
        1 / event.number


async def test_billing(open_service):
    async with open_service(Billing) as runtime:
        await runtime.publish(Order(1), wait=True)
        with pytest.raises(ZeroDivisionError):
            await runtime.publish(Order(0), wait=True)
"""
OTHER = """
import sys


def test_nothing_is_imported():
    assert "trivet_pytest" in sys.modules
    assert "trivet" not in sys.modules
"""


def pytest_in(directory: Path, test: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run a test in a project of its own."""
    (directory / "pytest.ini").write_text(PROJECT if not options else "[pytest]\n")
    (directory / "test_it.py").write_text(test)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)


def test_the_fixture_needs_no_conftest(tmp_path: Path) -> None:
    """A test that asks for `open_service` gets it, and a handler's error comes out of publish."""
    ran = pytest_in(tmp_path, TEST)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_a_project_without_plugins_pays_nothing(tmp_path: Path) -> None:
    """The module with the fixtures imports Trivet only when one is asked for."""
    ran = pytest_in(tmp_path, OTHER, "-p", "no:trio", "-p", "no:hypothesispytest")
    assert ran.returncode == 0, ran.stdout + ran.stderr
