"""Backups of a store, their return, and the file without free pages."""

from __future__ import annotations

import re
import threading
from collections.abc import Generator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import attrs
import pytest
from click.testing import CliRunner, Result

from trivet._cli import main
from trivet._store._commit import Append
from trivet._store._journal import Journal
from trivet._store._records import Delete


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of a store, which the settings name."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "trivet.toml").write_text('[store]\npath = "store.db"\n')
    return tmp_path / "store.db"


def fill(path: Path, count: int) -> list[int]:
    """Put more events into a store; returns their numbers."""
    with closing(Journal.open(path)) as journal:
        first = journal.new_numbers()
        numbers = [first + at for at in range(count)]
        journal.commit([], [Append(each, b"{}", b"x" * 300, ["a"]) for each in numbers])
        return numbers


def numbers_in(path: Path) -> list[int]:
    """The numbers of the events that wait in a store."""
    with closing(Journal.open(path)) as journal:
        assert (journal.lost, journal.cannot_tell) == (0, False)
        return [row.number for row in journal.read("a", 0, 1_000_000)]


def store(*arguments: str | Path) -> Result:
    """Run the command."""
    return CliRunner().invoke(main, ["store", *map(str, arguments)])


@attrs.define
class Writer:
    """A program that stores event after event, in a thread."""

    path: Path
    acknowledged: list[tuple[int, datetime]] = attrs.field(factory=list[tuple[int, datetime]])
    is_over: bool = False
    has_begun: threading.Event = attrs.field(factory=threading.Event)

    def run(self) -> None:
        """Store events, and let every third one end."""
        with closing(Journal.open(self.path, synchronous="normal")) as journal:
            number = journal.new_numbers()
            while not self.is_over:
                number += 1
                assert journal.commit([], [Append(number, b"{}", b"x" * 2000, ["a"])]) is None
                if number % 3:
                    self.acknowledged.append((number, datetime.now(UTC)))
                else:
                    journal.commit([Delete("a", [number], [0])], [])
                if len(self.acknowledged) > 200:
                    self.has_begun.set()


@contextmanager
def writing(path: Path) -> Generator[Writer]:
    """Store events within this block."""
    writer = Writer(path)
    thread = threading.Thread(target=writer.run)
    thread.start()
    try:
        assert writer.has_begun.wait(30)
        yield writer
    finally:
        writer.is_over = True
        thread.join()


def test_a_backup_under_load(path: Path, tmp_path: Path) -> None:
    """A backup opens, and holds every event that was acknowledged before the moment that it
    names, while the program goes on storing."""
    with writing(path) as writer:
        results = [store("backup", tmp_path / f"backup-{each}") for each in range(3)]
        before = len(writer.acknowledged)
    assert len(writer.acknowledged) >= before > 200
    for each, result in enumerate(results):
        assert result.exit_code == 0, result.output
        said = re.search(
            r"accepted before (\S+Z): (\d+) were ever stored, (\d+) wait", result.output
        )
        assert said is not None
        moment = datetime.fromisoformat(said[1])
        (tmp_path / f"backup-{each}").rename(tmp_path / "opened")
        found = restored(tmp_path / "opened", tmp_path / f"other-{each}")
        assert len(found) == int(said[3])
        earlier = {number for number, at in writer.acknowledged if at < moment}
        assert len(earlier) > 200
        assert earlier <= {*found}


def restored(copy: Path, path: Path) -> list[int]:
    """The numbers in a backup after its restore at a path."""
    Path("trivet.toml").write_text(f'[store]\npath = "{path}"\n')
    result = store("restore", copy)
    assert result.exit_code == 0, result.output
    return numbers_in(path)


def test_a_restore_keeps_what_it_replaces(path: Path, tmp_path: Path) -> None:
    """A backup takes the store's place; the store that was there is whole under the name that is
    said, and can be restored itself."""
    early = fill(path, 10)
    assert store("backup", tmp_path / "copy").exit_code == 0
    late = fill(path, 5)
    result = store("restore", tmp_path / "copy")
    assert result.exit_code == 0, result.output
    kept = Path(result.output.rpartition("the one before is ")[2].strip())
    assert kept.parent == path.parent
    assert numbers_in(path) == early
    assert (tmp_path / "copy").exists()
    assert store("restore", kept).exit_code == 0
    assert numbers_in(path) == [*early, *late]


def test_a_restore_where_there_is_no_store(path: Path, tmp_path: Path) -> None:
    """The first store of a machine may be a backup."""
    numbers = fill(tmp_path / "else", 3)
    result = store("restore", tmp_path / "else")
    assert (result.exit_code, "there was none before" in result.output) == (0, True)
    assert numbers_in(path) == numbers


@pytest.mark.parametrize("command", ["restore", "compact"])
def test_a_program_that_runs_is_left_alone(path: Path, tmp_path: Path, command: str) -> None:
    """A store that a program owns is neither replaced nor compacted."""
    fill(path, 3)
    store("backup", tmp_path / "copy")
    with closing(Journal.open(path)):
        before = sorted(tmp_path.iterdir())
        result = store(command, *([tmp_path / "copy"] if command == "restore" else []))
        assert result.exit_code == 3
        assert "in use" in result.output
        assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("content", [b"", b"no database", None], ids=["empty", "text", "missing"])
def test_a_copy_that_is_none(path: Path, tmp_path: Path, content: bytes | None) -> None:
    """A file that is no whole store is refused, and the store stays as it is."""
    numbers = fill(path, 3)
    if content is not None:
        (tmp_path / "copy").write_bytes(content)
    assert store("restore", tmp_path / "copy").exit_code == 3
    assert numbers_in(path) == numbers


def test_a_damaged_copy(path: Path, tmp_path: Path) -> None:
    """A backup with a damaged page is refused."""
    fill(path, 500)
    assert store("backup", tmp_path / "copy").exit_code == 0
    with (tmp_path / "copy").open("r+b") as file:
        file.seek(20 * 4096)
        file.write(b"\xff" * 4096)
    result = store("restore", tmp_path / "copy")
    assert (result.exit_code, "damaged" in result.output) == (3, True)


def test_a_backup_replaces_nothing(path: Path, tmp_path: Path) -> None:
    """A file that is there already is left alone, and one that cannot be made is a fault."""
    fill(path, 3)
    (tmp_path / "copy").write_text("mine")
    result = store("backup", tmp_path / "copy")
    assert (result.exit_code, (tmp_path / "copy").read_text()) == (3, "mine")
    assert store("backup", tmp_path / "no" / "copy").exit_code == 3
    path.unlink()
    assert store("backup", tmp_path / "other").exit_code == 2
    assert not (tmp_path / "other").exists()


def test_compact(path: Path) -> None:
    """A file with much free room is smaller afterwards, and has what it had."""
    numbers = fill(path, 3000)
    with closing(Journal.open(path)) as journal:
        journal.commit([Delete("a", [number], [0]) for number in numbers[:-1]], [])
    result = store("compact")
    said = re.search(r"(\d+) bytes before, (\d+) bytes now", result.output)
    assert said is not None, result.output
    assert int(said[2]) < int(said[1]) / 2
    assert path.stat().st_size == int(said[2])
    assert numbers_in(path) == numbers[-1:]
