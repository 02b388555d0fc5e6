"""A look at settings and code in a thread, which authors' code may hold, or leave by any error.

Owns the thread's faults, and the place at which it stands.
Never knows what is looked at, nor for how long.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from threading import get_ident
from typing import Generic, TypeVar

import structlog

from .._faults._containment import summary
from .._faults._errors import ReloadRefusedError, TrivetError
from .._faults._frames import Authors, stack_below
from .._program._finder import PACKAGE

T = TypeVar("T")

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger("trivet")


class Looking(Generic[T]):
    """One call of a function in a thread.

    Args:
        look: the function.
    """

    def __init__(self, look: Callable[[], T]) -> None:
        self._look = look
        self._thread: int | None = None

    def run(self) -> T:
        """Call it.

        Raises:
            TrivetError: it has raised this.
            ReloadRefusedError: it has raised anything else, which the log has.
        """
        self._thread = get_ident()
        try:
            return self._look()
        except TrivetError:
            raise
        except BaseException as error:  # noqa: ASYNC103 - nothing is awaited here
            _log.error("the settings or the code cannot be checked", exc_info=error)
            raise ReloadRefusedError(summary(error)) from error  # noqa: ASYNC104

    def place(self) -> str:
        """The author's innermost line at which the thread stands, or else the innermost."""
        frames = sys._current_frames()  # pyright: ignore[reportPrivateUsage]
        frame = None if self._thread is None else frames.get(self._thread)
        return "its end" if frame is None else Authors(PACKAGE).place(stack_below(frame))
