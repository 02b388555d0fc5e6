"""Python's garbage collector: it pauses while a program is made, and may leave that out for ever.

Owns the collector's settings. The heap is frozen in a process that is Trivet's own only; embedded,
Trivet pauses the collector while classes are checked and instances made, and no longer.
Never knows which objects are made.
"""

from __future__ import annotations

import gc
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def garbage_collector_paused() -> Generator[None]:
    """Pause the collector until `freeze_heap` or the end of the block.

    It would search all objects for garbage, again and again as more are made, and find nothing:
    with thousands of plugins that takes longer than the rest of the start.
    """
    if not gc.isenabled():
        yield
        return
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
