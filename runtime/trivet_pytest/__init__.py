"""Trivet's fixtures for pytest, which finds them by itself.

Owns the fixtures' names and defaults; what they do is `trivet.testing`'s.
Never imports Trivet before a fixture is asked for: every run of pytest loads this module, also of
projects that have no plugin.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from trivet.testing import OpenPlugins


@pytest.fixture
def open_service() -> OpenPlugins:
    """`trivet.testing.open_plugins`, with `raise_errors` by default."""
    from trivet.testing import open_plugins  # noqa: PLC0415 - see above

    return partial(open_plugins, raise_errors=True)
