"""The handover from one instance of a plugin to the next, under the same name.

Owns the two waits: of a successor that has initialized, for its turn to run, and of a predecessor
that has ended its `run`, for the leave to close.
Never knows why a plugin is replaced, nor what the two hand over.
"""

from __future__ import annotations

import trio


class Succession:
    """The turn of an instance that starts beside another one."""

    def __init__(self) -> None:
        self._begun = trio.Event()

    @property
    def has_begun(self) -> bool:
        """Whether the instance has taken over."""
        return self._begun.is_set()

    def begin(self) -> None:
        """Let it run."""
        self._begun.set()

    async def turn(self) -> None:
        """Wait for the turn; no checkpoint where it has come."""
        if not self._begun.is_set():
            await self._begun.wait()


class Retirement:
    """The end of an instance that another one follows, or none."""

    def __init__(self) -> None:
        self.run_ended: trio.Event = trio.Event()
        """Set when `run` has ended, or the lifetime was over before."""
        self.may_close: trio.Event = trio.Event()
        """Set when the successor has taken over; the instance answers routes until then."""

    async def run_is_over(self) -> None:
        """Say that `run` has ended, and wait, shielded, for the leave to close."""
        self.run_ended.set()
        with trio.CancelScope(shield=True):
            await self.may_close.wait()
