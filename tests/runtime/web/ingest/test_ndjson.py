"""Streams of lines to `POST /events/{name}`, and the responses to them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from quart import Response
from quart.typing import TestClientProtocol as Client
from quart.typing import TestHTTPConnectionProtocol as Connection
from trio.testing import MockClock, wait_all_tasks_blocked

from trivet import App, DeliverySettings, Event, EventPlugin, create_app
from trivet._store._journal import Journal
from trivet._web._app import build_app
from trivet._web._ingest._ndjson import BATCH_SIZE, LineSplitter
from trivet.testing import client, open_plugins

NDJSON = "application/x-ndjson"


class Reading(Event):
    number: int
    note: str = ""


class Ledger(EventPlugin[Reading]):
    """A subscriber that notes its events."""

    def __init__(self, app: App) -> None:
        self.numbers: list[int] = []

    async def handle_event(self, event: Reading) -> None:
        self.numbers.append(event.number)


class Patient(Ledger):
    """A subscriber that takes 0.1 s for each event, with room for five; publishers wait for 1 s."""

    delivery: ClassVar[DeliverySettings] = DeliverySettings(buffer=5)

    async def handle_event(self, event: Reading) -> None:
        await trio.sleep(0.1)
        await super().handle_event(event)


class Stuck(EventPlugin[Reading]):
    """A subscriber that never ends its first event; two more wait in the inbox, then it is full."""

    delivery: ClassVar[DeliverySettings] = DeliverySettings(buffer=2, block_for=60)

    async def handle_event(self, event: Reading) -> None:
        await trio.sleep_forever()


def lines(numbers: Iterable[int]) -> bytes:
    """A stream of readings."""
    return b"".join(b'{"number": %d}\n' % number for number in numbers)


async def post(asking: Client, body: bytes, query: str = "", media_type: str = NDJSON) -> Response:
    """Post a stream."""
    headers = {"Content-Type": media_type}
    return await asking.post(f"/events/reading{query}", data=body, headers=headers)


@asynccontextmanager
async def streaming(asking: Any, query: str = "") -> AsyncGenerator[Connection]:
    """A stream whose lines are still to come."""
    path, headers = f"/events/reading{query}", {"Content-Type": NDJSON}
    async with asking.request(path, method="POST", headers=headers) as connection:
        yield connection


async def test_each_line_is_an_event(autojump_clock: MockClock) -> None:
    """A 202 counts the lines and their fates; the events arrive in order."""
    async with open_plugins(Ledger) as runtime:
        response = await post(client(runtime), lines(range(1200)))
        await wait_all_tasks_blocked()
        assert runtime.get(Ledger).numbers == list(range(1200))
    assert response.status_code == 202
    assert await response.get_json() == {
        "lines": 1200,
        "fates": {"ledger": {"queued": 1200}},
        "invalid": 0,
        "errors": [],
    }


@pytest.mark.parametrize("media_type", ["application/jsonl", f"{NDJSON}; charset=utf-8"])
async def test_lines_by_any_of_their_names(media_type: str, autojump_clock: MockClock) -> None:
    """JSON Lines is another name of the same format, and parameters change nothing."""
    async with open_plugins(Ledger) as runtime:
        response = await post(client(runtime), lines([7]), media_type=media_type)
    assert response.status_code == 202
    assert (await response.get_json())["lines"] == 1


async def test_the_ends_of_lines(autojump_clock: MockClock) -> None:
    """LF and CR LF end a line, the last needs no end, and blank lines are skipped."""
    body = b'\n{"number": 1}\r\n\r\n  \n{"number": 2}\n\n{"number": "x"}\n{"number": 3}'
    async with open_plugins(Ledger) as runtime:
        response = await post(client(runtime), body)
        await wait_all_tasks_blocked()
        assert runtime.get(Ledger).numbers == [1, 2, 3]
    document = await response.get_json()
    assert (document["lines"], document["invalid"]) == (4, 1)
    assert [error["line"] for error in document["errors"]] == [7]


@given(
    st.lists(st.binary(max_size=12).map(lambda data: data.replace(b"\n", b"")), max_size=8),
    st.booleans(),
    st.data(),
)
def test_lines_however_they_are_split(made: list[bytes], ends: bool, data: st.DataObject) -> None:
    """A stream has the same lines wherever it is split, and a line that is too long is None."""
    limit = 8
    stream = b"\n".join(made) + (b"\n" if ends else b"")
    places = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    pieces = [stream[a:b] for a, b in zip([0, *places], [*places, len(stream)], strict=True)]
    cutting = LineSplitter(limit)
    found = [line for piece in pieces for line in cutting.split(piece)]
    found.append(cutting.rest())
    expected = [None if len(line) > limit else line.strip() for line in stream.split(b"\n")]
    assert found == expected


async def test_a_line_that_does_not_fit_is_named(autojump_clock: MockClock) -> None:
    """The stream goes on after a bad line, which is named by its number, its path and its fault."""
    body = lines([1]) + b'{"number": "two"}\n{"number": \n\xff\n' + lines([5])
    async with open_plugins(Ledger) as runtime:
        response = await post(client(runtime), body)
        await wait_all_tasks_blocked()
        assert runtime.get(Ledger).numbers == [1, 5]
    assert response.status_code == 202
    document = await response.get_json()
    assert (document["lines"], document["invalid"]) == (5, 3)
    assert document["fates"] == {"ledger": {"queued": 2}}
    found = [(error["line"], error["path"]) for error in document["errors"]]
    assert found == [(2, "$.number"), (3, "$"), (4, "$")]
    assert all(error["detail"] for error in document["errors"])


async def test_no_more_than_a_hundred_are_named(autojump_clock: MockClock) -> None:
    """The bad lines are all counted, and the first hundred of them named."""
    body = (b"nothing\n" * 3 + lines([1])) * 50
    async with open_plugins(Ledger) as runtime:
        document = await (await post(client(runtime), body)).get_json()
    assert (document["lines"], document["invalid"]) == (200, 150)
    named = [error["line"] for error in document["errors"]]
    assert named == [line for line in range(1, 201) if line % 4][:100]


@pytest.mark.parametrize("query", ["", "?wait=true"])
async def test_nothing_but_bad_lines(query: str, autojump_clock: MockClock) -> None:
    """A stream without any event is a 400 with the counts."""
    async with open_plugins(Ledger) as runtime:
        response = await post(client(runtime), b"{}\n[]\n", query)
        assert runtime.statistics()["ledger"].accepted == 0
    assert response.status_code == 400
    problem = await response.get_json()
    assert (problem["error_code"], problem["lines"]) == ("invalid_event", 2)
    assert [error["line"] for error in problem["errors"]] == [1, 2]


async def test_an_empty_stream(autojump_clock: MockClock) -> None:
    """A stream may be empty, as a batch may."""
    async with open_plugins(Ledger) as runtime:
        for body in (b"", b"\n"):
            response = await post(client(runtime), body)
            assert (response.status_code, (await response.get_json())["lines"]) == (202, 0)


async def test_an_unknown_event(autojump_clock: MockClock) -> None:
    """A stream of unknown events is a 404 before anything is read."""
    async with open_plugins(Ledger) as runtime:
        headers = {"Content-Type": NDJSON}
        response = await client(runtime).post("/events/reeding", data=lines([1]), headers=headers)
    assert response.status_code == 404
    assert (await response.get_json())["error_code"] == "unknown_event"


async def test_events_that_nobody_listens_to(autojump_clock: MockClock) -> None:
    """Events without a subscriber are counted as unrouted, with 202."""
    async with open_plugins(event_types=[Reading]) as runtime:
        response = await post(client(runtime), lines(range(3)))
        assert runtime.unrouted["reading"] == 3
    assert response.status_code == 202
    document = await response.get_json()
    assert (document["fates"], document["unrouted"]) == ({}, 3)


@pytest.mark.parametrize("announced", [True, False])
async def test_the_limit_is_that_of_a_line(announced: bool, autojump_clock: MockClock) -> None:
    """A stream may be longer than `max_body`; a line may not, and is skipped where it is."""
    long = b'{"number": 2, "note": "%s"}\n' % (b"x" * 1000)
    body = lines([1]) + long + lines(range(3, 200))
    headers = {"Content-Type": NDJSON} | ({"Content-Length": str(len(body))} if announced else {})
    async with open_plugins(Ledger, max_body=1000) as runtime:
        response = await client(runtime).post("/events/reading", data=body, headers=headers)
        await wait_all_tasks_blocked()
        assert runtime.get(Ledger).numbers == [1, *range(3, 200)]
    assert response.status_code == 202
    document = await response.get_json()
    assert (document["lines"], document["invalid"]) == (199, 1)
    assert document["errors"] == [{"line": 2, "path": "$", "detail": "longer than 1000 bytes"}]


@pytest.mark.parametrize("media_type", ["application/json", "application/cloudevents+json"])
async def test_another_media_type_keeps_its_limit(
    media_type: str, autojump_clock: MockClock
) -> None:
    """A body of another media type is one document, and has its limit."""
    path = "/events/reading" if media_type == "application/json" else "/events"
    async with open_plugins(Ledger, max_body=1000) as runtime:
        headers = {"Content-Type": media_type}
        response = await client(runtime).post(path, data=b" " * 1001, headers=headers)
    assert response.status_code == 413


async def test_a_slow_subscriber_slows_the_stream(autojump_clock: MockClock) -> None:
    """A slow subscriber that makes publishers wait gets every line, at its own pace."""
    async with open_plugins(Patient) as runtime:
        begun = trio.current_time()
        response = await post(client(runtime), lines(range(100)))
        # One is in flight and five wait in the inbox when the last line has found its room.
        assert trio.current_time() - begun == pytest.approx((100 - 6) * 0.1)
        assert runtime.statistics()["patient"].rejected == 0
    assert response.status_code == 202
    assert (await response.get_json())["fates"] == {"patient": {"queued": 100}}


async def test_a_stream_that_is_refused(autojump_clock: MockClock) -> None:
    """A line that no subscriber accepts within `block_for` is a 429 with the counts and where to go
    on."""
    body = b"nothing\n" + lines(range(2, 12))
    async with open_plugins(Stuck) as runtime:
        begun = trio.current_time()
        response = await post(client(runtime), body)
        assert trio.current_time() - begun == 60
        statistics = runtime.statistics()["stuck"]
    assert response.status_code == 429
    assert int(response.headers["Retry-After"]) >= 1
    problem = await response.get_json()
    assert problem["error_code"] == "not_accepted"
    # Lines 2 to 4 were taken, one of them in flight; 5 was refused.
    assert problem["resume_from"] == 5
    assert (problem["lines"], problem["invalid"]) == (5, 1)
    assert problem["fates"] == {"stuck": {"queued": 3, "rejected": 1}}
    assert [error["line"] for error in problem["errors"]] == [1, 5]
    assert problem["errors"][1]["fates"] == {"stuck": "rejected"}
    assert (statistics.accepted, statistics.rejected) == (3, 1)


class Picky(Stuck):
    """A subscriber like `Stuck`, for whose room no publisher waits."""

    delivery: ClassVar[DeliverySettings] = DeliverySettings(buffer=2, overflow="reject")


async def test_each_subscriber_decides_alone(autojump_clock: MockClock) -> None:
    """A stream goes on while one subscriber accepts each line, and those that refuse are not
    durable."""
    async with open_plugins(Ledger, Picky) as runtime:
        response = await post(client(runtime), lines(range(1, 1001)))
        await wait_all_tasks_blocked()
        assert runtime.get(Ledger).numbers == list(range(1, 1001))
    assert response.status_code == 202
    document = await response.get_json()
    assert document["fates"]["ledger"] == {"queued": 1000}
    assert document["fates"]["picky"]["rejected"] >= 997
    assert len(document["errors"]) == 100
    assert document["errors"][-1]["fates"] == {"ledger": "queued", "picky": "rejected"}


class Hasty(Ledger):
    """A quick subscriber with little room, for which no publisher waits."""

    delivery: ClassVar[DeliverySettings] = DeliverySettings(buffer=5, overflow="reject")


async def test_a_quick_subscriber_with_little_room(autojump_clock: MockClock) -> None:
    """A subscriber that reads as fast as lines come refuses none, however little room it has."""
    async with open_plugins(Hasty) as runtime:
        response = await post(client(runtime), lines(range(1000)))
        await wait_all_tasks_blocked()
        assert runtime.get(Hasty).numbers == list(range(1000))
    assert (await response.get_json())["fates"] == {"hasty": {"queued": 1000}}


class Strict(Stuck):
    """A durable subscriber like `Picky`."""

    delivery: ClassVar[DeliverySettings] = DeliverySettings(
        buffer=2, overflow="reject", durable=True, time_limit=0
    )


async def test_a_durable_subscriber_that_refuses(autojump_clock: MockClock) -> None:
    """A line that a durable plugin refuses ends the stream, although another one accepts it."""
    async with open_plugins(Ledger, Strict) as runtime:
        response = await post(client(runtime), lines(range(1, 1001)))
        statistics = runtime.statistics()["strict"]
    assert response.status_code == 429
    problem = await response.get_json()
    assert problem["resume_from"] == statistics.accepted + 1
    assert problem["fates"]["strict"]["rejected"] == statistics.rejected >= 1
    assert problem["lines"] == statistics.accepted + statistics.rejected


# Publishers that wait


async def test_waiting_for_the_handlers(autojump_clock: MockClock) -> None:
    """A stream with `?wait=true` is a 200 when every line was handled."""
    async with open_plugins(Ledger) as runtime:
        response = await post(client(runtime), lines(range(1200)), "?wait=true")
        assert runtime.get(Ledger).numbers == list(range(1200))
    assert response.status_code == 200
    assert (await response.get_json())["fates"] == {"ledger": {"handled": 1200}}


async def test_waiting_where_a_line_is_bad(autojump_clock: MockClock) -> None:
    """A stream with `?wait=true` is a 202 when a line was bad and the others were handled."""
    async with open_plugins(Ledger) as runtime:
        response = await post(client(runtime), lines([1]) + b"nothing\n", "?wait=true")
    assert response.status_code == 202
    assert (await response.get_json())["fates"] == {"ledger": {"handled": 1}}


class Slow(EventPlugin[Reading]):
    """A subscriber that takes a hundredth of a second for each event."""

    async def handle_event(self, event: Reading) -> None:
        await trio.sleep(0.01)


async def test_waiting_for_a_batch_of_lines(autojump_clock: MockClock) -> None:
    """A waiting publisher has no more events on the way at a time than one batch."""
    most = 0

    async with open_plugins(Slow) as runtime:

        async def look() -> None:
            nonlocal most
            while True:
                statistics = runtime.statistics()["slow"]
                most = max(most, statistics.queued + statistics.in_flight)
                await trio.sleep(0.001)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(look)
            response = await post(client(runtime), lines(range(1200)), "?wait=true")
            nursery.cancel_scope.cancel()
    assert response.status_code == 200
    assert most == BATCH_SIZE


class Faulty(EventPlugin[Reading]):
    """A subscriber that fails for every third event."""

    async def handle_event(self, event: Reading) -> None:
        if event.number % 3 == 0:
            raise RuntimeError("the vault is open")


async def test_waiting_where_a_handler_fails(autojump_clock: MockClock) -> None:
    """A stream is published to its end; then the worst fate decides, and its lines are named."""
    async with open_plugins(Faulty) as runtime:
        response = await post(client(runtime), lines(range(1, 8)), "?wait=true")
    assert response.status_code == 500
    problem = await response.get_json()
    assert problem["error_code"] == "handler_failed"
    assert problem["fates"] == {"faulty": {"handled": 5, "failed": 2}}
    assert [error["line"] for error in problem["errors"]] == [3, 6]
    assert "resume_from" not in problem
    assert b"vault" not in await response.get_data(as_text=False)


# Streams that end early


async def test_a_stop_in_the_middle(autojump_clock: MockClock) -> None:
    """A stream that is open when the service stops is answered at once: 503, and where to go on."""
    async with open_plugins(Ledger) as runtime:
        async with streaming(client(runtime)) as connection:
            await connection.send(lines([1, 2, 3]) + b'{"num')
            await wait_all_tasks_blocked()
            begun = trio.current_time()
            runtime.begin_stop()
        response = await connection.as_response()
        assert trio.current_time() == begun
    assert response.status_code == 503
    assert int(response.headers["Retry-After"]) >= 1
    problem = await response.get_json()
    assert (problem["error_code"], problem["resume_from"]) == ("stopping", 4)
    assert problem["fates"] == {"ledger": {"queued": 3}}


async def test_a_stop_while_lines_wait_for_their_turn(autojump_clock: MockClock) -> None:
    """A line that was read but not published when the service stops is not published any more."""
    async with open_plugins(Patient) as runtime:
        app = build_app(runtime)
        async with streaming(app.test_client()) as connection:
            await connection.send(lines(range(1, 101)))
            await trio.sleep(3.05)
            begun = trio.current_time()
            plan = runtime.begin_stop()
            await app.service.drain(plan.requests_until)
            assert trio.current_time() - begun < 0.1
        response = await connection.as_response()
        accepted = runtime.statistics()["patient"].accepted
    problem = await response.get_json()
    assert (response.status_code, problem["error_code"]) == (503, "stopping")
    # 30 were handled, one is in flight, five wait in the inbox, one more found room at the stop.
    assert problem["resume_from"] == accepted + 1 == 38


async def test_a_stop_while_a_line_waits_for_room(autojump_clock: MockClock) -> None:
    """A line that waits for room when the requests' time is over was not accepted: it is sent
    again."""
    async with open_plugins(Stuck) as runtime:
        app = build_app(runtime)
        async with streaming(app.test_client()) as connection:
            await connection.send(lines(range(1, 10)))
            await wait_all_tasks_blocked()
            await app.service.drain(runtime.begin_stop().requests_until)
        response = await connection.as_response()
        assert runtime.statistics()["stuck"].accepted == 3
    assert response.status_code == 503
    problem = await response.get_json()
    assert (problem["error_code"], problem["resume_from"]) == ("stopping", 4)
    assert problem["fates"] == {"stuck": {"queued": 3}}


async def test_a_stream_that_drips(autojump_clock: MockClock) -> None:
    """A client that is too slow gets 408 with the fates of its lines."""
    async with open_plugins(Ledger) as runtime:
        async with streaming(client(runtime)) as connection:
            await connection.send(lines([1, 2]))
            await trio.sleep(60)
        response = await connection.as_response()
    assert response.status_code == 408
    problem = await response.get_json()
    assert (problem["error_code"], problem["resume_from"]) == ("request_timeout", 3)
    assert problem["fates"] == {"ledger": {"queued": 2}}


async def test_a_client_that_leaves(autojump_clock: MockClock) -> None:
    """The complete lines of a client that disconnects are published, and no more."""
    to_app, from_client = trio.open_memory_channel[Any](10)
    answer: list[Any] = []

    async def send(message: Any) -> None:
        answer.append(message)

    body = lines([1, 2]) + b'{"number": 3}'
    to_app.send_nowait({"type": "http.request", "body": body, "more_body": True})
    head: dict[str, Any] = {"method": "POST", "path": "/events/reading", "query_string": b""}
    scope: Any = {"type": "http", "http_version": "1.1", "scheme": "http", **head}
    scope["headers"] = [(b"host", b"localhost"), (b"content-type", NDJSON.encode())]
    async with open_plugins(Ledger) as runtime, trio.open_nursery() as nursery:
        nursery.start_soon(create_app(runtime), scope, from_client.receive, send)
        await wait_all_tasks_blocked()
        to_app.send_nowait({"type": "http.disconnect"})
        await wait_all_tasks_blocked()
        assert not nursery.child_tasks
        assert runtime.get(Ledger).numbers == [1, 2]
    assert answer == []


# Durable subscribers


class Archive(Ledger):
    """A durable subscriber."""

    delivery: ClassVar[DeliverySettings] = DeliverySettings(durable=True)


class Laggard(Stuck):
    """A subscriber that never ends an event, and drops the oldest ones."""

    delivery: ClassVar[DeliverySettings] = DeliverySettings(overflow="drop_oldest")


async def test_a_batch_of_lines_is_one_transaction(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lines of a durable plugin are committed by the hundreds."""
    sizes: list[int] = []
    commit = Journal.commit

    def counted(journal: Journal, settlements: Any, appends: Any, *cursors: Any) -> Any:
        sizes.extend([len(appends)] if appends else [])
        return commit(journal, settlements, appends, *cursors)

    monkeypatch.setattr(Journal, "commit", counted)
    async with open_plugins(Archive, Laggard) as runtime:
        response = await post(client(runtime), lines(range(1500)))
        assert runtime.statistics()["laggard"].dropped == 1500 - 1001
    assert response.status_code == 202
    # Also beside a full inbox for which no publisher waits.
    assert sizes == [BATCH_SIZE, BATCH_SIZE, BATCH_SIZE]
