"""Programs that tests start: whether they are there, and where they may listen.

Owns what a test does without one.
Never knows what they are.
"""

from __future__ import annotations

import os
import shutil
import socket

import pytest


def needs(program: str) -> pytest.MarkDecorator:
    """Skip a test where this is not on the PATH; not in CI, where it fails without it."""
    is_missing = shutil.which(program) is None and os.environ.get("CI") != "true"
    return pytest.mark.skipif(is_missing, reason=f"{program} is not on the PATH")


def free_port() -> int:
    """A port at which nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port: int = bound.getsockname()[1]
        return port
