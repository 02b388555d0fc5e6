"""Python's garbage collector: it pauses during the start, and never searches what the start made.

Owns the collector's settings, in a process that is Trivet's own.
Never knows which objects are made. Embedded, Trivet leaves the collector to its owner.
"""

from __future__ import annotations

import gc
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def garbage_collector_paused() -> Generator[None]:
    """Pause the collector until `freeze_heap` or the end of the block: it would find nothing."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def freeze_heap() -> None:
    """Leave the present objects out of every search to come, and resume the collector.

    The heap is not searched first, since that takes a tenth of a start. So the present garbage
    stays too: about a hundred objects after a start.
    """
    gc.freeze()
    gc.enable()
