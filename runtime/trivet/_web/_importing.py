"""Imports that a request causes, in a thread: the event loop goes on meanwhile.

Owns the one thread for them.
Never knows what is imported.
"""

from __future__ import annotations

from importlib import import_module

import trio

_one_thread = trio.CapacityLimiter(1)
"""A thread of its own: plugins may have taken all of Trio's."""
_imported: set[str] = set()


async def import_in_thread(module: str) -> None:
    """Import a module, so that an `import` of it in the event loop takes no time.

    Args:
        module: the full name.
    """
    if module not in _imported:
        await trio.to_thread.run_sync(import_module, module, limiter=_one_thread)
        _imported.add(module)
