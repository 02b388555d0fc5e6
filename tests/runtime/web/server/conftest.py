"""Limits that a test can wait for."""

from __future__ import annotations

import pytest

from trivet._web._server import _connection, _listening, _peer, _transport


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits that a test can wait for."""
    monkeypatch.setattr(_connection, "KEEP_ALIVE_TIMEOUT", 0.3)
    monkeypatch.setattr(_listening, "CHECK_INTERVAL", 0.05)
    monkeypatch.setattr(_transport, "SEND_TIMEOUT", 0.5)
    monkeypatch.setattr(_transport, "PROBE_EVERY", 1)
    monkeypatch.setattr(_peer, "PROBE_AFTER", 0.2)
