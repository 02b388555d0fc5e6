"""A tap: the events of a program, and the fates at a plugin, as an operator sees them pass."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import httpx
import pytest
import trio
from trio.testing import MockClock

from trivet import (
    App,
    Delivery,
    DeliverySettings,
    Event,
    EventPlugin,
    Fate,
    Runtime,
    Secret,
    StoreSettings,
    TokenSettings,
)
from trivet._web import _tap, _taps
from trivet._web._doors import Doors
from trivet._web._tap import ROOM, Tap
from trivet._web._taps import TAPS, Chosen, Taps
from trivet.testing import client, open_plugins, serving

from ..reload.programs import COUNTING, Files

TOKEN = "a-token-of-an-operator"
OTHER = "a-token-for-anybody-else"
TOKENS: Any = [
    TokenSettings(name="operator", scopes=["admin"], secret=Secret(TOKEN)),
    TokenSettings(name="other", scopes=["read", "ingest"], secret=Secret(OTHER)),
]
PLANTED = "the-planted-password"
NO_QUERY: dict[str, Any] = {}
HEADERS = {"Authorization": f"Bearer {TOKEN}"}


class Paid(Event):
    amount: float
    note: str = ""
    pin: str = attrs.field(default="1234", repr=False)


class Poured(Event):
    cups: int = 1


class Till(EventPlugin[Paid]):
    """A plugin that fails at some amounts once, and at others each time."""

    delivery = DeliverySettings(retry=True, retry_initial=0.2, max_attempts=2)
    password: Secret = Secret(PLANTED)

    def __init__(self, app: App) -> None:
        self.seen: list[float] = []

    async def handle_event(self, event: Paid) -> None:
        is_first = event.amount not in self.seen
        self.seen.append(event.amount)
        if event.amount < 0 or (event.amount == 7 and is_first):
            raise OSError(f"no change for {event.amount:g}, with {PLANTED}")


class Reader(EventPlugin[Poured]):
    delivery = DeliverySettings(delivery_limit=2)

    async def run(self) -> None:
        async for _ in self.inbox:
            raise OSError("the pot leaks")


class Safe(Till):
    delivery = DeliverySettings(durable=True, retry_initial=0.2, max_attempts=2)


@pytest.fixture(autouse=True)
def tapping_takes_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The budget is of a processor's time, of which the first event of a process takes more."""
    monkeypatch.setattr(_tap, "thread_time", lambda: 0.0)


@attrs.define
class Seen:
    """The events of one stream, as its client has read them."""

    events: list[tuple[str, Any]] = attrs.field(factory=list[tuple[str, Any]])

    def of(self, kind: str) -> list[Any]:
        """The documents of one kind."""
        return [document for name, document in self.events if name == kind]

    async def until(self, kind: str, count: int = 1) -> list[Any]:
        """Wait for some documents of a kind."""
        with trio.fail_after(30):
            while len(self.of(kind)) < count:
                await trio.sleep(0.01)
        return self.of(kind)

    async def read(self, url: str, query: dict[str, Any], headers: dict[str, str]) -> None:
        """Read the stream to its end."""
        name = ""
        async with httpx.AsyncClient(timeout=60) as asking:
            path = f"{url}/-/tap"
            async with asking.stream("GET", path, params=query, headers=headers) as answer:
                assert answer.status_code == 200, await answer.aread()
                async for line in answer.aiter_lines():
                    field, _, value = line.partition(": ")
                    if field == "event":
                        name = value
                    elif field == "data":
                        self.events.append((name, json.loads(value)))


@asynccontextmanager
async def tapped(runtime: Runtime, url: str, **query: Any) -> AsyncGenerator[Seen]:
    """A tap that is open."""
    seen = Seen()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(seen.read, url, query, HEADERS)
        await seen.until("open")
        yield seen
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def opened(*plugins: type[Till], **settings: Any) -> AsyncGenerator[tuple[Runtime, str]]:
    """A program that is served."""
    async with open_plugins(
        *(plugins or (Till,)), event_types=[Poured], tokens=TOKENS, patience=60, **settings
    ) as runtime:
        async with serving(runtime) as url:
            yield runtime, url


