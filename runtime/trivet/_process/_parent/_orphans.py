"""The processes that have ended, and those that a child has left behind.

Owns their collection, and the kill of every descendant.
Never knows which of them is the program.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections import defaultdict
from pathlib import Path

ORPHANS_WITHIN = 4.0
"""Seconds in which killed orphans have to be gone."""


def reap() -> dict[int, int]:
    """Collect every process that has ended; returns their wait statuses by their ids."""
    found: dict[int, int] = {}
    while True:
        try:
            ended, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if ended == 0:
            return found
        found[ended] = status


def adopt_orphans() -> None:
    """Become the parent of the processes that the child leaves behind, on Linux; no-op elsewhere.

    To be called before there is a child: it may leave one behind before this process has started.
    """
    if sys.platform == "linux":
        set_child_subreaper = 36
        ctypes.CDLL(None).prctl(set_child_subreaper, 1, 0, 0, 0)


def kill_orphans(spared: int | None = None) -> dict[int, int]:
    """Kill the processes that the child left behind, and all their descendants.

    All at once: one generation after the other would take longer the more generations there are.

    Args:
        spared: a process that is left alone, with all its descendants.

    Returns:
        The wait statuses of the processes that have ended meanwhile, by their ids.
    """
    ended: dict[int, int] = {}
    until = time.monotonic() + ORPHANS_WITHIN
    while time.monotonic() < until:
        ended |= reap()
        left = descendants(spared)
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                continue  # The process has ended meanwhile, or belongs to another user.
        if not left:
            break
        time.sleep(0.01)  # To wait for signals here would swallow a request to stop.
    return ended


def descendants(spared: int | None = None) -> list[int]:
    """The processes that descend from this one, on Linux; elsewhere none is known.

    Args:
        spared: a process that is left out, with all its descendants.
    """
    children: defaultdict[int, list[int]] = defaultdict(list)
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            # The name before may contain anything, parentheses too.
            fields = (directory / "stat").read_bytes().rpartition(b")")[2].split()
        except OSError:
            continue  # The process has ended.
        children[int(fields[1])].append(int(directory.name))
    found: list[int] = []
    ahead = [os.getpid()]
    while ahead:
        own = [pid for pid in children.pop(ahead.pop(), []) if pid != spared]
        found += own
        ahead += own
    return found
