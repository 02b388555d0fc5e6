"""The size of a log of events for 16 plugins, of which one never reads.

    python -m tests.runtime.store.log_size --events 1000000

Events of 300 bytes, 256 a commit, go through the store's own journal. Fifteen plugins end each one
before the next commit; the last plugin ends them all afterwards. Then the file is tidied, as a
program does in idle moments.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from trivet._store._commit import Append
from trivet._store._journal import Journal
from trivet._store._records import Delete, Retention, Settlement

GROUP = 256
SIZE = 300
PLUGINS = [f"plugin_{number}" for number in range(16)]
LAZY = PLUGINS[-1]
KEPT = Retention(max_age=1e12, max_count=1 << 40, max_bytes=1 << 40)
MIB = 1 << 20


def main() -> None:
    """Fill the log, empty it, and tell the sizes."""
    parser = argparse.ArgumentParser(description="Tell the size of a log that one never reads.")
    parser.add_argument("--events", type=int, default=50_000)
    count = parser.parse_args().events
    with TemporaryDirectory() as directory:
        path = Path(directory) / "store.sqlite3"
        with closing(Journal.open(path)) as journal:
            first = journal.new_numbers()
            longest = 0
            for start in range(0, count, GROUP):
                numbers = range(first + start, first + min(start + GROUP, count))
                append(journal, numbers)
                for plugin in PLUGINS[:-1]:
                    end(journal, plugin, numbers)
                longest = max(longest, Path(f"{path}-wal").stat().st_size)
                if (start // GROUP) % (count // GROUP // 4) == 0:
                    tell(f"{start + len(numbers)} events wait for one plugin", path)
            tell(f"all {count} events wait for one plugin", path)
            say(longest, "the longest write-ahead log")
            while rows := journal.read(LAZY, 0, GROUP):
                end(journal, LAZY, [row.number for row in rows])
            tell("it has ended them all", path)
            calls = 0
            size = 0
            while size != path.stat().st_size:
                size = path.stat().st_size
                journal.tidy(0.0, KEPT)
                calls += 1
            tell(f"after {calls} tidyings, one each five seconds in a program", path)


def append(journal: Journal, numbers: range) -> None:
    """Store events for all plugins."""
    payload = b"x" * (SIZE - 100)
    appends = [Append(number, b"e" * 100, payload, PLUGINS) for number in numbers]
    assert journal.commit([], appends) is None


def end(journal: Journal, plugin: str, numbers: range | list[int]) -> None:
    """End events for one plugin."""
    ends: list[Settlement] = [Delete(plugin, [number], [SIZE]) for number in numbers]
    journal.commit(ends, [], {plugin: numbers[-1]})


def tell(what: str, path: Path) -> None:
    """Say how large the file is."""
    say(path.stat().st_size, what)


def say(size: int, what: str) -> None:
    """Write a line."""
    sys.stdout.write(f"{size / MIB:10.1f} MiB  {what}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