async def refusal(runtime: Runtime, query: str) -> tuple[int, str, str]:
    """The answer to a request for a tap that is refused."""
    answer = await client(runtime).get(f"/-/tap?{query}", headers=HEADERS)
    document = await answer.get_json()
    return answer.status_code, document["error_code"], document["detail"]


async def test_events_are_shown_as_they_are_published() -> None:
    """A tap shows the envelope of each event of the program, whoever listens, and no payload."""
    async with opened() as (runtime, url):
        await runtime.publish(Paid(1))
        async with tapped(runtime, url) as seen:
            await runtime.publish(Paid(2), id="p-2", key="eve", request_id="r-1")
            await runtime.publish(Poured())
            first, second = await seen.until("event", 2)
    assert {name: first[name] for name in ("id", "type", "key", "attempt", "request_id")} == {
        "id": "p-2",
        "type": "paid",
        "key": "eve",
        "attempt": 1,
        "request_id": "r-1",
    }
    assert "payload" not in first
    assert second["type"] == "poured"


async def test_one_type_by_a_filter_with_payloads() -> None:
    """Events of one type that a filter lets through are shown; payloads are when asked for, with
    secrets and hidden fields masked, and none that is large."""
    async with opened() as (runtime, url):
        query = {"event": "paid", "payload": "true", "filter": ["amount=2", "amount=3"]}
        async with tapped(runtime, url, **query) as seen:
            await runtime.publish(Poured())
            await runtime.publish(Paid(1))
            await runtime.publish(Paid(2, note=f"with {PLANTED}"))
            await runtime.publish(Paid(3, note="x" * 20_000))
            second, third = await seen.until("event", 2)
    assert second["payload"] == {"amount": 2.0, "note": "with ***", "pin": "***"}
    assert "payload" not in third
    assert "16384" in third["payload_left_out"]


@pytest.mark.parametrize("plugin", [Till, Safe])
async def test_the_fates_at_a_plugin(plugin: type[Till], tmp_path: Path) -> None:
    """A plugin's tap shows the end of each attempt: handled, failed and tried again, given up; of
    an inbox in memory and of a durable one."""
    store = StoreSettings(path=tmp_path / "store.db")
    end = "dead_lettered" if plugin is Safe else "failed"
    async with opened(plugin, store=store) as (runtime, url):
        async with tapped(runtime, url, plugin=plugin.name) as seen:
            for amount in (1, 7, -1):
                await runtime.publish(Paid(amount), id=f"p{amount}", wait=True)
            told = await seen.until("event", 5)
            await runtime.publish(Poured())
    assert [(each["id"], each["fate"], each["attempt"]) for each in told] == [
        ("p1", "handled", 1),
        ("p7", "backing_off", 1),
        ("p7", "handled", 2),
        ("p-1", "backing_off", 1),
        ("p-1", end, 2),
    ]
    assert "error" not in told[0]
    assert "error" not in told[2]
    assert told[1]["error"] == "OSError: no change for 7, with ***"
    assert told[4]["error"] == "OSError: no change for -1, with ***"
    assert 0 <= told[1]["retry_in"] <= 0.2


async def test_the_moment_of_an_attempts_end() -> None:
    """The fate of an event is told with the moment at which the attempt ended, beside the time of
    the event; an event that is published has its time alone."""
    long_ago, began = datetime(2020, 1, 1, tzinfo=UTC), datetime.now(UTC)
    async with opened() as (runtime, url):
        async with tapped(runtime, url, plugin="till") as fates, tapped(runtime, url) as events:
            await runtime.publish(Paid(7), time=long_ago, wait=True)
            failed, handled = await fates.until("event", 2)
            (published,) = await events.until("event")
    times = {datetime.fromisoformat(each["time"]) for each in (published, failed, handled)}
    assert times == {long_ago}
    first, second = (datetime.fromisoformat(each["at"]) for each in (failed, handled))
    assert began <= first < second <= datetime.now(UTC)
    assert "at" not in published


