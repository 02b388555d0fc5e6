"""What a plugin has entered in one lifetime, and leaves at its end.

Owns the stack of context managers.
Never knows when a lifetime begins or ends.
"""

from __future__ import annotations

from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    AsyncExitStack,
)
from types import TracebackType
from typing import Self, TypeVar

T = TypeVar("T")


class Resources:
    """What a plugin has entered in one lifetime: nothing, most of them, and that costs nothing."""

    __slots__ = ("_stack",)

    def __init__(self) -> None:
        self._stack: AsyncExitStack | None = None

    async def enter(self, manager: AbstractAsyncContextManager[T] | AbstractContextManager[T]) -> T:
        """Enter one that is left after those that are entered later."""
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
        # A lifetime bounds what it leaves.
        return bool(await self._stack.__aexit__(kind, error, traceback))  # noqa: ASYNC102
