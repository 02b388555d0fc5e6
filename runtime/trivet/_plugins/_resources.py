"""The context managers that a plugin holds for one lifetime, and leaves at its end.

Owns the stack of context managers.
Never knows when a lifetime begins or ends.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, AbstractContextManager, AsyncExitStack
from types import TracebackType
from typing import Self, TypeVar

T = TypeVar("T")


class Resources:
    """A stack of context managers, made when the first one is entered: most plugins have none."""

    __slots__ = ("_stack",)

    def __init__(self) -> None:
        self._stack: AsyncExitStack | None = None

    async def enter(self, manager: AbstractAsyncContextManager[T] | AbstractContextManager[T]) -> T:
        """Enter a context manager, and leave it after all that are entered later."""
        if self._stack is None:
            self._stack = AsyncExitStack()
        if isinstance(manager, AbstractAsyncContextManager):
            return await self._stack.enter_async_context(manager)
        return self._stack.enter_context(manager)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        if self._stack is None:
            return False
        # A lifetime limits the time of leaving.
        return bool(await self._stack.__aexit__(kind, error, traceback))  # noqa: ASYNC102
