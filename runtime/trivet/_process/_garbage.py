"""When Python looks for garbage: not while what stays is made, nor ever among it.

Owns the settings of the cyclic garbage collector, in a process that is Trivet's own.
Never knows what is made. Embedded, Trivet leaves the collector alone: it is somebody else's.
"""

from __future__ import annotations

import gc
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def making_what_stays() -> Generator[None]:
    """Until `keep`, or the end of the block, do not search: it would find next to nothing."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def keep() -> None:
    """Leave what there is now out of every search to come, and let them begin.

    It is not searched before, which takes as long as a tenth of a start: what is garbage of it,
    about a hundred objects after a start, stays too.
    """
    gc.freeze()
    gc.enable()
