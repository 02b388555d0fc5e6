"""The tasks, threads, files and sockets that a test leaves behind.

Owns the comparison of what was there before with what is there afterwards.
Never knows whose fault it is, except that a task of a plugin bears its plugin's name.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import attrs
import trio

from .._faults._errors import TrivetError
from .._faults._frames import Authors
from .._faults._stacks import calls_of
from .._loop._tasks import OWN_THREADS, descendants, name_of, owner_of

DESCRIPTORS = Path("/proc/self/fd")
TRIOS_THREADS = "Trio thread "
"""The beginning of the names of Trio's worker threads, which wait for further work."""


class LeakError(TrivetError):
    """A test has left tasks, threads, files or sockets behind."""


@contextmanager
def no_leaks() -> Generator[None]:
    """Refuse what the block leaves behind: tasks of plugins, threads, files, sockets.

    Put it around the block of `open_plugins`: what belongs to the program has ended then.

    Raises:
        LeakError: something is left; it is named, with the place where a task stands.
    """
    before = _There.now()
    yield
    left = list(_There.now().without(before))
    if left:
        raise LeakError("left behind:\n" + "\n".join(f"* {each}" for each in left))


@attrs.frozen
class _There:
    tasks: frozenset[trio.lowlevel.Task]
    threads: frozenset[threading.Thread]
    descriptors: dict[str, str]
    """The file, or the kind of thing, that each open descriptor leads to."""

    @classmethod
    def now(cls) -> _There:
        threads = {
            thread
            for thread in threading.enumerate()
            if not thread.name.startswith((OWN_THREADS, TRIOS_THREADS))
        }
        root = trio.lowlevel.current_root_task()
        tasks = () if root is None else descendants(root)
        return cls(frozenset(filter(owner_of, tasks)), frozenset(threads), _descriptors())

    def without(self, before: _There) -> Iterator[str]:
        """Describe what was not there before."""
        for task in self.tasks - before.tasks:
            place = Authors().place(calls_of(task))
            yield f"plugin {owner_of(task)!r}, task {name_of(task)}, at {place}"
        yield from (f"thread {thread.name!r}" for thread in self.threads - before.threads)
        for number, target in self.descriptors.items():
            if before.descriptors.get(number) != target:
                yield f"descriptor {number}: {target}"


def _descriptors() -> dict[str, str]:
    """The open descriptors, each with a file's path, or the kind of what is none."""
    found: dict[str, str] = {}
    for entry in DESCRIPTORS.iterdir() if DESCRIPTORS.is_dir() else ():
        with suppress(OSError):  # The directory itself was open while it was read.
            found[entry.name] = str(entry.readlink())
    return found