async def test_an_event_whose_plugin_crashes(autojump_clock: MockClock) -> None:
    """The crash of a plugin ends the attempt at what it had in hand, which is queued again, until
    it is given up."""
    told: list[tuple[Fate, int]] = []
    async with open_plugins(Reader, patience=60) as runtime:
        with runtime.hosting.inboxes["reader"].watched(
            lambda _, fate, history: told.append((fate, history.crashes))
        ):
            await runtime.publish(Poured())
            while len(told) < 2:
                await trio.sleep(1)
    assert told == [(Fate.QUEUED, 1), (Fate.FAILED, 2)]


async def test_nothing_is_paid_without_a_tap() -> None:
    """The fast paths are closed while a tap is open, and open again after it, for its events or for
    its plugin."""
    async with opened() as (runtime, url):
        path = runtime.hosting.inboxes["till"].fast_path
        routes = runtime._routes  # pyright: ignore[reportPrivateUsage]
        assert (path.is_open, routes[Paid].paths) == (True, (path,))
        async with tapped(runtime, url):
            assert (path.is_open, routes[Paid].paths) == (True, ())
        async with tapped(runtime, url, plugin="till"):
            assert (path.is_open, routes[Paid].paths) == (False, (path,))
        with trio.fail_after(30):
            while not path.is_open:
                await trio.sleep(0.01)
        assert routes[Paid].paths == (path,)


async def test_what_is_not_shown_is_counted(autojump_clock: MockClock) -> None:
    """More events than a tap may show at once are counted, and the stream tells their number."""
    said: list[bytes] = []

    async def send(part: bytes) -> None:
        said.append(part)

    async with open_plugins(Till, patience=60) as runtime, trio.open_nursery() as nursery:
        taps = Taps(runtime, Doors(runtime))
        nursery.start_soon(taps.watch, Chosen(Tap(), None), None, send)
        await trio.sleep(1)
        await runtime.publish_many([Delivery.of(Paid(number)) for number in range(ROOM + 50)])
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    _, part = said
    assert part.count(b"event: event\n") == ROOM
    assert part.endswith(b'event: not_shown\ndata: {"count":50}\n\n')


def test_the_time_of_the_processor_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tap that has had its time for one part looks at nothing more, until the part is taken."""
    now = iter(range(1000))
    monkeypatch.setattr(_tap, "thread_time", lambda: next(now) * _tap.BUDGET)
    tap = Tap()
    for _ in range(3):
        tap.see(Delivery.of(Paid(1)))
    shown, missed = tap.take()
    assert (len(shown), missed) == (1, 2)
    tap.see(Delivery.of(Paid(1)))
    assert len(tap.take()[0]) == 1


def test_a_sample_has_all_of_an_event_or_nothing() -> None:
    """A sample is about the share that was asked for, and the attempts of one event are in it
    together."""
    tap, deliveries = Tap(sample=0.25), [Delivery.of(Paid(1), id=f"p-{n}") for n in range(400)]
    ids: list[set[str]] = []
    for _ in range(2):
        found: set[str] = set()
        for delivery in deliveries:
            tap.see(delivery)
            found |= {json.loads(each)["id"] for each in tap.take()[0]}
        deliveries = [each.again() for each in deliveries]
        ids.append(found)
    assert ids[0] == ids[1]
    assert 60 < len(ids[0]) < 140


def test_a_value_that_cannot_be_compared_is_counted() -> None:
    """An event whose value raises when it is compared is not shown, but counted."""

    class Prickly:
        __hash__ = None  # type: ignore[assignment]

        def __eq__(self, other: object) -> bool:
            raise ValueError("not with you")

    tap = Tap(matches=lambda event: event.value == 1)  # type: ignore[attr-defined]
    tap.see(Delivery.of(Odd(Prickly())))
    assert tap.take() == ([], 1)


class Cents(int):
    """A number of an author's own type."""


class Euros(float):
    """The same, with a fraction, and a conversion that fails."""

    def __float__(self) -> float:
        raise ValueError("not for sale")


class Note(str):
    """A text of an author's own type."""

    __slots__ = ()


class Size(StrEnum):
    LARGE = "large"


