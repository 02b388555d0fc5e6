"""Processes that share a broker, and are killed; `nox -s replicas` has more events, and kills."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from .nats_server import needs_nats
from .rabbitmq_server import needs_rabbitmq
from .redis_server import needs_redis

ROOT = Path(__file__).parents[2]


@pytest.mark.broker
@pytest.mark.parametrize(
    "broker",
    [
        pytest.param("redis", marks=needs_redis),
        pytest.param("nats", marks=needs_nats),
        pytest.param("rabbitmq", marks=needs_rabbitmq),
    ],
)
@pytest.mark.timeout(300)  # Four starts of the program, besides a broker.
def test_a_few_kills(broker: str) -> None:
    """Whichever of three processes is killed, the others take over its messages, and no event is
    lost, even if the broker hangs; only messages in flight are handled again."""
    script = [sys.executable, "-m", "tests.contrib.replicas", broker]
    orders = ["--events", "600", "--kills", "1", "--stopped", "2"]
    done = subprocess.run([*script, *orders], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
