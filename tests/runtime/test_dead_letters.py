"""Dead letters, by the command line: on a stopped program's store, and while the program runs."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path
from sqlite3 import Connection

import pytest

from trivet._delivery import _dead_letters as module
from trivet._delivery._dead_letters import DeadLetters
from trivet._delivery._journal import Journal
from trivet._delivery._records import Append, Bury, DeadLetterFacts, Row

# A replay beside the program that owns the file


def test_a_replay_is_not_overtaken_between_its_transactions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often the owner looks meanwhile, and takes numbers that nobody else has used, what
    is replayed after that comes after it: a program never looks back for what it has passed."""
    path = tmp_path / "store"
    with closing(Journal.open(path)) as journal:
        first = journal.new_numbers()
        numbers = range(first, first + 3)
        rows = [Append(Row("p", number, None, b"{}", b"dead")) for number in numbers]
        facts = DeadLetterFacts("ping", "1", "test", 1.0, "no", b"[]")
        journal.commit([], rows)
        journal.commit([Bury("p", number, facts) for number in numbers], [])
        inner = module.transaction

        @contextmanager
        def looked_at(connection: Connection) -> Generator[None]:
            with inner(connection):
                yield
            assert journal.changed_by_others()
            journal.renew_numbers()
            row = Row("p", journal.new_numbers(), None, b"{}", b"new")
            assert journal.commit([], [Append(row)]) is None

        monkeypatch.setattr(module, "SLICE", 1)
        monkeypatch.setattr(module, "transaction", looked_at)
        with DeadLetters(path) as letters:
            assert letters.replay() == 3
        waiting = [row.payload for row in journal.read("p", 0, 100)]
        assert waiting == [b"dead", b"new"] * 3
