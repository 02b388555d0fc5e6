"""One damaged row costs that row: it is a dead letter, or set aside, and the program goes on."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest
import trio
from click.testing import CliRunner
from structlog.testing import capture_logs

from trivet import (
    Delivery,
    DeliverySettings,
    Event,
    EventPlugin,
    Fate,
    Runtime,
    Settings,
    ShutdownSettings,
    StallSettings,
    StoreSettings,
    open_runtime,
)
from trivet._cli import main
from trivet._store import _journal, _room, _store
from trivet._store._dead_letters import Criteria, DeadLetters
from trivet._store._journal import Journal
from trivet._store._records import JournalUnavailableError


class Order(Event):
    number: int

    def __attrs_post_init__(self) -> None:
        if CHECKS:
            raise CHECKS[0]


CHECKS: list[BaseException] = []


class Billing(EventPlugin[Order]):
    """Keeps orders on disk; `gate` says whether it handles them."""

    delivery = DeliverySettings(durable=True, time_limit=0)
    gate = trio.Event()

    async def initialize(self) -> None:
        self.got: list[int] = []

    async def handle_event(self, event: Order) -> None:
        await self.gate.wait()
        self.got.append(event.number)


@asynccontextmanager
async def program(path: Path, *, opens: bool = True) -> AsyncGenerator[Runtime]:
    """A program on this store, in which orders are handled, or only kept."""
    Billing.gate = trio.Event()
    if opens:
        Billing.gate.set()
    settings = Settings(
        store=StoreSettings(path=path),
        stalls=StallSettings(enabled=False),
        shutdown=ShutdownSettings(drain=5.0 if opens else 0.01),
    )
    async with open_runtime(settings, plugins=[Billing]) as runtime:
        yield runtime


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    """A store with the orders 0, 1 and 2."""
    path = tmp_path / "store.sqlite3"
    async with program(path, opens=False) as runtime:
        orders = [Delivery.of(Order(number), id=f"o-{number}") for number in range(3)]
        await runtime.publish_many(orders)
    return path


def damage(path: Path, *statements: str) -> None:
    """Do what a bad disk or a careless hand does; no constraint is in its way."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        for table in ("event", "exception", "subscriber", "dead_letter", "seen", "counter"):
            query = "SELECT sql FROM sqlite_schema WHERE name = ?"
            (text,) = connection.execute(query, (table,)).fetchone()
            loose = "UPDATE sqlite_schema SET sql = ? WHERE name = ?"
            connection.execute(loose, (text.replace(" NOT NULL", ""), table))
        connection.execute("PRAGMA writable_schema = RESET")
        for statement in statements:
            connection.execute(statement)


SECOND = "WHERE number = (SELECT number FROM event ORDER BY number LIMIT 1 OFFSET 1)"
TRIED = "INSERT INTO exception SELECT number, 1, 0, NULL, NULL, 0 FROM event"


async def the_others_go_on(path: Path) -> list[str]:
    """The reasons of the dead letters, when the others were handled and the program ran again."""
    async with program(path) as runtime:
        plugin = runtime.get(Billing)
        while len(plugin.got) < 2:
            await trio.sleep(0.01)
        assert plugin.got == [0, 2]
        assert (await runtime.publish(Order(3), wait=True)).worst is Fate.HANDLED
        assert runtime.hosts["billing"].restarts == 0
    async with program(path) as runtime:
        assert runtime.statistics()["billing"].accepted == 0
    with DeadLetters(path) as letters:
        return [letter.reason for letter in letters.list()]


@pytest.mark.parametrize(
    "change",
    [
        "envelope = x'00ff'",
        "envelope = '[]'",
        "envelope = x'5b5d'",
        "envelope = NULL",
        "envelope = 7",
        "envelope = CAST(x'ff' AS TEXT)",
        "payload = x'ff'",
        "payload = NULL",
        "payload = 'text'",
        "payload = x'7b226e756d626572223a226f6e65227d'",
        """payload = CAST('{"number":9}' AS BLOB)""",
        "history = x'00'",
        "history = 'text'",
        """history = CAST('{"failures":[],"attempts":"x"}' AS BLOB)""",
        "history = 1.5",
        "retry_at = 'soon'",
        "retry_at = x'00'",
        "crashes = 'many'",
        "crashes = NULL",
        "envelope = NULL, payload = NULL",
        "history = 'x', retry_at = 'x', crashes = x'00'",
        "payload = CAST(replace(hex(zeroblob(3000)), '00', '[') AS BLOB)",
    ],
)
async def test_a_damaged_event_is_a_dead_letter(path: Path, change: str) -> None:
    """A damaged row is a dead letter; the events before and behind it are handled, in order."""
    table = "event" if change.startswith(("envelope", "payload")) else "exception"
    damage(path, TRIED, f"UPDATE {table} SET {change} {SECOND}")
    (reason,) = await the_others_go_on(path)
    assert reason


