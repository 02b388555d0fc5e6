"""Publishers and probes of a program with a durable plugin, also while its store fails."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import pytest
import trio
from quart import Response
from quart.typing import TestClientProtocol as Client
from structlog.testing import capture_logs
from trio.testing import MockClock, wait_all_tasks_blocked

from trivet import App, Delivery, DeliverySettings, Event, EventPlugin, Fate, Outcome, StoreSettings
from trivet._store._journal import Journal
from trivet._store._records import JournalError, JournalFullError, JournalUnavailableError
from trivet._web._ingest._publishing import error_fate
from trivet.testing import client, open_plugins

BATCHED = "application/cloudevents-batch+json"
PATH = Path("/disk/store.db")


class Paid(Event):
    amount: int
    secret: str = "tell nobody"


class Ledger(EventPlugin[Paid]):
    """A subscriber in memory that notes its events."""

    def __init__(self, app: App) -> None:
        self.amounts: list[int] = []

    async def handle_event(self, event: Paid) -> None:
        self.amounts.append(event.amount)


class Audit(Ledger):
    """A durable subscriber."""

    delivery: ClassVar[DeliverySettings] = DeliverySettings(durable=True)


class Full(Audit):
    """A durable subscriber with room for one event, which is busy for ever."""

    delivery: ClassVar[DeliverySettings] = DeliverySettings(
        durable=True, buffer=1, block_for=1, time_limit=0
    )

    async def handle_event(self, event: Paid) -> None:
        await trio.sleep_forever()


def faulty(amount: int) -> None:
    """Fail for amounts above ten."""
    if amount > 10:
        raise RuntimeError(f"cannot pay {amount}, and it is confidential")


class Hopeless(Audit):
    """A subscriber that gives up at the first failure."""

    delivery: ClassVar[DeliverySettings] = DeliverySettings(durable=True, max_attempts=1)

    async def handle_event(self, event: Paid) -> None:
        faulty(event.amount)


class Stubborn(Hopeless):
    """A subscriber that goes on trying."""

    delivery: ClassVar[DeliverySettings] = DeliverySettings(
        durable=True, retry_initial=1e6, retry_max=1e6, retry_for=0
    )


class Choosy(Ledger):
    """A subscriber to small amounts only."""

    def wants(self, event: Paid) -> bool:
        return event.amount < 10


async def post(asking: Client, amount: int, query: str = "") -> Response:
    """Post an event."""
    return await asking.post(f"/events/paid{query}", json={"amount": amount})


def cloud_events(count: int) -> list[dict[str, Any]]:
    """A batch."""
    attributes = {"specversion": "1.0", "source": "/test", "type": "paid"}
    return [attributes | {"id": str(n), "data": {"amount": n}} for n in range(count)]


async def send(asking: Client, events: object, query: str = "") -> Response:
    """Post a batch."""
    headers = {"Content-Type": BATCHED}
    return await asking.post(f"/events{query}", data=json.dumps(events), headers=headers)


class Trouble:
    """A switch that makes the journal fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.error: JournalError | None = None
        self.commits: list[int] = []
        commit, probe = Journal.commit, Journal.probe

        def committed(journal: Journal, settlements: Any, appends: Any, *cursors: Any) -> Any:
            if appends:
                self.commits.append(len(appends))
                if self.error is not None:
                    return self.error
            return commit(journal, settlements, appends, *cursors)

        def probed(journal: Journal) -> None:
            if self.error is not None:
                raise self.error
            probe(journal)

        monkeypatch.setattr(Journal, "commit", committed)
        monkeypatch.setattr(Journal, "probe", probed)


@pytest.fixture
def trouble(monkeypatch: pytest.MonkeyPatch) -> Trouble:
    """Install the switch."""
    return Trouble(monkeypatch)


# Refusals


@pytest.mark.parametrize(
    ("error", "status", "error_code"),
    [
        (JournalFullError(PATH, "the disk is full"), 507, "store_full"),
        (JournalUnavailableError(PATH, "disk I/O error"), 503, "store_unavailable"),
    ],
)
@pytest.mark.parametrize("query", ["", "?wait=true"])
async def test_a_store_that_fails(
    error: JournalError,
    status: int,
    error_code: str,
    query: str,
    trouble: Trouble,
    autojump_clock: MockClock,
) -> None:
    """A store that fails is a 507 for want of room and else a 503, although another plugin has
    accepted."""
    trouble.error = error
    async with open_plugins(Ledger, Audit) as runtime:
        asking = client(runtime)
        response = await post(asking, 1, query)
        batch = await send(asking, cloud_events(2), query)
        stream = await asking.post(
            f"/events/paid{query}",
            data=b'{"amount": 1}\n{"amount": 2}\n',
            headers={"Content-Type": "application/x-ndjson"},
        )
        assert runtime.statistics()["audit"].rejected == 5
    ledger = "handled" if query else "queued"
    problem = await response.get_json()
    assert problem["fates"] == {"ledger": ledger, "audit": "rejected"}
    for each in (response, batch, stream):
        assert each.status_code == status
        assert int(each.headers["Retry-After"]) >= 1
        problem = await each.get_json()
        assert problem["error_code"] == error_code
        assert error.reason in problem["detail"]
        assert str(PATH) not in problem["detail"]  # No publisher's business.
    assert [each["fates"]["audit"] for each in (await batch.get_json())["outcomes"]] == [
        "rejected",
        "rejected",
    ]
    assert (await stream.get_json())["resume_from"] == 1


