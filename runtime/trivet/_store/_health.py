"""The health of the store: whether it can take events, and what the log says of that.

Owns the trouble, and the sentences of the log about the store, each of which is written once.
Never knows what is done about it.
"""

from __future__ import annotations

from pathlib import Path

import structlog

from ._group import Group
from ._records import JournalError

PLENTY = 1 << 20
"""Bytes of room, below which the store is about to be full; an eighth of a small one."""

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger("trivet")


class Health:
    """The health of one store.

    Args:
        path: the file.
        max_bytes: the operator's limit.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        self._path = str(path)
        self._max_bytes = max_bytes
        self._little = min(PLENTY, max_bytes // 8)
        self._has_said_so = False
        """Whether the last word in the log is that the store is near its limit."""
        self._is_untidy = False
        """Whether the log says that tidying fails; it says so once."""
        self.trouble: JournalError | None = None
        """Why nothing can be stored now; None where all is well."""

    def is_near_limit(self, size: int) -> bool:
        """Whether a store with so many bytes is about to be full."""
        return size + self._little > self._max_bytes

    def judge(self, group: Group, size: int) -> None:
        """Log when the store begins to fail, and when it works again.

        Args:
            group: what was done last, with its results.
            size: bytes of the events in the store.
        """
        before, self.trouble = self.trouble, self._trouble_after(group)
        if (before is None) != (self.trouble is None):
            if self.trouble is None:
                _log.info("the store works again", path=self._path)
            else:
                _log.error("the store fails", error=str(self.trouble))
        if group.untidy is not None and not self._is_untidy:
            self._is_untidy = True
            _log.error("the store cannot be kept small", error=str(group.untidy))
        self._judge_limit(size)

    def _trouble_after(self, group: Group) -> JournalError | None:
        if group.error is not None:
            return group.error
        # That ends could be written says nothing of the room for more events.
        return None if group.commit.writings or group.looks else self.trouble

    def _judge_limit(self, size: int) -> None:
        """Log when the store comes near its limit, and when there is room again."""
        # Twice the room, or it would be logged for every event that comes and goes.
        has_plenty = size + 2 * self._little <= self._max_bytes
        if self._has_said_so and has_plenty:
            _log.info("the store has room again", path=self._path, bytes=size)
            self._has_said_so = False
        elif self.is_near_limit(size) and not self._has_said_so:
            _log.warning(
                "the store is near its limit: what comes waits, or is refused",
                path=self._path,
                bytes=size,
                max_bytes=self._max_bytes,
            )
            self._has_said_so = True
