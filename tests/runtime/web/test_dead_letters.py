"""The dead letters of a running program, over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest

from trivet import (
    App,
    DeliverySettings,
    Event,
    EventPlugin,
    OperatorActionEvent,
    Runtime,
    Secret,
    StoreSettings,
    TokenSettings,
)
from trivet._store._dead_letters import Criteria, DeadLetters
from trivet.testing import client, open_plugins

TOKEN = "a-token-of-an-operator"
TOKENS = [TokenSettings(name="operator", scopes=["admin"], secret=Secret(TOKEN))]


class Paid(Event):
    amount: int = 0


class Ledger(EventPlugin[Paid]):
    """A durable subscriber that gives every event up, until it is well."""

    delivery: ClassVar[DeliverySettings] = DeliverySettings(durable=True, max_attempts=1)
    is_well: ClassVar[bool]

    async def initialize(self) -> None:
        type(self).is_well = False

    async def handle_event(self, event: Paid) -> None:
        if not self.is_well:
            raise ValueError("no ink")


class Books(Ledger):
    pass


class Auditor(EventPlugin[OperatorActionEvent]):
    def __init__(self, app: App) -> None:
        self.seen: list[OperatorActionEvent] = []

    async def handle_event(self, event: OperatorActionEvent) -> None:
        self.seen.append(event)


async def asked(runtime: Runtime, path: str, method: str = "POST") -> tuple[int, Any]:
    """The status and the document of the answer to an operator."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    asking = client(runtime)
    send = asking.post if method == "POST" else asking.get
    answer = await send(f"/-/dead-letters{path}", headers=headers)
    return answer.status_code, await answer.get_json()


async def given_up(store: StoreSettings, count: int) -> None:
    """Run a program in which every subscriber gives every event up; at its end, all is on disk."""
    async with open_plugins(Ledger, Books, store=store) as runtime:
        for amount in range(count):
            await runtime.publish(Paid(amount=amount), wait=True)


async def test_all_that_match_are_thrown_away(tmp_path: Path) -> None:
    """A purge deletes the dead letters of one plugin, or from one moment on, and says how many."""
    path = tmp_path / "store.db"
    store = StoreSettings(path=path)
    await given_up(store, 3)
    async with open_plugins(Ledger, Books, Auditor, tokens=TOKENS, store=store) as runtime:
        assert await asked(runtime, "/purge?plugin=ledger") == (200, {"count": 3})
        assert await asked(runtime, "/purge?since=2999-01-01T00:00Z") == (200, {"count": 0})
        with DeadLetters(path) as letters:
            assert [each.plugin for each in letters.list()] == ["books"] * 3
        assert await asked(runtime, "/purge?all=true") == (200, {"count": 3})
        auditor = runtime.get(Auditor)
    facts = [(each.action, each.plugin, each.token) for each in auditor.seen]
    assert facts == [
        ("purge dead letters", "ledger", "operator"),
        ("purge dead letters", None, "operator"),
        ("purge dead letters", None, "operator"),
    ]


async def test_a_replay(tmp_path: Path) -> None:
    """A replay puts the dead letters that match back into the queue of the plugin that failed."""
    path = tmp_path / "store.db"
    store = StoreSettings(path=path)
    await given_up(store, 2)
    async with open_plugins(Ledger, Books, tokens=TOKENS, store=store) as runtime:
        Ledger.is_well = True
        assert await asked(runtime, "/replay?plugin=ledger") == (200, {"count": 2})
        with DeadLetters(path) as letters:
            assert letters.count(Criteria(plugin="ledger")) == 0
            assert letters.count(Criteria(plugin="books")) == 2


@pytest.mark.parametrize(
    "query", ["", "?all=false", "?all=true&plugin=ledger", "?since=yesterday", "?since=2026-03-01"]
)
async def test_a_wrong_filter(query: str, tmp_path: Path) -> None:
    """A request that does not say which dead letters it means changes nothing."""
    store = StoreSettings(path=tmp_path / "store.db")
    async with open_plugins(Ledger, tokens=TOKENS, store=store) as runtime:
        status, problem = await asked(runtime, f"/purge{query}")
    assert (status, problem["error_code"]) == (400, "invalid_query")


async def test_a_store_that_cannot_be_read(tmp_path: Path) -> None:
    """A store in memory, or one without its file, is a 503 that says so."""
    lost = StoreSettings(path=tmp_path / "none.db")
    for plugin, store in ((Ledger, StoreSettings(path=Path(":memory:"))), (Auditor, lost)):
        async with open_plugins(plugin, tokens=TOKENS, store=store) as runtime:
            status, problem = await asked(runtime, "/replay?all=true")
        assert (status, problem["error_code"]) == (503, "store_unavailable")