async def test_a_durable_inbox_that_is_full(autojump_clock: MockClock) -> None:
    """A full durable inbox is a 429, although another plugin has accepted the event."""
    async with open_plugins(Ledger, Full) as runtime:
        asking = client(runtime)
        for amount in (1, 2):
            assert (await post(asking, amount)).status_code == 202
            await wait_all_tasks_blocked()
        response = await post(asking, 3)
        assert runtime.get(Ledger).amounts == [1, 2, 3]
    assert response.status_code == 429
    problem = await response.get_json()
    assert problem["error_code"] == "not_accepted"
    assert problem["fates"] == {"ledger": "queued", "full": "rejected"}


async def test_a_store_that_is_at_its_limit(autojump_clock: MockClock) -> None:
    """A store at its limit leaves the decision to the policy: 429, and the program is still
    ready."""
    store = StoreSettings(path=Path(":memory:"), max_bytes=300)
    async with open_plugins(Full, store=store) as runtime:
        asking = client(runtime)
        assert (await post(asking, 1)).status_code == 202
        response = await post(asking, 2)
        assert (await asking.get("/readyz")).status_code == 200
    assert response.status_code == 429


async def test_a_store_that_comes_near_its_limit_is_told(autojump_clock: MockClock) -> None:
    """A store near its limit is told in the log and by `/readyz`, and so is the end of that."""

    class Gated(Audit):
        async def handle_event(self, event: Paid) -> None:
            await gate.wait()

    gate, store = trio.Event(), StoreSettings(path=Path(":memory:"), max_bytes=3000)
    with capture_logs() as logs:
        async with open_plugins(Gated, store=store) as runtime:
            asking = client(runtime)
            assert runtime.room(Paid) > 0
            while runtime.room(Paid):
                assert (await post(asking, 1)).status_code == 202
            await trio.sleep(2)
            response = await asking.get("/readyz")
            ready = await response.get_json()
            assert (response.status_code, ready["status"]) == (200, "degraded")
            assert 3000 >= ready["store"]["bytes"] > 2600
            assert "limit" in ready["store"]["limit"]
            gate.set()
            await trio.sleep(2)
            assert runtime.room(Paid) > 0
            assert (await (await asking.get("/readyz")).get_json())["status"] == "ready"
    told = [line["log_level"] for line in logs if line["event"].startswith("the store")]
    assert told == ["warning", "info"]


async def test_an_event_that_the_store_can_never_take(autojump_clock: MockClock) -> None:
    """An event that no store can hold is a 413 without `Retry-After`, alone, as a line and in a
    batch."""
    store = StoreSettings(path=Path(":memory:"), max_bytes=1000)
    async with open_plugins(Audit, store=store) as runtime:
        asking, began = client(runtime), trio.current_time()
        large = {"amount": 1, "secret": "x" * 1000}
        response = await asking.post("/events/paid", json=large)
        problem = await response.get_json()
        assert (response.status_code, problem["error_code"]) == (413, "event_too_large")
        assert problem["fates"] == {"audit": "unacceptable"}
        assert "paid" in problem["detail"]
        assert "Retry-After" not in response.headers

        batch = cloud_events(3)
        batch[1]["data"] = large
        response = await send(asking, batch)
        problem = await response.get_json()
        assert (response.status_code, problem["error_code"]) == (413, "event_too_large")
        fates = [outcome["fates"]["audit"] for outcome in problem["outcomes"]]
        assert fates == ["queued", "unacceptable", "queued"]

        documents = [{"amount": 4}, large, {"amount": 5}]
        lines = "\n".join(json.dumps(document) for document in documents)
        headers = {"Content-Type": "application/x-ndjson"}
        response = await asking.post("/events/paid", data=lines, headers=headers)
        answer = await response.get_json()
        assert (response.status_code, answer["lines"], answer["invalid"]) == (202, 3, 1)
        assert answer["fates"] == {"audit": {"queued": 2, "unacceptable": 1}}
        assert [error["line"] for error in answer["errors"]] == [2]
        response = await asking.post("/events/paid", data=json.dumps(large), headers=headers)
        assert response.status_code == 400
        assert trio.current_time() == began
    assert runtime.get(Audit).amounts == [0, 2, 4, 5]


