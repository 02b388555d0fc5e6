"""The durable inboxes that a reload brings: they are in the store before they are served.

Owns the opening of the store, where no inbox was durable before, and how it is undone.
Never knows when a plugin is served, nor what is in the store.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .._faults._errors import ReloadRefusedError
from .._hosting import Hosting
from .._program._settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .._store._records import Found


class Newcomers:
    """The durable inboxes that one reload brings.

    Args:
        hosting: makes the inboxes.
        plugins: the plugins' names.
        settings: the new program's settings.
    """

    def __init__(self, hosting: Hosting, plugins: Sequence[str], settings: Settings) -> None:
        self._hosting = hosting
        self._plugins = plugins
        self._settings = settings
        self._opens = False
        """Whether this reload opens the store."""
        self._found: Mapping[str, Found] = {}

    async def subscribe(self) -> None:
        """Make the plugins known in the store, and find what waits for them there.

        The store has the same names after a reload that is refused: nothing waits for these.

        Raises:
            ReloadRefusedError: the store refuses.
        """
        if not self._plugins:
            return
        from .._store._records import JournalError  # noqa: PLC0415 - few programs have a store

        hosting = self._hosting
        self._opens = hosting.store is None
        store = hosting.store or hosting.new_store(self._settings)
        try:
            if self._opens:
                await hosting.keeper.open(store)
            self._found = await store.subscribe(self._plugins)
        except JournalError as error:
            names = ", ".join(map(repr, self._plugins))
            said = f"nothing can be stored for {names}, which would be durable: {error}"
            raise ReloadRefusedError(said, plugin=self._plugins[0]) from error

    def admit(self) -> None:
        """Have the inboxes take in what waits for them, at the instant at which they are served."""
        if self._hosting.store is not None:
            self._hosting.store.admit(self._found)

    async def undo(self) -> None:
        """Forget the inboxes; a store that was opened for them alone is closed."""
        store = self._hosting.store
        if self._opens:
            await self._hosting.keeper.close()
            self._hosting.store = None
        elif store is not None:
            store.decline()
