"""Dead letters, by the command line: on a stopped program's store, and while the program runs."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from sqlite3 import Connection
from textwrap import dedent

import attrs
import httpx
import pytest
import trio
from click.testing import CliRunner, Result
from trio.testing import MockClock

from trivet import Delivery, Event, PermanentError, StoreSettings, _cli
from trivet._delivery._beyond import WINDOW
from trivet._delivery._bounded import BoundedInbox
from trivet._delivery._on_disk import OnDisk
from trivet._events._delivery_settings import DeliveryPolicy
from trivet._events._history import FIRST
from trivet._events._types import EventTypes
from trivet._store import _dead_letters as module
from trivet._store._dead_letters import DeadLetters
from trivet._store._journal import Journal
from trivet._store._packing import pack, pack_history, unpack_history
from trivet._store._records import Backlog, Bury, DeadLetterFacts, Row, Update
from trivet._store._schema import connect, transaction
from trivet._store._store import Store

from ..store.rows import appended

TRIVET = str(Path(sys.executable).parent / "trivet")
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
"""The time of the first dead letter's death; the others followed an hour after each other."""


class Ping(Event):
    number: int


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of the store in the settings of the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "trivet.toml").write_text('[store]\npath = "state/events"')
    return tmp_path / "state/events"


def trivet(*arguments: str | int, charset: str = "utf-8") -> Result:
    """Run `trivet dead-letters`."""
    words = ["dead-letters", *map(str, arguments)]
    return CliRunner(charset=charset).invoke(_cli.main, words, env={"TRIVET_CONFIG": None})


def bury(
    path: Path,
    *ids: str,
    plugin: str = "billing",
    reason: str = "OSError: no answer",
    payload: bytes | None = None,
) -> None:
    """Have events among the dead letters, each an hour after the one before it."""
    with closing(Journal.open(path)) as journal, journal.dead_letters() as letters:
        buried = letters.count()
        for number, event_id in enumerate(ids, start=journal.new_numbers()):
            died_at = NOON.timestamp() + 3600 * buried
            buried += 1
            packed = pack(Delivery.of(Ping(7), id=event_id, source="shop", time=NOON, key="k"))
            row = Row(plugin, number, packed.envelope, payload or packed.payload)
            history = FIRST.failed("ValueError: no", at=died_at - 5, took=1)
            history = history.failed(reason, at=died_at, took=1).crashed()
            facts = DeadLetterFacts(
                "ping", event_id, "shop", died_at, reason, pack_history(history)
            )
            assert journal.commit([], [appended(row)]) is None
            journal.commit([Bury(plugin, number, facts)], [])


def listed(*arguments: str) -> list[int]:
    """The numbers of what is listed."""
    result = trivet("list", "--json", *arguments)
    assert result.exit_code == 0, result.output
    return [json.loads(line)["number"] for line in result.stdout.splitlines()]


def waiting(path: Path) -> dict[str, list[str]]:
    """The ids of the events that wait in a store, by plugin."""
    with closing(Journal.open(path)) as journal:
        return {
            plugin: [json.loads(row.envelope)[1] for row in journal.read(plugin, 0, 100)]
            for plugin in journal.counts()
        }


# To look at


def test_list_is_a_table_with_the_newest_last(store: Path) -> None:
    """A row has the number, the time of death, the plugin, the event's name and id, the count of
    attempts and the reason, and nothing of the payload."""
    bury(store, "o-1", reason="OSError: no answer")
    bury(store, "order-2", plugin="audit", reason="ValueError: odd")
    result = trivet("list")
    assert result.exit_code == 0
    assert result.stdout == dedent("""\
        NUMBER  DIED AT               PLUGIN   EVENT  ID       ATTEMPTS  REASON
        1       2026-03-01T12:00:00Z  billing  ping   o-1      3         OSError: no answer
        2       2026-03-01T13:00:00Z  audit    ping   order-2  3         ValueError: odd
    """)


def test_list_says_that_there_are_none(store: Path) -> None:
    """`list` says that there are no dead letters; `list --json` prints nothing."""
    bury(store)
    assert trivet("list").stdout == "no dead letters\n"
    assert trivet("list", "--json").output == ""