class Nested(Event):
    extra: Any = None


class Keeper(EventPlugin[Nested]):
    """A durable subscriber."""

    delivery: ClassVar[DeliverySettings] = DeliverySettings(durable=True)

    async def handle_event(self, event: Nested) -> None:
        """Do nothing."""


@pytest.mark.parametrize("depth", [10, 900, 940, 965, 970, 980, 985, 990, 995, 1000, 1100, 100_000])
async def test_nesting_is_taken_or_a_bad_request(autojump_clock: MockClock, depth: int) -> None:
    """An event that can be read but not written is its client's fault, and costs no other line."""
    async with open_plugins(Keeper, store=StoreSettings(path=Path(":memory:"))) as runtime:
        asking = client(runtime)
        body = b'{"extra": %s}' % (b"[" * depth + b"]" * depth)
        headers = {"Content-Type": "application/json"}
        response = await asking.post("/events/nested", data=body, headers=headers)
        assert response.status_code in (202, 400)
        if depth in (10, 100_000):
            assert response.status_code == (202 if depth == 10 else 400)

        headers = {"Content-Type": "application/x-ndjson"}
        body = b"\n".join([b"{}", body, b"{}"])
        response = await asking.post("/events/nested", data=body, headers=headers)
        assert response.status_code == 202
        while runtime.statistics()["keeper"].handled < 2:
            await trio.sleep(0.1)


def test_a_refusal_for_now_comes_first() -> None:
    """A refusal for now comes before one for ever: the first subscriber may accept the event
    later."""
    fates = {"durable": Fate.REJECTED, "other": Fate.UNACCEPTABLE}
    both, outcome = {"durable", "other"}, Outcome(Delivery.of(Paid(1)), fates)
    assert error_fate([outcome], waited=False, durable=both) is Fate.REJECTED
    assert error_fate([outcome], waited=False, durable={"other"}) is Fate.UNACCEPTABLE
    assert error_fate([outcome], waited=False) is Fate.REJECTED


@pytest.mark.parametrize(
    ("fates", "waited", "fate"),
    [
        ({"durable": Fate.REJECTED, "other": Fate.QUEUED}, False, Fate.REJECTED),
        ({"durable": Fate.QUEUED, "other": Fate.REJECTED}, False, None),
        # A fate with another subscriber that is not final does not make up for it, either.
        ({"durable": Fate.REJECTED, "other": Fate.IN_FLIGHT}, True, Fate.REJECTED),
        ({"durable": Fate.IN_FLIGHT, "other": Fate.REJECTED}, True, None),
        ({"durable": Fate.DEAD_LETTERED, "other": Fate.HANDLED}, True, Fate.DEAD_LETTERED),
        ({"durable": Fate.BACKING_OFF, "other": Fate.HANDLED}, True, None),
        ({"durable": Fate.DUPLICATE, "other": Fate.FILTERED}, True, None),
    ],
)
def test_a_durable_subscriber_weighs_more(
    fates: dict[str, Fate], waited: bool, fate: Fate | None
) -> None:
    """A refusal by a durable subscriber is an error in any company."""
    assert (
        error_fate([Outcome(Delivery.of(Paid(1)), fates)], waited=waited, durable={"durable"})
        is fate
    )


# Fates


async def test_waiting_for_an_event_that_is_given_up(autojump_clock: MockClock) -> None:
    """A waiting publisher gets 500 `dead_lettered`, without the text of the exception."""
    async with open_plugins(Hopeless) as runtime:
        response = await post(client(runtime), 11, "?wait=true")
    assert response.status_code == 500
    problem = await response.get_json()
    assert problem["error_code"] == "dead_lettered"
    assert problem["fates"] == {"hopeless": "dead_lettered"}
    assert b"confidential" not in await response.get_data(as_text=False)


async def test_waiting_for_an_event_that_is_tried_again(autojump_clock: MockClock) -> None:
    """A waiting publisher gets 202 after 30 s for an event that may still end well."""
    async with open_plugins(Stubborn) as runtime:
        begun = trio.current_time()
        response = await post(client(runtime), 11, "?wait=true")
        assert trio.current_time() - begun == pytest.approx(30)
    assert response.status_code == 202
    assert (await response.get_json())["fates"] == {"stubborn": "backing_off"}