class Odd(Event):
    value: object


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (Cents(7), 7),
        (Cents(2**70), str(2**70)),
        (Euros(1.5), 1.5),
        (Euros("nan"), "nan"),
        (Note("tea"), "tea"),
        (Size.LARGE, "large"),
        ({Note("tea"): [Euros(1.5)], Cents(1): Size.LARGE}, {"tea": [1.5], "1": "large"}),
        (b"tea", "b'tea'"),
    ],
)
def test_values_of_an_authors_own_types(value: object, shown: object) -> None:
    """A payload shows values of subclasses of numbers and texts as JSON has them."""
    tap = Tap(with_payload=True)
    tap.see(Delivery.of(Odd(value)))
    [event], missed = tap.take()
    assert (json.loads(event)["payload"], missed) == ({"value": shown}, 0)


class Sealed:
    """A value that has no text."""

    def __str__(self) -> str:
        raise ValueError("sealed")


class Large(bytes):
    """Bytes that must not be converted."""

    def __str__(self) -> str:
        raise AssertionError("converted")


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (Sealed(), "ValueError: sealed"),
        ({Sealed(): 1}, "ValueError: sealed"),
        (Large(20_000), "16384"),
        ({Large(20_000): 1}, "16384"),
    ],
)
def test_a_payload_that_cannot_be_shown(value: object, why: str) -> None:
    """An event whose payload cannot be described is shown, with the reason, and is not counted as
    one too much; a value that is too large is not converted first."""
    tap = Tap(with_payload=True)
    tap.see(Delivery.of(Odd(value), id="o-1"))
    [event], missed = tap.take()
    document = json.loads(event)
    assert (document["id"], missed) == ("o-1", 0)
    assert "payload" not in document
    assert why in document["payload_left_out"]


async def test_wrong_queries(autojump_clock: MockClock) -> None:
    """An unknown name gets 404 with the nearest one; a filter, a sample or a truth that cannot be
    gets 400."""
    async with open_plugins(Till, tokens=TOKENS) as runtime:
        assert await refusal(runtime, "event=payd") == (
            404,
            "unknown_event",
            "there is no event type 'payd'; did you mean 'paid'?",
        )
        status, code, detail = await refusal(runtime, "plugin=til")
        assert (status, code) == (404, "unknown_plugin")
        assert "'till'" in detail
        for query in (
            "filter=amount",
            "filter=amont=1",
            "event=paid&filter=cups=1",
            "sample=0",
            "sample=2",
            "sample=some",
            "payload=yes",
        ):
            status, code, _ = await refusal(runtime, query)
            assert (status, code) == (400, "invalid_query"), query


async def test_only_a_few_taps_at_once() -> None:
    """One tap more than there may be is refused."""
    async with opened() as (_, url):
        async with trio.open_nursery() as nursery:
            taps = [Seen() for _ in range(TAPS)]
            for each in taps:
                nursery.start_soon(each.read, url, NO_QUERY, HEADERS)
            for each in taps:
                await each.until("open")
            async with httpx.AsyncClient() as asking:
                answer = await asking.get(f"{url}/-/tap", headers=HEADERS)
            assert (answer.status_code, answer.json()["error_code"]) == (429, "too_many_taps")
            nursery.cancel_scope.cancel()