def test_list_as_json_has_a_document_a_line(store: Path) -> None:
    """`list --json` prints a document for each dead letter, with its source and exact time."""
    bury(store, "o-1", "o-2")
    first, second = map(json.loads, trivet("list", "--json").stdout.splitlines())
    assert first == {
        "number": 1,
        "plugin": "billing",
        "event": "ping",
        "id": "o-1",
        "source": "shop",
        "died_at": "2026-03-01T12:00:00Z",
        "attempts": 3,
        "reason": "OSError: no answer",
    }
    assert (second["number"], second["id"]) == (2, "o-2")


def test_list_is_limited_and_says_how_many_more_there_are(store: Path) -> None:
    """`list` shows the newest, and then how many older ones there are, as JSON on standard
    error."""
    bury(store, *map(str, range(103)))
    *lines, last = trivet("list").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["NUMBER", *map(str, range(4, 104))]
    assert last == "and 3 older; --limit 103 lists all"
    assert trivet("list", "--limit", "103").stdout.splitlines()[-1].startswith("103 ")
    result = trivet("list", "--json", "--limit", "2")
    assert [json.loads(line)["number"] for line in result.stdout.splitlines()] == [102, 103]
    assert result.stderr == "and 101 older; --limit 103 lists all\n"


def test_list_takes_the_selections_of_replay(store: Path) -> None:
    """`list` takes the selections of `replay`, and does not count the letters outside of them."""
    bury(store, "1", "2")
    bury(store, "3", "4", plugin="audit")
    assert listed("--plugin", "audit") == [3, 4]
    assert listed("--since", "2026-03-01T13:00Z") == [2, 3, 4]
    assert listed("--since", "2026-03-01T13:00Z", "--plugin", "billing") == [2]
    assert "older" not in trivet("list", "--plugin", "audit").output


def test_show_tells_all_about_one(store: Path) -> None:
    """`show` prints the envelope, the payload as it was stored, and each failed attempt."""
    bury(store, "o-1", payload=b'{"number": 7, "exact": 1.10}')
    result = trivet("show", 1)
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {
        **json.loads(trivet("list", "--json").stdout),
        "crashes": 1,
        "failures": [
            {"at": "2026-03-01T11:59:55Z", "error": "ValueError: no"},
            {"at": "2026-03-01T12:00:00Z", "error": "OSError: no answer"},
        ],
        "envelope": {
            "type": "ping",
            "id": "o-1",
            "source": "shop",
            "time": "2026-03-01T12:00:00Z",
            "key": "k",
            "expires_at": None,
            "request_id": None,
            "traceparent": None,
        },
        "payload": {"number": 7, "exact": 1.1},
    }
    assert '"exact": 1.10' in result.stdout


@pytest.mark.parametrize("payload", [b'{"numb', b'"\xff"'])
def test_show_has_a_payload_that_is_damaged_as_text(store: Path, payload: bytes) -> None:
    """A damaged payload is shown as text: it may be the reason for the event's death."""
    bury(store, "o-1", payload=payload)
    shown = json.loads(trivet("show", 1).stdout)
    assert shown["payload"] == payload.decode(errors="backslashreplace")


# To replay and to purge


def test_replay_puts_back_an_event_for_its_plugin(store: Path) -> None:
    """A replayed event waits for the plugin that failed and no other, in order, and is no dead
    letter."""
    bury(store, "1", "2", "3")
    bury(store, "4", plugin="audit")
    result = trivet("replay", 3, 1)
    assert (result.exit_code, result.output) == (0, "2 dead letters put back into the queues\n")
    assert waiting(store) == {"billing": ["1", "3"]}
    assert listed() == [2, 4]


def test_purge_throws_away(store: Path) -> None:
    """A purge asks for no confirmation, and prints the number."""
    bury(store, "1", "2")
    result = trivet("purge", 2)
    assert (result.exit_code, result.output) == (0, "1 dead letter thrown away\n")
    assert listed() == [1]
    assert waiting(store) == {}


@pytest.mark.parametrize(
    ("selection", "left"),
    [
        (["--all"], []),
        (["--plugin", "audit"], [1, 2]),
        (["--since", "2026-03-01T14:00:00Z"], [1, 2]),
        (["--plugin", "billing", "--since", "2026-03-01T13:00:00Z"], [1, 3]),
        (["--plugin", "unknown"], [1, 2, 3]),
    ],
)
@pytest.mark.parametrize("command", ["replay", "purge"])
def test_selections(store: Path, command: str, selection: list[str], left: list[int]) -> None:
    """`replay` and `purge` select all letters, those of a plugin, those since a moment, or both."""
    bury(store, "1", "2")
    bury(store, "3", plugin="audit")
    result = trivet(command, *selection)
    assert result.exit_code == 0
    assert result.stdout.startswith(f"{3 - len(left)} dead letter")
    assert listed() == left