async def test_an_event_that_a_filter_drops_ends_well(autojump_clock: MockClock) -> None:
    """A waiting publisher gets 200 for an event that one handles and another filters out."""
    async with open_plugins(Ledger, Choosy) as runtime:
        response = await post(client(runtime), 11, "?wait=true")
    assert response.status_code == 200
    assert (await response.get_json())["fates"] == {"ledger": "handled", "choosy": "filtered"}


async def test_a_repetition_is_good(autojump_clock: MockClock) -> None:
    """A waiting publisher gets 200 for an event that was handled before."""
    async with open_plugins(Audit) as runtime:
        asking = client(runtime)
        assert (await send(asking, cloud_events(2), "?wait=true")).status_code == 200
        again = await send(asking, cloud_events(3), "?wait=true")
        assert runtime.get(Audit).amounts == [0, 1, 2]
    assert again.status_code == 200
    fates = [outcome["fates"]["audit"] for outcome in await again.get_json()]
    assert fates == ["duplicate", "duplicate", "handled"]


# Batches


class Narrow(Ledger):
    """A subscriber in memory with room for one, busy for ever; publishers wait for a second."""

    delivery: ClassVar[DeliverySettings] = DeliverySettings(buffer=1, block_for=1)

    async def handle_event(self, event: Paid) -> None:
        await trio.sleep_forever()


async def test_a_batch_waits_once(autojump_clock: MockClock) -> None:
    """The events of a batch wait for room together: a second, not one after the other."""
    async with open_plugins(Narrow) as runtime:
        begun = trio.current_time()
        response = await send(client(runtime), cloud_events(5))
        assert trio.current_time() - begun == pytest.approx(1)
    assert response.status_code == 202
    fates = [outcome["fates"]["narrow"] for outcome in await response.get_json()]
    # One is in flight, the next in the inbox.
    assert fates == ["queued", "queued", "rejected", "rejected", "rejected"]


async def test_a_batch_is_one_transaction(trouble: Trouble, tmp_path: Path) -> None:
    """The events of a batch for a durable plugin are one commit, in a real file."""
    store = StoreSettings(path=tmp_path / "store.db")
    async with open_plugins(Audit, Stubborn, store=store) as runtime:
        response = await send(client(runtime), cloud_events(5), "?wait=true")
    assert response.status_code == 200
    assert trouble.commits == [5]  # For each of the two, in one row.


# Probes


async def test_readiness_while_the_store_fails(trouble: Trouble, autojump_clock: MockClock) -> None:
    """A failing store is a 503 with the reason, and not with the path of the file, which strangers
    need not know; when it works again the service is ready."""
    async with open_plugins(Audit) as runtime:
        asking = client(runtime)
        assert runtime.store is not None
        assert (await asking.get("/readyz")).status_code == 200
        trouble.error = JournalFullError(PATH, "the disk is full")
        assert (await post(asking, 1)).status_code == 507
        response = await asking.get("/readyz")
        await trio.sleep(10)
        assert (await asking.get("/readyz")).status_code == 503
        described = (await (await asking.get("/plugins")).get_json())["store"]
        assert (await asking.get("/livez")).status_code == 200
        trouble.error = None
        await trio.sleep(2)
        assert (await asking.get("/readyz")).status_code == 200
        assert (await post(asking, 2, "?wait=true")).status_code == 200
    assert response.status_code == 503
    problem = await response.get_json()
    assert problem["error_code"] == "not_ready"
    assert problem["detail"] == "the store fails: the disk is full"
    assert problem["store"]["trouble"] == "the disk is full"
    assert PATH.name not in await response.get_data(as_text=True)
    path = str(runtime.store.path)
    assert (described["path"], described["trouble"]) == (path, "the disk is full")


async def test_the_plugins_document_has_the_store(autojump_clock: MockClock) -> None:
    """`/plugins` names the durable plugins and the file, and shows nothing of the events."""
    async with open_plugins(Ledger, Hopeless) as runtime:
        asking = client(runtime)
        await post(asking, 11, "?wait=true")
        response = await asking.get("/plugins")
    document = await response.get_json()
    durable = {name: plugin["durable"] for name, plugin in document["plugins"].items()}
    assert durable == {"ledger": False, "hopeless": True}
    nothing = {"path": ":memory:", "bytes": 0, "trouble": None, "limit": None}
    assert document["store"] == nothing
    assert document["plugins"]["hopeless"]["inbox"]["dead_lettered"] == 1
    text = await response.get_data(as_text=True)
    assert "confidential" not in text
    assert "tell nobody" not in text


async def test_without_a_durable_plugin_there_is_no_store() -> None:
    """`/plugins` says that there is no store."""
    async with open_plugins(Ledger) as runtime:
        document = await (await client(runtime).get("/plugins")).get_json()
    assert document["store"] is None