async def test_clients_that_do_not_read_give_their_places_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Taps whose clients read nothing are closed after a while, and others may open theirs."""
    monkeypatch.setattr(_taps, "SEND_TIMEOUT", 0.2)
    request = (
        "GET /-/tap?payload=true HTTP/1.1\r\nHost: localhost\r\n"
        f"Authorization: Bearer {TOKEN}\r\n\r\n"
    )
    async with opened() as (runtime, url), AsyncExitStack() as connections:
        for _ in range(TAPS):
            stream = await trio.open_tcp_stream("127.0.0.1", httpx.URL(url).port or 0)
            await connections.enter_async_context(stream)
            await stream.send_all(request.encode())
            assert b" 200 " in await stream.receive_some(100)
        async with httpx.AsyncClient(headers=HEADERS) as asking:
            assert (await asking.get(f"{url}/-/tap")).status_code == 429
            status = 429
            with trio.fail_after(60):
                while status == 429:
                    await runtime.publish_many(
                        [Delivery.of(Paid(1, note="x" * 16_000)) for _ in range(ROOM)]
                    )
                    async with asking.stream("GET", f"{url}/-/tap") as answer:
                        status = answer.status_code
    assert status == 200


@pytest.mark.parametrize("has_token", [True, False])
async def test_a_client_that_does_not_read_is_held_to_its_token(
    has_token: bool, autojump_clock: MockClock
) -> None:
    """While a client takes a part, its tap is cut off at once when its token ends, and when a token
    is needed that it has not shown; with a good one, after some seconds."""
    async with open_plugins(Till, tokens=TOKENS if has_token else []) as runtime:
        doors = Doors(runtime)
        taps = Taps(runtime, doors)
        token = doors.tokens.named("operator")
        for changes in (False, True):
            began = trio.current_time()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(taps.watch, Chosen(Tap(), None), token, never_read)
                await trio.sleep(1)
                assert taps.count == 1
                if changes:
                    doors.tokens.replace([] if has_token else TOKENS)
            lasted = trio.current_time() - began
            assert taps.count == 0
            assert (lasted < 2) if changes else (lasted == pytest.approx(_taps.SEND_TIMEOUT))


async def never_read(_: bytes) -> None:
    """Send a part to a client that reads nothing."""
    await trio.sleep_forever()


@pytest.mark.parametrize(
    ("of", "why"),
    [
        ("no token", "a token is needed now"),
        ("a token", "the token 'operator' is no longer good"),
        ("a plugin", "plugin 'till' is no longer active"),
    ],
)
async def test_a_tap_ends_with_its_reason(
    of: str, why: str, autojump_clock: MockClock, tmp_path: Path
) -> None:
    """A tap ends when the operator's token does, when a token is needed that was not before, and
    when the plugin leaves the program."""
    said: list[bytes] = []

    async def send(part: bytes) -> None:
        said.append(part)

    async with open_plugins(Till, tokens=[] if of == "no token" else TOKENS) as runtime:
        doors, inboxes = Doors(runtime), runtime.hosting.inboxes
        taps, token = Taps(runtime, doors), doors.tokens.named("operator")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(taps.watch, Chosen(Tap(), "till"), token, send)
            await trio.sleep(20)
            assert len(said) == 2
            inbox = inboxes["till"]
            if of == "a token":
                doors.tokens.replace([])
            elif of == "no token":
                doors.tokens.replace(TOKENS)
            else:
                del inboxes["till"]
        inboxes["till"] = inbox
    first, quiet, last = said
    assert first.startswith(b"event: open\n")
    assert quiet.startswith(b":")
    assert last == b'event: end\ndata: {"reason":"%s"}\n\n' % why.encode()


async def test_a_tap_outlives_a_reload(autojump_clock: MockClock, tmp_path: Path) -> None:
    """A reload that replaces a plugin and the class of its events ends no tap: what comes after it
    is shown as before, by events and by plugin."""
    files = Files(tmp_path)
    files.settings('active_plugins = ["counting"]')
    files.plugin("counting", COUNTING)
    said: dict[str, bytes] = {"events": b"", "fates": b""}

    async def send(name: str, part: bytes) -> None:
        said[name] += part

    async with files.running(in_loop=True) as (runtime, reloader):
        taps = Taps(runtime, Doors(runtime))
        by_event, by_plugin = Chosen(Tap("number"), None), Chosen(Tap(), "counting")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(taps.watch, by_event, None, partial(send, "events"))
            nursery.start_soon(taps.watch, by_plugin, None, partial(send, "fates"))
            await trio.sleep(1)
            files.plugin(
                "counting", COUNTING.replace("value: int", "value: int\n    more: int = 0")
            )
            assert await reloader.reload()
            number: Any = runtime.events["number"]
            await runtime.publish(number(value=1), id="after", wait=True)
            await trio.sleep(1)
            nursery.cancel_scope.cancel()
    assert said["events"].count(b'"id":"after"') == 1
    assert said["fates"].count(b'"id":"after"') == 1
    assert b'"fate":"handled"' in said["fates"]
    assert b"event: end" not in said["events"] + said["fates"]


async def test_a_tap_ends_with_the_program() -> None:
    """A tap is told of the stop, and ends."""
    seen = Seen()
    async with trio.open_nursery() as nursery:
        async with opened() as (_, url):
            nursery.start_soon(seen.read, url, NO_QUERY, HEADERS)
            await seen.until("open")
    assert seen.of("end") == [{"reason": "the service stops"}]
