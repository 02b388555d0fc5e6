"""Error messages of other libraries, taken from them: no test knows the words."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest


def said_by(function: Callable[..., object], *args: object) -> str:
    """The first argument of what this raises: its message."""
    with pytest.raises(Exception) as raised:  # noqa: PT011 - whatever it is
        function(*args)
    return str(raised.value.args[0])


def refusal_of(validator: Callable[[Any, Any, Any], object], name: str, value: object) -> str:
    """The message of attrs for a value that a field's validator refuses."""
    return said_by(validator, None, SimpleNamespace(name=name), value)