async def test_a_program_that_stores_nothing() -> None:
    """A program without a durable plugin, and without a file, has no dead letters."""
    async with open_plugins(Auditor, tokens=TOKENS) as runtime:
        assert await asked(runtime, "/purge?all=true") == (200, {"count": 0})


async def test_a_search_page_by_page(tmp_path: Path) -> None:
    """A search has the newest first, the number of all that match, and the way to the next page."""
    store = StoreSettings(path=tmp_path / "store.db")
    await given_up(store, 3)
    async with open_plugins(Ledger, Books, tokens=TOKENS, store=store) as runtime:
        seen: list[int] = []
        query = "?plugin=books&event=paid&text=NO%20ink&limit=2"
        status, first = await asked(runtime, query, "GET")
        assert (status, first["count"], len(first["dead_letters"])) == (200, 3, 2)
        _, second = await asked(runtime, f"{query}&before={first['next']}", "GET")
        assert (second["count"], second["next"], len(second["dead_letters"])) == (3, None, 1)
        found = first["dead_letters"] + second["dead_letters"]
        seen = [letter["number"] for letter in found]
        assert seen == sorted(seen, reverse=True)
        assert {letter["reason"] for letter in found} == {"ValueError: no ink"}
        assert "payload" not in found[0]
        for nothing in (
            "text=blot",
            "event=refunded",
            "since=2999-01-01T00:00Z",
            "until=2000-01-01T00:00Z",
        ):
            _, document = await asked(runtime, f"?{nothing}", "GET")
            assert document == {"dead_letters": [], "count": 0, "next": None}
        _, document = await asked(runtime, "", "GET")
        assert document["count"] == 6


async def test_one_with_its_payload(tmp_path: Path) -> None:
    """One dead letter has its payload, its envelope and its failures; an unknown one is a 404."""
    store = StoreSettings(path=tmp_path / "store.db")
    await given_up(store, 1)
    async with open_plugins(Ledger, Books, tokens=TOKENS, store=store) as runtime:
        _, page = await asked(runtime, "?plugin=books", "GET")
        [letter] = page["dead_letters"]
        status, document = await asked(runtime, f"/{letter['number']}", "GET")
        assert status == 200
        assert document.items() >= letter.items()
        assert (document["payload"], document["envelope"]["type"]) == ({"amount": 0}, "paid")
        assert [failure["error"] for failure in document["failures"]] == ["ValueError: no ink"]
        status, problem = await asked(runtime, "/99", "GET")
        assert (status, problem["error_code"]) == (404, "unknown_dead_letter")


async def test_some_by_their_numbers(tmp_path: Path) -> None:
    """Dead letters are purged by their numbers; if one of them is unknown, none is."""
    path = tmp_path / "store.db"
    store = StoreSettings(path=path)
    await given_up(store, 2)
    async with open_plugins(Ledger, Books, tokens=TOKENS, store=store) as runtime:
        with DeadLetters(path) as letters:
            numbers = sorted(letter.number for letter in letters.list())
        status, problem = await asked(runtime, f"/purge?number={numbers[0]},99")
        assert (status, problem["error_code"]) == (404, "unknown_dead_letter")
        assert await asked(runtime, f"/purge?number={numbers[0]},{numbers[2]}") == (
            200,
            {"count": 2},
        )
        with DeadLetters(path) as letters:
            assert sorted(each.number for each in letters.list()) == [numbers[1], numbers[3]]


@pytest.mark.parametrize(
    "query",
    [
        *("number=", "number=0", "number=1,,2", "number=1e3", f"number={2**63}"),
        *("limit=0", "limit=1001", "limit=x", "before=-1", "until=soon", "since=2026-03-01"),
    ],
)
async def test_a_wrong_query(query: str, tmp_path: Path) -> None:
    """A query that cannot be read is a 400 that says what is expected."""
    store = StoreSettings(path=tmp_path / "store.db")
    async with open_plugins(Ledger, tokens=TOKENS, store=store) as runtime:
        status, problem = await asked(runtime, f"?{query}", "GET")
    assert (status, problem["error_code"]) == (400, "invalid_query")


async def test_a_program_without_a_store() -> None:
    """A program without a durable plugin has no dead letters, and says so."""
    async with open_plugins(Auditor, tokens=TOKENS) as runtime:
        assert await asked(runtime, "", "GET") == (
            200,
            {"dead_letters": [], "count": 0, "next": None},
        )
        assert (await asked(runtime, "/1", "GET"))[0] == 404
        assert await asked(runtime, "/purge?all=true") == (200, {"count": 0})
