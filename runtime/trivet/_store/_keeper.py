"""The store of a program while it runs: open from the start on, or from the reload that needs it.

Owns the task in which the store is open, and its end.
Never knows who needs the store.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from contextvars import copy_context
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from ._records import JournalError
    from ._store import Store


class Keeper:
    """Keeps one store open; made by `keeping`.

    Args:
        nursery: the nursery of the store's task.
    """

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._context = copy_context()
        self._over = trio.Event()
        self._told = trio.Event()
        self._closed = trio.Event()
        self._error: JournalError | None = None

    async def open(self, store: Store) -> None:
        """Open a store, while no other one is open.

        A caller that is cancelled calls `close`.

        Raises:
            JournalError: the file cannot be opened.
        """
        self._over, self._told, self._closed = trio.Event(), trio.Event(), trio.Event()
        self._error = None
        # A request for a reload would have its own facts in what the store logs.
        self._context.copy().run(self._nursery.start_soon, self._keep, store)
        await self._told.wait()
        if self._error is not None:
            raise self._error

    async def _keep(self, store: Store) -> None:
        from ._records import JournalError  # noqa: PLC0415 - for programs that have a store

        try:
            async with store.opened():
                with trio.CancelScope(shield=True):
                    self._told.set()
                    await self._over.wait()
        except JournalError as error:
            if self._told.is_set():
                raise
            self._error = error
        finally:
            self._told.set()
            self._closed.set()

    def let_go(self) -> None:
        """Have the store closed, soon."""
        self._over.set()

    async def close(self) -> None:
        """Have the store closed, and wait for it."""
        self._over.set()
        await self._closed.wait()


@asynccontextmanager
async def keeping(store: Store | None) -> AsyncGenerator[Keeper]:
    """Keep a store open within this block, and whatever store is opened later.

    Args:
        store: the store that is open from the beginning; None if no inbox is durable.

    Raises:
        JournalError: the file cannot be opened.
    """
    async with trio.open_nursery() as nursery:
        keeper = Keeper(nursery)
        try:
            if store is not None:
                await keeper.open(store)
            yield keeper
        finally:
            keeper.let_go()
