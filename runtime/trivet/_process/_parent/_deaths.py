"""The deaths of the program that its parent has seen, for the operator of the next one.

Owns the account of a death, how many are kept, and how long each may be.
Never knows what follows from a death, nor who is told.
"""

from __future__ import annotations

import json
import re
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ._child import Child
from ._last_words import LastWords, named, printable

KEPT = 5
"""Deaths that are kept, at most."""
LINES = 10
"""The last lines of the log that are kept of a death."""
LINE = 300
"""Characters of a line that are kept."""
REPORT = 1500
"""Characters of a report that are kept."""
SIZE = 96 * 1024
"""Bytes of all accounts together: the system bounds a variable of the environment at 128 KiB. One
account has less, whatever its characters are."""

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class Deaths:
    """The last deaths of the program that nobody had asked for."""

    def __init__(self) -> None:
        self._accounts: deque[dict[str, Any]] = deque(maxlen=KEPT)
        self._count = 0
        self._kills_before: int | None = None

    def life_begins(self) -> None:
        """Note that a program runs, whose death may come."""
        self._kills_before = kills_for_memory()

    def note(self, child: Child, code: int, words: LastWords, plugins: Sequence[str]) -> str:
        """Note the death of the program; returns its end in words.

        Args:
            child: the process.
            code: its exit code.
            words: its last words.
            plugins: the plugins to which the death is put down.
        """
        ended = named(code) + said_of_memory(self._kills_before, kills_for_memory())
        since = child.serving_since
        self._count += 1
        self._accounts.append(
            {
                "number": self._count,
                "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                "pid": child.pid,
                "ended": ended,
                "served": None if since is None else round(time.monotonic() - since, 1),
                "plugins": list(plugins),
                "acts": words.note,
                "report": words.text[:REPORT].splitlines(),
                "log": [shown(line) for line in words.log[-LINES:]],
            }
        )
        return ended

    @property
    def told(self) -> list[dict[str, Any]]:
        """The accounts, the oldest first; the oldest are left out where all are too long.

        Each has its number, by which somebody sees how many are not there.
        """
        told = list(self._accounts)
        while len(told) > 1 and len(json.dumps(told)) > SIZE:
            del told[0]
        return told


def shown(line: str) -> str:
    """A line of the log without colours, and without what commands a terminal."""
    return printable(_COLOURS.sub("", line[: 2 * LINE]))[:LINE]


def said_of_memory(before: int | None, now: int | None) -> str:
    """The processes that the kernel has killed meanwhile for want of memory; empty if none.

    >>> said_of_memory(2, 3)
    '; the kernel has killed 1 process of its control group meanwhile, for want of memory'
    """
    kills = 0 if before is None or now is None else now - before
    if kills <= 0:
        return ""
    processes = "1 process" if kills == 1 else f"{kills} processes"
    return f"; the kernel has killed {processes} of its control group meanwhile, for want of memory"


def kills_for_memory(
    membership: Path = Path("/proc/self/cgroup"), groups: Path = Path("/sys/fs/cgroup")
) -> int | None:
    """The processes of this control group that the kernel has killed for want of memory, ever.

    None where the kernel does not count them: without control groups of version 2.

    Args:
        membership: the file that names the group.
        groups: the directory of all groups.
    """
    try:
        lines = membership.read_text().splitlines()
        (group,) = (line[3:] for line in lines if line.startswith("0::"))
        events = (groups / group.lstrip("/") / "memory.events").read_text()
        counts = dict(line.split() for line in events.splitlines())
        return int(counts["oom_kill"])
    except (OSError, ValueError, KeyError):
        return None
