"""Each folder of `docs/examples` works as it stands: its tests pass, and its command prints what
its page says."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.contrib.programs import free_port
from tests.contrib.redis_server import needs_redis

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
NAMES = sorted(page.parent.name for page in EXAMPLES.glob("*/README.md"))
PORTS = ("PORT", "SHOP_PORT", "BILLING_PORT", "REDIS_PORT", "CHAT_PORT")
"""The variables by which the commands take other ports than a page has."""


@pytest.fixture
def example(name: str, tmp_path: Path) -> Path:
    """A copy of an example, far from all else."""
    unwanted = shutil.ignore_patterns("__pycache__", "*.log", "*.sqlite3*", "*.ndjson")
    return Path(shutil.copytree(EXAMPLES / name, tmp_path / name, ignore=unwanted))


def environment() -> dict[str, str]:
    """The variables for a program: this Python's commands come first, and ports are free."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, **{port: str(free_port()) for port in PORTS}}


@pytest.mark.process
@pytest.mark.parametrize("name", NAMES)
def test_the_tests_of_an_example_pass(example: Path) -> None:
    """The example's own tests pass in a copy of its folder, each of them."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    ended = subprocess.run(
        command, cwd=example, env=environment(), capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout


@pytest.mark.process
@pytest.mark.broker
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=needs_redis if name == "order_pipeline" else ()) for name in NAMES],
)
def test_the_command_of_an_example_prints_what_its_page_says(example: Path) -> None:
    """`bash run.sh` ends well, and prints the text block of the example's page."""
    page = (example / "README.md").read_text("utf-8")
    assert "`bash run.sh`" in page
    (promised,) = re.findall(r"^```text\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    process = subprocess.Popen(
        ["bash", "run.sh"],
        cwd=example,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )
    try:
        printed, errors = process.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    assert (process.returncode, printed) == (0, promised), errors
