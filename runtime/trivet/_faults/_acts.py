"""The acts that go on at this moment, such as `close() of 'x'`: one of them may be the last.

Owns the note of the present acts, since a plugin's code may end the process without any code of
Trivet running again.
Never knows where the note is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from itertools import islice

NOTED = 5
"""The largest number of acts in a note; the latest come first."""

_keep: Callable[[str], None] | None = None
_going_on: dict[object, str] = {}


def keep_notes(keep: Callable[[str], None]) -> None:
    """Call `keep` with a note of the present acts, at each change, until the process ends."""
    global _keep  # noqa: PLW0603 - as many keepers as processes
    _keep = keep


@contextmanager
def noted(act: str) -> Generator[None]:
    """Note `act` while this block runs, if notes are kept."""
    keep = _keep
    if keep is None:
        yield
        return
    key = object()
    _going_on[key] = act
    keep(_note())
    try:
        yield
    finally:
        del _going_on[key]
        keep(_note())


def _note() -> str:
    return ", ".join(islice(reversed(_going_on.values()), NOTED))