async def test_a_payload_that_was_changed_is_named(path: Path) -> None:
    """The checksum tells where another value would fit as well; a replay does not hand it on."""
    damage(path, f"""UPDATE event SET payload = CAST('{{"number":9}}' AS BLOB) {SECOND}""")
    assert "checksum" in (await the_others_go_on(path))[0]
    with DeadLetters(path) as letters:
        (letter,) = letters.list()
        assert (letter.event, letter.id) == ("order", "o-1")
        letters.replay(Criteria())
    async with program(path) as runtime:
        while not runtime.statistics()["billing"].dead_lettered:
            await trio.sleep(0.01)
        assert runtime.get(Billing).got == []


@pytest.mark.parametrize(
    "error",
    [
        AssertionError("no"),
        KeyError("no"),
        ZeroDivisionError(),
        SystemExit(3),
        Exception("a\ud800b"),
        BaseExceptionGroup("", [SystemExit()]),
    ],
)
async def test_an_event_that_the_next_release_refuses_is_a_dead_letter(
    path: Path, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events that their type's own check refuses after an upgrade are dead letters, and the program
    runs."""
    monkeypatch.setitem(globals(), "CHECKS", [error])
    async with program(path) as runtime:
        while runtime.statistics()["billing"].dead_lettered < 3:
            await trio.sleep(0.01)
        CHECKS.clear()
        assert (await runtime.publish(Order(3), wait=True)).worst is Fate.HANDLED
    with DeadLetters(path) as letters:
        assert letters.count() == 3


async def test_events_of_no_plugin_are_told(path: Path) -> None:
    """Events of no plugin stay in the file, where somebody may mend it."""
    damage(path, f"UPDATE event SET audience = 'nobody' {SECOND}")
    with capture_logs() as logs:
        assert await the_others_go_on(path) == []
    told = [line["count"] for line in logs if line["event"] == "the store has events of no plugin"]
    assert told == [1, 1]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE seen SET until = 'never' WHERE id = 'o-1'",
        "UPDATE seen SET until = NULL",
        "UPDATE seen SET source = x'00', id = x'00' WHERE id = 'o-1'",
        "UPDATE seen SET id = CAST(x'ff' AS TEXT) WHERE id = 'o-1'",
        "UPDATE counter SET value = 'text'",
        "UPDATE counter SET value = 1 << 60",
        "UPDATE counter SET value = NULL",
        "UPDATE counter SET value = 0",
        "DELETE FROM counter",
        "UPDATE subscriber SET cursor = 'text'",
        "UPDATE subscriber SET cursor = 1 << 60",
        "UPDATE subscriber SET waiting = NULL, bytes = 'text'",
        "UPDATE subscriber SET waiting = 0, bytes = 0",
        "UPDATE subscriber SET waiting = 17",
        "UPDATE subscriber SET waiting = 1",
        "UPDATE subscriber SET bytes = -17",
        "DELETE FROM audience",
        "INSERT INTO audience VALUES (99, 99)",
    ],
)
async def test_records_beside_the_events_may_be_damaged(path: Path, statement: str) -> None:
    """Damaged records beside the events cost no event, and no number is used twice."""
    damage(path, statement)
    async with program(path) as runtime:
        plugin = runtime.get(Billing)
        while len(plugin.got) < 3:
            await trio.sleep(0.01)
        assert (await runtime.publish(Order(3), wait=True)).worst is Fate.HANDLED
        assert plugin.got == [0, 1, 2, 3]


# Dead letters


@pytest.fixture
async def letters(path: Path) -> Path:
    """A store with three dead letters."""
    damage(path, TRIED, "UPDATE exception SET crashes = 99")
    async with program(path) as runtime:
        while runtime.statistics()["billing"].dead_lettered < 3:
            await trio.sleep(0.01)
    return path


@pytest.mark.parametrize(
    "change",
    [
        "history = x'00'",
        "history = NULL",
        "history = 'text'",
        "envelope = x'00'",
        "envelope = NULL",
        "payload = x'ff'",
        "payload = 5",
        "event = NULL",
        "event = x'ff'",
        "id = CAST(x'ff' AS TEXT)",
        "id = NULL, source = NULL",
        "died_at = 'then'",
        "died_at = 1e300",
        "died_at = -1e300",
        "died_at = NULL",
        "reason = NULL",
        "reason = x'ff'",
        "size = 'text'",
        "size = NULL",
        "plugin = 'nobody'",
        "plugin = 99",
    ],
)
async def test_damaged_dead_letters_are_shown_and_replayed(
    letters: Path, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`list`, `show` and `replay` go on, the store tidies up, and the sound ones are handled."""
    damage(letters, f"UPDATE dead_letter SET {change} WHERE number = 2")
    monkeypatch.chdir(letters.parent)
    (letters.parent / "trivet.toml").write_text(f'[store]\npath = "{letters}"\n')

    def trivet(*words: str) -> str:
        result = CliRunner().invoke(main, ["dead-letters", *words])
        assert result.exit_code == 0, (result.output, result.exception)
        return result.output

    assert len(trivet("list").splitlines()) == 4
    assert len(trivet("list", "--json").splitlines()) == 3
    for number in ("1", "2", "3"):
        assert trivet("show", number)
    trivet("replay", "--all")
    async with program(letters) as runtime:
        plugin = runtime.get(Billing)
        while not {0, 2} <= {*plugin.got}:
            await trio.sleep(0.01)
        assert runtime.hosts["billing"].restarts == 0
        assert runtime.store is not None
        assert runtime.store.trouble is None
    trivet("purge", "--since", "3650000d")


# Pages


async def test_a_page_that_cannot_be_read_costs_its_events(tmp_path: Path) -> None:
    """Each event on a damaged page is a dead letter, all others are handled in order, also those
    that come, and the room behind the page is used again."""
    path = tmp_path / "store.sqlite3"
    async with program(path, opens=False) as runtime:
        await runtime.publish_many([Delivery.of(Order(number)) for number in range(300)])
    raw = path.read_bytes()
    page = raw.index(b'{"number":150}') & ~0xFFF
    lost = [at for at in range(300) if b'{"number":%d}' % at in raw[page : page + 4096]]
    with path.open("r+b") as file:
        file.seek(page)
        file.write(b"\xff" * 4096)
    async with program(path) as runtime:
        plugin = runtime.get(Billing)
        while len(plugin.got) < 300 - len(lost):
            await trio.sleep(0.01)
        assert plugin.got == [at for at in range(300) if at not in lost]
        await runtime.publish_many([Delivery.of(Order(300 + number)) for number in range(50)])
        assert (await runtime.publish(Order(350), wait=True)).worst is Fate.HANDLED
        assert runtime.statistics()["billing"].dead_lettered == len(lost)
        assert runtime.store is not None
        assert runtime.store.trouble is None
    with DeadLetters(path) as letters:
        assert {letter.reason for letter in letters.list()} == {
            "damaged in the store: its page cannot be read"
        }
    async with program(path) as runtime:
        assert runtime.statistics()["billing"].accepted == 0
        assert (await runtime.publish(Order(351), wait=True)).worst is Fate.HANDLED
    with closing(sqlite3.connect(path)) as connection:
        numbers = "SELECT count(*) FROM event INDEXED BY event_by_audience WHERE audience >= 0"
        assert connection.execute(numbers).fetchone()[0] < 150


async def test_a_page_in_the_place_of_another_costs_the_events_of_that(tmp_path: Path) -> None:
    """Each event whose page was written over by another page is a dead letter, and all others are
    handled in order."""
    path = tmp_path / "store.sqlite3"
    async with program(path, opens=False) as runtime:
        await runtime.publish_many([Delivery.of(Order(number)) for number in range(300)])
    raw = path.read_bytes()
    page, other = (raw.index(b'{"number":%d}' % at) & ~0xFFF for at in (150, 220))
    lost = [at for at in range(300) if b'{"number":%d}' % at in raw[page : page + 4096]]
    with path.open("r+b") as file:
        file.seek(page)
        file.write(raw[other : other + 4096])
    with capture_logs() as logs:
        async with program(path) as runtime:
            plugin = runtime.get(Billing)
            while runtime.statistics()["billing"].dead_lettered < len(lost):
                await trio.sleep(0.01)
            assert (await runtime.publish(Order(300), wait=True)).worst is Fate.HANDLED
            assert plugin.got == [at for at in range(301) if at not in lost]
    assert not [line for line in logs if "vanished" in line["event"]]
    with DeadLetters(path) as letters:
        assert {letter.reason for letter in letters.list()} == {
            "damaged in the store: its page cannot be read"
        }


async def test_a_page_that_only_tidying_reads(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Damage that keeps the file from getting smaller is said once in the log, events come and go,
    and the other parts of tidying are done."""
    monkeypatch.setattr(_store, "PAUSE", 0.01)
    monkeypatch.setattr(_store, "TIDY_EVERY", 0.0)
    tidied: list[float] = []

    def note(*_: object) -> None:
        tidied.append(0.0)

    def meet_damage(*_: object) -> None:
        error = sqlite3.DatabaseError("malformed")
        error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise error

    monkeypatch.setattr(_journal, "shorten_log", note)
    monkeypatch.setattr(_room, "vacuum", meet_damage)
    with capture_logs() as logs:
        async with program(path) as runtime:
            assert (await runtime.publish(Order(3), wait=True)).worst is Fate.HANDLED
            while not any(line["event"] == "the store cannot be kept small" for line in logs):
                await trio.sleep(0.01)
            tidied.clear()
            while len(tidied) < 3:
                await trio.sleep(0.01)
            assert runtime.store is not None
            assert runtime.store.trouble is None
            assert (await runtime.publish(Order(4), wait=True)).worst is Fate.HANDLED
    said = [line["event"] for line in logs]
    assert said.count("the store cannot be kept small") == 1
    assert "the store fails" not in said


def test_a_file_whose_tables_cannot_be_read_is_left_as_it_is(tmp_path: Path) -> None:
    """A file whose first pages are damaged is refused, with the command that says more."""
    path = tmp_path / "store.sqlite3"
    Journal.open(path).close()
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (path.stat().st_size - 4096))
    before = path.read_bytes()
    with pytest.raises(JournalUnavailableError, match="trivet store check"):
        Journal.open(path)
    assert path.read_bytes() == before
