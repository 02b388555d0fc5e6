from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog


@pytest.fixture(autouse=True)
def default_logging() -> Iterator[None]:
    """Undo what a test's program has told structlog, which is one for the whole process."""
    yield
    structlog.reset_defaults()
