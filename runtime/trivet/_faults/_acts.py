"""The acts that go on at this moment, each of which may be the last of this process.

Owns the notes of them: `close() of 'x'`, say. A plugin's code may end the process where no code of
Trivet runs any more.
Never knows where the notes are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from itertools import islice

NOTED = 5
"""The number of acts in a note, the latest first, where more go on at the same time."""

_keep: Callable[[str], None] | None = None
_going_on: dict[object, str] = {}


def keep_notes(keep: Callable[[str], None]) -> None:
    """Call `keep` with a note of the acts that go on, at each change, until the process ends."""
    global _keep  # noqa: PLW0603 - as many keepers as processes
    _keep = keep


@contextmanager
def noted(act: str) -> Generator[None]:
    """Note that `act` goes on while this block runs, if notes are kept."""
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