@pytest.mark.parametrize(
    "selection", [[], ["1", "--all"], ["1", "--plugin", "billing"], ["--all", "--since", "1d"]]
)
@pytest.mark.parametrize("command", ["replay", "purge"])
def test_without_one_clear_selection_nothing_is_done(
    store: Path, command: str, selection: list[str]
) -> None:
    """A wrong selection is refused, with the possible ones."""
    bury(store, "1", "2")
    result = trivet(command, *selection)
    assert (result.exit_code, result.stdout) == (2, "")
    assert (
        "their NUMBERs, or --plugin, --event, --since, --until or --text, or --all" in result.stderr
    )
    assert listed() == [1, 2]


@pytest.mark.parametrize("command", ["replay", "purge"])
def test_a_reason_that_nobody_would_be_told(store: Path, command: str) -> None:
    """A reason is for a running program: on the file it is wrong usage, and nothing is done."""
    bury(store, "1")
    result = trivet(command, 1, "--reason", "the disk is back")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--reason is for a running program" in result.stderr
    assert "--url" in result.stderr
    assert listed() == [1]


@pytest.mark.parametrize("command", ["show", "replay", "purge"])
def test_a_number_that_is_none(store: Path, command: str) -> None:
    """An unknown number is named, a replayed one too, and the other numbers are left alone."""
    bury(store, "1", "2")
    trivet("replay", 1)
    numbers = [1] if command == "show" else [2, 1]
    result = trivet(command, *numbers)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "there is no dead letter 1" in result.stderr
    assert listed() == [2]
    assert trivet(command, "o-1").exit_code == 2  # That would be an event's id.
    assert trivet(command, 2**63).exit_code == 2


@pytest.mark.parametrize(
    ("since", "number"),
    [
        ("2026-03-01T13:00:00Z", 2),
        ("2026-03-01T14:00:00+01:00", 2),
        ("2026-03-01 08:00:01", 3),  # Five hours before Greenwich.
        ("2026-03-01", 1),
        ("2026-03-02", None),
        ("120m", 3),
        ("10799s", 3),
        ("3h", 2),
        ("1d", 1),
    ],
)
def test_since(
    store: Path, monkeypatch: pytest.MonkeyPatch, since: str, number: int | None
) -> None:
    """A date or a time, which without a zone is the local one, or how long ago."""
    bury(store, "1", "2", "3")
    monkeypatch.setenv("TZ", "EST5")
    time.tzset()
    # Three hours after the second, two after the third.
    monkeypatch.setattr(time, "time", lambda: NOON.timestamp() + 4 * 3600)
    try:
        numbers = listed("--since", since)
    finally:
        monkeypatch.undo()
        time.tzset()
    assert numbers == ([] if number is None else list(range(number, 4)))


@pytest.mark.parametrize("since", ["", "yesterday", "2 h", "-1h", "1w", "2026-13-01", "0001-01-01"])
def test_since_what(store: Path, monkeypatch: pytest.MonkeyPatch, since: str) -> None:
    """A text that is no moment is refused, with examples."""
    bury(store, "1")
    monkeypatch.setenv("TZ", "UTC-5")  # Where the year 1 began in no year at all.
    time.tzset()
    try:
        result = trivet("purge", f"--since={since}")
    finally:
        monkeypatch.undo()
        time.tzset()
    assert result.exit_code == 2
    assert f"{since!r} is not a date or time such as" in result.stderr


# The terminal


def test_a_terminal_is_not_commanded(store: Path) -> None:
    """Control characters from a client or an exception are written out: line feeds, escape
    sequences of either kind, marks that turn the direction of the text."""
    hostile = "a\nb\x1b[2J\x9b2J\x7f\u202ec\U000e0001"
    bury(store, hostile, reason=hostile, payload=json.dumps(hostile).encode())
    table, lines, shown = trivet("list"), trivet("list", "--json"), trivet("show", 1)
    for result in (table, lines, shown):
        assert result.exit_code == 0
        assert "".join(result.stdout.split("\n")).isprintable()
    assert len(table.stdout.splitlines()) == 2
    assert table.stdout.count(r"a\nb\x1b[2J\x9b2J\x7f\u202ec\U000e0001") == 2
    assert json.loads(lines.stdout)["id"] == json.loads(lines.stdout)["reason"] == hostile
    document = json.loads(shown.stdout)
    assert document["payload"] == document["envelope"]["id"] == hostile


