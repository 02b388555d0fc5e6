"""Processes that share a stream, and are killed; `nox -s replicas` has more events, and kills."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from .redis_server import needs_redis

REPLICAS = Path(__file__).parent / "replicas.py"


@needs_redis
def test_a_few_kills() -> None:
    """Whichever of three processes is killed, the others take over what it held, and no event is
    lost, though Redis stands still for a while; only what was in hand is handled again."""
    command = [sys.executable, str(REPLICAS), "--events", "900", "--kills", "2", "--stopped", "3"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
