"""A store that has lost acknowledged events says so at the next start, and goes on."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from trivet import DeliverySettings, Event, EventPlugin, Settings, StoreSettings, open_runtime
from trivet._store._commit import Append
from trivet._store._journal import Journal
from trivet._store._records import Delete, JournalUnavailableError

pytestmark = pytest.mark.process

KILLED = """
import os, signal, sys
from pathlib import Path
from trivet._store._journal import Journal
from trivet._store._commit import Append
from trivet._store._records import Delete, Row

journal = Journal.open(Path(sys.argv[1]))
first = journal.new_numbers()
for number in range(first, first + 40):
    assert journal.commit([], [Append(number, b"{}", b"x" * 300, ["p"])]) is None
journal.commit([Delete("p", [number], [0]) for number in range(first, first + 10)], [])
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store with thirty events, whose owner was killed."""
    path = tmp_path / "store.db"
    with closing(Journal.open(path)) as journal:
        first = journal.new_numbers()
        rows = [Append(first + at, b"{}", b"{}", ["p"]) for at in range(7)]
        assert journal.commit([], rows) is None
        journal.commit([Delete("p", [first + at], [0]) for at in range(7)], [])
    killed = subprocess.run([sys.executable, "-c", KILLED, path], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert Path(f"{path}-wal").stat().st_size > 0
    return path


def log_of(path: Path) -> Path:
    """The write-ahead log."""
    return Path(f"{path}-wal")


def middle(path: Path) -> int:
    """The place in the middle of the log."""
    return log_of(path).stat().st_size // 2


def lost(path: Path) -> int:
    """How many events the file says it has lost, twice: it says so once."""
    with closing(Journal.open(path)) as journal:
        told = journal.lost
        there = len(journal.read("p", 0, 100))
        assert not journal.cannot_tell
    with closing(Journal.open(path)) as journal:
        assert journal.lost == 0
    assert told + there >= 30
    return told


def test_a_log_that_is_whole(path: Path) -> None:
    """A kill loses no event."""
    assert lost(path) == 0


def test_a_log_that_was_removed(path: Path) -> None:
    """The events since the last checkpoint are counted as lost with a removed log."""
    log_of(path).unlink()
    assert 1 <= lost(path) <= 40


def test_a_log_that_was_cut(path: Path) -> None:
    """The events behind the cut of a log are counted as lost."""
    os.truncate(log_of(path), middle(path))
    assert 1 <= lost(path) < 40


def test_a_log_with_a_damaged_page(path: Path) -> None:
    """The events from a damaged page of the log on are counted as lost."""
    with log_of(path).open("r+b") as log:
        log.seek(middle(path))
        log.write(b"\xff" * 100)
    assert 1 <= lost(path) < 40


def test_a_file_that_was_removed(path: Path) -> None:
    """All events of a removed file are counted as lost."""
    path.unlink()
    log_of(path).unlink()
    with closing(Journal.open(path)) as journal:
        assert journal.lost == 47


def test_an_older_file_in_its_place(path: Path, tmp_path: Path) -> None:
    """The events that came after a backup are counted as lost, once."""
    Journal.open(path).close()
    shutil.copy(path, tmp_path / "backup")
    with closing(Journal.open(path)) as journal:
        assert journal.commit([], [Append(journal.new_numbers(), b"{}", b"{}", ["p"])]) is None
    shutil.copy(tmp_path / "backup", path)
    assert lost(path) == 1


def test_a_register_that_is_gone(path: Path) -> None:
    """A journal without its register says that it cannot tell what was lost; a new one has lost
    nothing."""
    Path(f"{path}.inhand").unlink()
    with closing(Journal.open(path)) as journal:
        assert (journal.lost, journal.cannot_tell) == (0, True)
    with closing(Journal.open(path.with_name("new.db"))) as journal:
        assert (journal.lost, journal.cannot_tell) == (0, False)


def test_an_undone_transaction_is_not_counted(path: Path) -> None:
    """The events of a transaction that failed are not counted as lost."""
    with closing(Journal.open(path)) as journal:
        number = journal.read("p", 0, 1)[0].number
        assert journal.commit([], [Append(number, b"{}", b"{}", ["p"])]) is not None
    assert lost(path) == 0


def test_a_log_that_is_removed_while_it_is_written(path: Path) -> None:
    """The owner refuses to go on, and what it has said is stored is in the file."""
    journal = Journal.open(path)
    first = journal.new_numbers()
    assert journal.commit([], [Append(first, b"{}", b"{}", ["p"])]) is None
    log_of(path).unlink()
    refused = journal.commit([], [Append(first + 1, b"{}", b"{}", ["p"])])
    assert isinstance(refused, JournalUnavailableError)
    assert "log" in refused.reason
    with pytest.raises(JournalUnavailableError):
        journal.commit([Delete("p", [first], [0])], [])
    journal.close()
    with closing(Journal.open(path)) as again:
        assert again.lost == 0
        assert again.read("p", 0, 100)[-1].number == first


async def test_a_program_logs_lost_events(path: Path) -> None:
    """A program whose log was lost runs, and logs the number of lost events."""

    class Ping(Event):
        number: int = 0

    class Keeper(EventPlugin[Ping]):
        delivery = DeliverySettings(durable=True)

        async def handle_event(self, event: Ping) -> None:
            """Do nothing."""

    log_of(path).unlink()
    with capture_logs() as logs:
        settings = Settings(store=StoreSettings(path=path))
        async with open_runtime(settings, plugins=[Keeper]) as runtime:
            assert (await runtime.publish(Ping(), wait=True)).worst is not None
    (told,) = [line for line in logs if line["event"].startswith("the store has lost")]
    assert told["log_level"] == "error"
    assert 1 <= told["at_most"] <= 40