def test_a_terminal_with_few_letters(store: Path) -> None:
    """A letter that the terminal lacks is its number in the table; JSON is in UTF-8."""
    bury(store, "grün")
    assert "gr\\xfcn" in trivet("list", charset="ascii").stdout
    assert json.loads(trivet("list", "--json", charset="ascii").stdout_bytes)["id"] == "grün"


@pytest.mark.process
def test_lines_are_cut_to_the_terminals_width(store: Path) -> None:
    """A dead letter is one line in a terminal, with room for the reason, and is not cut
    elsewhere."""
    bury(store, "8f6e2a1c-1111-2222-3333-444455556666", reason="OSError: " + "far " * 100)
    assert trivet("list").stdout.splitlines()[1].endswith("far far far far")
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    environ = {name: os.environ[name] for name in os.environ if name != "COLUMNS"}
    command = [TRIVET, "dead-letters", "list"]
    subprocess.run(command, stdout=slave, env=environ, check=True, timeout=30)
    os.close(slave)
    head, line = os.read(master, 10_000).decode().splitlines()
    os.close(master)
    assert head.startswith("NUMBER  DIED AT ")
    assert len(line) == 100
    assert "  8f6e2a1c-1111-2222-3333…  3         OSError: far " in line
    assert line.endswith("…")


# What is no store


def test_no_store(store: Path) -> None:
    """A missing store is an error that names the file, and the setting for it."""
    for command in ("list", "show", "replay", "purge"):
        arguments = {"list": [], "show": [1]}.get(command, ["--all"])
        result = trivet(command, *arguments)
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr.startswith(
            "trivet: state/events: there is no such file; `[store] path`"
        )
    assert not store.exists()


def test_a_store_in_memory(store: Path) -> None:
    """A store in memory is an error: only its own program can read it."""
    Path("trivet.toml").write_text('[store]\npath = ":memory:"')
    result = trivet("list")
    assert result.exit_code == 2
    assert "`[store] path` is :memory:" in result.stderr


def test_a_file_of_something_else(store: Path) -> None:
    """A file that is no store is left alone, and named in the message."""
    store.parent.mkdir()
    store.write_text("shopping list: tea " * 100)
    result = trivet("purge", "--all")
    assert result.exit_code == 3
    assert result.stderr.startswith("trivet: state/events: it is not a SQLite database")
    assert store.read_text() == "shopping list: tea " * 100


def test_the_settings_are_those_of_serve(store: Path, tmp_path: Path) -> None:
    """`--config` names the file, from whose directory the path goes on."""
    bury(tmp_path / "elsewhere/trivet.sqlite3", "1")
    (tmp_path / "elsewhere/trivet.toml").write_text("")
    for command in (["list"], ["show", "1"], ["replay", "1"], ["purge", "--all"]):
        result = trivet(*command, "--config", "elsewhere/trivet.toml")
        assert result.exit_code == 0, result.output
    assert trivet("list", "--config", "gone.toml").exit_code == 2


@pytest.mark.process
def test_serve_does_not_load_sqlite_for_dead_letters() -> None:
    """The command line imports SQLite only when dead letters are asked for."""
    script = "import sys, trivet._cli; sys.exit('trivet._store._schema' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=30)


# With the program itself

PLUGINS = """
    from pathlib import Path

    from trivet import DeliverySettings, Event, EventPlugin, PermanentError


    class Ping(Event):
        number: int


    class Fragile(EventPlugin[Ping]):
        delivery = DeliverySettings(durable=True)

        async def handle_event(self, event: Ping) -> None:
            if not Path("mended").exists():
                raise PermanentError("it is broken")


    class Steady(EventPlugin[Ping]):
        delivery = DeliverySettings(durable=True)

        async def handle_event(self, event: Ping) -> None:
            pass
"""


async def buried(*expected: int) -> None:
    """Wait until these are the numbers of the dead letters: what has ended is written soon."""
    while listed() != [*expected]:
        await trio.sleep(0.05)


