"""The example of two services, three replicas and a kill, word for word."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from .programs import free_port
from .redis_server import needs_redis

PAGE = Path(__file__).parents[2] / "docs" / "scaling-out.md"
ORDERS = 20_000
FEWER = 3_000


@pytest.mark.broker
@needs_redis
@pytest.mark.timeout(300)  # Five starts of the program, and a kill, one after the other.
def test_the_numbers_add_up(tmp_path: Path) -> None:
    """In the example, with other ports and fewer orders, every order is in the ledger."""
    page = PAGE.read_text("utf-8")
    blocks = re.findall(r"^```(python|toml|sh)\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    (_, plugin), (_, shop), (_, ledger), (_, script) = blocks
    ports = {port: str(free_port()) for port in ("6379", "8080", "8081", "8082", "8083")}

    def elsewhere(text: str) -> str:
        text = re.sub("|".join(ports), lambda found: ports[found[0]], text)
        return text.replace(str(ORDERS), str(FEWER))

    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "ledger.py").write_text(plugin)
    (tmp_path / "shop.toml").write_text(elsewhere(shop))
    (tmp_path / "ledger.toml").write_text(elsewhere(ledger))
    process = subprocess.Popen(
        ["bash", "-c", elsewhere(script)],
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        text=True,
        process_group=0,
    )
    try:
        assert process.stdout is not None
        last = process.stdout.readline()
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.communicate()
    orders, _, lines = last.removesuffix(" lines\n").partition(" orders in ")
    assert int(orders) == FEWER
    assert FEWER <= int(lines) < FEWER + 300
