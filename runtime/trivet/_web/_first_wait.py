"""The moment at which a coroutine waits for the first time.

Owns the stepping of one coroutine until then.
Never knows the coroutine, nor the work of that moment.

Most requests are answered without a wait. Time limits and watches, which are needed only for a
coroutine that waits, begin at that moment and cost the other requests nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from inspect import iscoroutine
from types import FrameType
from typing import Any, TypeVar

T = TypeVar("T")


class FirstWait(Generator[Any, Any, T]):
    """An awaitable that runs another one, and calls a function when that waits for the first time.

    An event loop and `iter_await_frames` of Trio see through it: it has the attributes of a
    coroutine that they read.

    Args:
        inner: the other one.
        begin: called once, when `inner` has begun to wait and the task is not suspended yet. It
            must not raise.
    """

    __slots__ = ("_begin", "_steps")

    def __init__(self, inner: Awaitable[T], begin: Callable[[], object]) -> None:
        self._steps: Any = inner if iscoroutine(inner) else inner.__await__()
        self._begin: Callable[[], object] | None = begin

    def __await__(self) -> Generator[Any, Any, T]:
        return self

    def send(self, value: Any) -> Any:
        """Go on until the next wait."""
        trap = self._steps.send(value)
        begin, self._begin = self._begin, None
        if begin is not None:
            begin()
        return trap

    def throw(self, *error: Any) -> Any:
        """Go on with an exception until the next wait."""
        return self._steps.throw(*error)

    def close(self) -> None:
        """End the coroutine where it waits."""
        self._steps.close()

    @property
    def cr_frame(self) -> FrameType | None:
        """The frame of the coroutine, for stacks of tasks."""
        frame: FrameType | None = getattr(self._steps, "cr_frame", None)
        return frame

    @property
    def cr_await(self) -> Any:
        """The awaitable of the coroutine, for stacks of tasks."""
        return getattr(self._steps, "cr_await", None)