@attrs.frozen
class Program:
    """One that is being served."""

    client: httpx.AsyncClient

    async def publish(self, *numbers: int) -> None:
        """Publish pings, which are accepted."""
        for number in numbers:
            answer = await self.client.post("/events/ping", json={"number": number})
            assert answer.status_code == 202, answer.text

    async def counts(self, plugin: str, **expected: int) -> None:
        """Wait until these are a plugin's counters."""
        while True:
            plugins = (await self.client.get("/plugins")).json()["plugins"]
            if expected.items() <= plugins[plugin]["inbox"].items():
                return
            await trio.sleep(0.05)


@asynccontextmanager
async def serving(directory: Path) -> AsyncGenerator[Program]:
    """Run `trivet serve` until the block is left."""
    environ = {name: os.environ[name] for name in os.environ if not name.startswith("TRIVET_")}
    with trio.fail_after(60):
        process = await trio.lowlevel.open_process(
            [TRIVET, "serve"],
            cwd=directory,
            env={**environ, "TRIVET_LOG__FORMAT": "json"},
            stderr=subprocess.PIPE,
        )
        assert process.stderr is not None
        log = b""
        try:
            while b'"event": "serving"' not in log:
                log += await process.stderr.receive_some()
            (line,) = (line for line in log.splitlines() if b'"event": "serving"' in line)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(drain, process.stderr)
                async with httpx.AsyncClient(base_url=json.loads(line)["urls"][0]) as client:
                    yield Program(client)
                process.terminate()
                assert await process.wait() == 0
        finally:
            process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()


async def drain(stream: trio.abc.ReceiveStream) -> None:
    """Read what nobody looks at."""
    async for _ in stream:
        pass


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, of a program with these plugins."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins/pings.py").write_text(dedent(PLUGINS))
    settings = 'active_plugins = ["pings"]\nbind = "127.0.0.1:0"\n'
    (tmp_path / "trivet.toml").write_text(settings)
    return tmp_path


@pytest.mark.process
async def test_a_program_and_its_dead_letters(directory: Path) -> None:
    """Dead letters of a running program are listed, and replayed to the plugin that failed, not to
    its neighbour; those of a stopped one are shown, purged, and replayed to its next start."""
    mended = directory / "mended"
    async with serving(directory) as program:
        await program.publish(1, 2, 3)
        await buried(1, 2, 3)
        table = trivet("list").stdout
        assert table.count("  fragile  ping  ") == table.count("PermanentError: it is broken") == 3
        mended.touch()
        command = [TRIVET, "dead-letters", "replay", "--all"]  # As operators do, from outside.
        said = await trio.run_process(command, capture_stdout=True)
        assert said.stdout == b"3 dead letters put back into the queues\n"
        await program.counts("fragile", accepted=6, dead_lettered=3, handled=3)
        await program.counts("steady", accepted=3, handled=3)
        assert listed() == []
        mended.unlink()
        await program.publish(4, 5)
        await buried(4, 5)
    assert json.loads(trivet("show", 5).stdout)["payload"] == {"number": 5}
    assert trivet("purge", 4).stdout == "1 dead letter thrown away\n"
    assert listed() == [5]
    assert trivet("replay", "--plugin", "fragile", "--since", "1h").stdout.startswith("1 dead")
    assert listed() == []
    mended.touch()
    async with serving(directory) as program:
        await program.counts("fragile", accepted=1, handled=1)
        await program.counts("steady", accepted=0)


# A replay beside the program that owns the file


