"""`trivet store check`: the whole check of a file."""

from __future__ import annotations

import sqlite3
import tarfile
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from trivet._cli import main
from trivet._store._commit import Append
from trivet._store._journal import Journal


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store with events for two plugins, which the settings name."""
    path = tmp_path / "store.db"
    with closing(Journal.open(path)) as journal:
        first = journal.new_numbers()
        journal.commit([], [Append(first + at, b"{}", b"x" * 300, ["a", "b"]) for at in range(100)])
    monkeypatch.chdir(tmp_path)
    Path("trivet.toml").write_text('[store]\npath = "store.db"\n')
    return path


def checked() -> tuple[int, list[str]]:
    """The exit code and the lines of the check."""
    result = CliRunner().invoke(main, ["store", "check"])
    return result.exit_code, result.output.splitlines()


def test_a_sound_file(path: Path) -> None:
    """A sound file is said to be so, and stays as it is."""
    before = path.read_bytes()
    code, (line,) = checked()
    assert code == 0
    assert line.endswith("store.db: nothing is wrong")
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE subscriber SET waiting = 7 WHERE name = 'b'", "100 events of 30200 bytes wait"),
        ("UPDATE event SET audience = 99 WHERE number % 2", "50 events are for no plugin"),
        ("INSERT INTO exception VALUES (1, 1, 1, NULL, NULL, 0)", "1 exceptions are of no event"),
        ("UPDATE event SET payload = 'text' WHERE number & 127 = 3", "cannot be read"),
    ],
)
def test_rows_that_do_not_fit_together(path: Path, statement: str, said: str) -> None:
    """A row that does not fit to the others is named."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(statement)
    code, lines = checked()
    assert code == 1
    assert any(said in line for line in lines), lines


def test_a_damaged_page(path: Path) -> None:
    """A page that cannot be read is named."""
    with path.open("r+b") as file:
        file.seek(path.read_bytes().index(b"x" * 300) & ~0xFFF)
        file.write(b"\xff" * 4096)
    code, lines = checked()
    assert code == 1
    assert lines


def test_a_file_of_an_earlier_version(path: Path) -> None:
    """The pages of a file of version 1 are checked as well: a start that cannot read one says that
    this command tells where it is."""
    with tarfile.open(Path(__file__).with_name("stored_by_1.tar.xz")) as archive:
        archive.extractall(path.parent, filter="data")
    with closing(sqlite3.connect(path.with_name("store.sqlite3"))) as old:
        old.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    path.with_name("store.sqlite3").replace(path)
    assert checked()[0] == 0
    with path.open("r+b") as file:
        file.seek(path.read_bytes().index(b'{"number":20}') & ~0xFFF)
        file.write(b"\xff" * 4096)
    code, lines = checked()
    assert code == 1
    assert lines


def test_a_file_in_use(path: Path) -> None:
    """A file that a program owns is not checked: a long reader would let its log grow."""
    with closing(Journal.open(path)):
        code, (line,) = checked()
    assert code == 3
    assert "in use" in line


def test_no_file(path: Path) -> None:
    """A file that is not there is a mistake in the settings."""
    path.unlink()
    code, (line,) = checked()
    assert code == 2
    assert "no such file" in line