def test_a_replay_is_not_overtaken_between_its_transactions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replay in several transactions keeps its order, whatever numbers the owner takes
    meanwhile."""
    path = tmp_path / "store"
    with closing(Journal.open(path)) as journal:
        first = journal.new_numbers()
        numbers = range(first, first + 3)
        rows = [appended(Row("p", number, b"{}", b"dead")) for number in numbers]
        facts = DeadLetterFacts("ping", "1", "test", 1.0, "no", b"[]")
        journal.commit([], rows)
        journal.commit([Bury("p", number, facts) for number in numbers], [])

        @contextmanager
        def looked_at(connection: Connection) -> Generator[None]:
            with transaction(connection):
                yield
            assert journal.changed_by_others()
            journal.renew_numbers()
            row = Row("p", journal.new_numbers(), b"{}", b"new")
            assert journal.commit([], [appended(row)]) is None

        monkeypatch.setattr(module, "SLICE", 1)
        monkeypatch.setattr(module, "transaction", looked_at)
        with DeadLetters(path) as letters:
            assert letters.replay() == 3
        waiting = [row.payload for row in journal.read("p", 0, 100)]
        assert waiting == [b"dead", b"new"] * 3


@pytest.mark.parametrize("after", [0.0, 0.5])
async def test_a_replay_counts_as_accepted_whenever_it_is_read(
    tmp_path: Path, autojump_clock: MockClock, after: float
) -> None:
    """A reader of a backlog may find a replayed event before the store has looked, or in the same
    moment: the events that the inbox has accepted are the sum of their fates."""
    path = tmp_path / "store"
    store = Store(StoreSettings(path=path), EventTypes([Ping]), in_loop=True)
    on_disk = partial(OnDisk, store=store, types=EventTypes([Ping]))
    inbox = BoundedInbox("p", DeliveryPolicy(durable=True), backing=on_disk)
    async with store.opened():
        number = WINDOW + 10
        for each in range(number):
            inbox.admission.offer(Delivery.of(Ping(each)))
        inbox.reject(await inbox.receive(), PermanentError("no"))
        await trio.sleep(1.5)  # It looks at what has changed every second.
        with DeadLetters(path) as letters:
            assert letters.replay() == 1
        await trio.sleep(after)
        with suppress(trio.WouldBlock):  # At once: the store's task has not run meanwhile.
            while True:
                inbox.accept(inbox.receive_nowait())
        while inbox.statistics().handled < number:
            inbox.accept(await inbox.receive())
        with pytest.raises(trio.WouldBlock):  # It looks into the file for more.
            inbox.receive_nowait()
        await trio.sleep(2)
        statistics = inbox.statistics()
        assert (statistics.handled, statistics.dead_lettered) == (number, 1)
        assert (statistics.queued, statistics.accepted) == (0, number + 1)


async def test_events_that_end_while_the_store_is_counted_take_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store's count of its file is right, although events have ended during the counting."""
    counts, counting, go_on = Journal.counts, threading.Event(), threading.Event()

    def slowly(journal: Journal) -> Mapping[str, Backlog]:
        counted = counts(journal)
        counting.set()
        assert go_on.wait(10)
        return counted

    path = tmp_path / "store"
    events = [Delivery.of(Ping(number), id=str(number)) for number in range(3)]
    most = max(pack(event).size for event in events)
    store = Store(StoreSettings(path=path, max_bytes=most), EventTypes([Ping]))
    on_disk = partial(OnDisk, store=store, types=EventTypes([Ping]))
    inbox = BoundedInbox("p", DeliveryPolicy(durable=True), backing=on_disk)
    async with store.opened():
        inbox.admission.offer(events[0])
        inbox.reject(await inbox.receive(), PermanentError("no"))
        inbox.admission.offer(events[1])
        delivery = await inbox.receive()
        monkeypatch.setattr(Journal, "counts", slowly)
        with DeadLetters(path) as letters:
            assert letters.purge() == 1
        await trio.to_thread.run_sync(counting.wait)
        inbox.accept(delivery)
        go_on.set()
    assert store.bytes == 0


async def test_a_dead_letter_tells_of_the_crashes(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """An event's history has the crashes of `run()` or the process with the event in flight, beside
    the failed attempts; otherwise it would have died of nothing."""
    path = tmp_path / "store"
    packed = pack(Delivery.of(Ping(1), id="1"))
    with closing(Journal.open(path)) as journal:
        once = pack_history(FIRST.failed("OSError: no", at=1.0, took=1.0).crashed())
        number = journal.new_numbers()
        row = Row("p", number, packed.envelope, packed.payload)
        assert journal.commit([], [appended(row)]) is None
        journal.commit([Update("p", number, once, None)], [])
    with closing(connect(path)) as connection:
        connection.execute("UPDATE exception SET crashes = 2")
    store = Store(StoreSettings(path=path), EventTypes([Ping]), in_loop=True)
    policy = DeliveryPolicy(durable=True, delivery_limit=3)
    on_disk = partial(OnDisk, store=store, types=EventTypes([Ping]))
    inbox = BoundedInbox("p", policy, backing=on_disk)
    async with store.opened():
        inbox.admission.offer(Delivery.of(Ping(2), id="2"))
        for _ in range(3):
            assert (await inbox.receive()).id == "2"
            inbox.lifetime_ended(crashed=True)
    with DeadLetters(path) as letters:
        found = {letter.id: unpack_history(letter.history) for letter in letters.list()}
    assert (found["1"].attempts, found["1"].crashes) == (1, 3)
    assert (found["2"].attempts, found["2"].crashes) == (0, 3)
