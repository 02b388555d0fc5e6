"""The short way of one event, beside the way through the layers: nobody can tell them apart."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import count
from typing import Any, ClassVar

import attrs
import pytest
import trio

from trivet import (
    App,
    Delivery,
    DeliverySettings,
    Event,
    EventPlugin,
    MonitoringPlugin,
    MonitoringPoint,
    Plugin,
    ShutdownSettings,
    current_delivery,
    listening,
)
from trivet._access._tokens import TokenSettings
from trivet._events import _delivery
from trivet._faults._secret import Secret
from trivet.testing import open_plugins, serving

from ..clients import connect, status, until
from ..ways import Taken, uniform

BODY = b'{"order_id":"o-1","note":"tea"}'
GIVEN = b"Luna-Request-Id: 1,r"


class Placed(Event):
    order_id: str
    note: str = ""


class Priced(Event):
    """An event whose decoding calls code of its author's."""

    total: float = attrs.field(validator=attrs.validators.gt(0))


class Internal(Event, from_outside=False):
    order_id: str


class Unheard(Event):
    order_id: str


class Ledger(EventPlugin[Placed | Priced]):
    """A subscriber that notes its events, in their envelopes."""

    def __init__(self, app: App) -> None:
        self.deliveries: list[Delivery[Event]] = []

    async def handle_event(self, event: Placed | Priced) -> None:
        self.deliveries.append(current_delivery())


class Picky(EventPlugin[Placed]):
    """A subscriber with a filter."""

    def wants(self, event: Placed) -> bool:
        return event.note != "tea"

    async def handle_event(self, event: Placed) -> None:
        """Do nothing."""


class Durable(EventPlugin[Placed]):
    """A subscriber that stores its events."""

    delivery: ClassVar[DeliverySettings] = DeliverySettings(durable=True)

    async def handle_event(self, event: Placed) -> None:
        """Do nothing."""


class Stuck(EventPlugin[Placed]):
    """A subscriber that never ends its first event; one more waits, then its inbox is full."""

    delivery: ClassVar[DeliverySettings] = DeliverySettings(buffer=1, overflow="reject")

    async def handle_event(self, event: Placed) -> None:
        await trio.sleep_forever()


class Points(MonitoringPlugin):
    """A subscriber that notes the points of each request, and where they come from."""

    def __init__(self, app: App) -> None:
        self.points: list[tuple[object, ...]] = []

    async def flush_points(self, points: list[MonitoringPoint]) -> None:
        origin = current_delivery().origin
        for each in points:
            assert each.time.tzinfo is not None
            fields = {
                **each.fields,
                "execution_time": isinstance(each.fields.get("execution_time"), float),
            }
            self.points.append((each.series, each.tags, fields, origin))


class Lagging(MonitoringPlugin):
    """A subscriber that has no time for points."""

    delivery: ClassVar[DeliverySettings] = DeliverySettings(buffer=1)

    async def flush_points(self, points: list[MonitoringPoint]) -> None:
        await trio.sleep_forever()


def post(
    *headers: bytes,
    body: bytes = BODY,
    path: bytes = b"/events/placed",
    host: bytes = b"Host: localhost",
    media_type: bytes = b"Content-Type: application/json",
    length: int | None = None,
    line: bytes = b"POST %b HTTP/1.1",
) -> bytes:
    """A request to publish an event."""
    framing = b"Content-Length: %d" % (len(body) if length is None else length)
    lines = [line % path, host, media_type, framing, GIVEN, *headers, b"", b""]
    return b"\r\n".join(each for each in lines[:-2] if each) + b"\r\n\r\n" + body


SHORT = [
    post(),
    post(b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    post(b"Luna-Account-Id: account"),
    post(b"luna-account-id: \xff", b"traceparent: " + b"x" * 300),
    post(media_type=b"content-type: Application/JSON; charset=utf-8"),
    post(path=b"/events/unheard"),
    post(host=b"Host: 127.0.0.1:1234"),
    post(b"Sec-Fetch-Site: same-origin"),
    post(b"Connection: keep-alive"),
    post(b"Cookie: a=b"),
    post(body=b'{"order_id":"\\u00e9","more":[1,2]}'),
]
"""Requests that take the short way."""
LONG = [
    post(body=b""),
    post(body=b"{"),
    post(body=b'{"order_id":1}'),
    post(body=b'{"order_id":"' + b"x" * 70_000 + b'"}'),
    post(path=b"/events/priced", body=b'{"total":1}'),
    post(path=b"/events/priced", body=b'{"total":-1}'),
    post(path=b"/events/internal"),
    post(path=b"/events/nothing"),
    post(path=b"/events/placed/"),
    post(path=b"//events/placed"),
    post(path=b"/events/%70laced"),
    post(path=b"/events/placed?wait=true"),
    post(path=b"/events/placed?expirytime=2999-01-01T00:00:00Z"),
    post(path=b"/events/"),
    post(path=b"http://localhost/events/placed"),
    post(media_type=b""),
    post(media_type=b"Content-Type: text/plain"),
    post(media_type=b"Content-Type: application/vnd.order+json"),
    post(media_type=b"Content-Type: application/x-ndjson"),
    post(media_type=b"Content-Type: application/cloudevents+json"),
    post(host=b"Host: evil.example"),
    post(host=b"Host: a b"),
    post(host=b"Host:"),
    post(b"Origin: http://evil.example"),
    post(b"Sec-Fetch-Site: cross-site"),
    post(b"Sec-Fetch-Site: same-origin", b"Sec-Fetch-Site: cross-site"),
    post(b"Origin: http://localhost", b"Origin: http://evil.example"),
    post(b"Expect: 100-continue"),
    post(b"Connection: close"),
    post(line=b"POST %b HTTP/1.0"),
    post(line=b"PUT %b HTTP/1.1"),
    post(line=b"GET %b HTTP/1.1", length=0, body=b""),
    post(b"Transfer-Encoding: chunked", body=b"1f\r\n" + BODY + b"\r\n0\r\n\r\n").replace(
        b"Content-Length: 43\r\n", b""
    ),
]
"""Requests that go through the layers."""
TOKENS = [TokenSettings(name="shop", scopes=["ingest"], secret=Secret("correct-horse-battery"))]
READERS = [TokenSettings(name="shop", scopes=["read"], secret=Secret("correct-horse-battery"))]
BEARER = b"Authorization: Bearer correct-horse-battery"
IMPATIENT = {"shutdown": ShutdownSettings(drain=0.1)}
ANONYMOUS = [post(), post(BEARER), post(b"Authorization: Bearer wrong"), post(b"Cookie: a=b")]

Facts = tuple[list[bytes], list[object], list[object], object, object]


async def answers(
    requests: list[bytes], plugins: list[type[Plugin]], program: Mapping[str, Any]
) -> Facts:
    """Everything that a program shows of these requests; each comes over a connection of its own,
    but twice, unless it matters which events were handled before the second one came."""
    copies = 1 if Stuck in plugins else 2
    async with open_plugins(
        *plugins, event_types=[Placed, Priced, Internal, Unheard], **program
    ) as runtime:
        async with serving(runtime) as url:
            got: list[bytes] = []
            for request in requests:
                async with await connect(url) as stream:
                    await stream.send_all(request * copies)
                    await stream.send_eof()
                    got.append(b"".join([data async for data in stream]))
                await trio.testing.wait_all_tasks_blocked(0.001)
        deliveries = [
            (each.event, each.source, each.origin, each.deadline < math.inf, each.size)
            for plugin in runtime.hosts.values()
            if isinstance(plugin.plugin, Ledger)
            for each in plugin.plugin.deliveries
        ]
        points = [
            point
            for plugin in runtime.hosts.values()
            if isinstance(plugin.plugin, Points)
            for point in plugin.plugin.points
        ]
        ends = {name: attrs.asdict(statistics) for name, statistics in runtime.statistics().items()}
        return (
            [uniform(each) for each in got],
            list(deliveries),
            list(points),
            ends,
            dict(runtime.unrouted),
        )


@pytest.mark.parametrize(
    ("requests", "plugins", "program", "taken"),
    [
        pytest.param(SHORT, [Ledger, Points], {}, 2 * len(SHORT), id="short"),
        pytest.param(LONG, [Ledger, Points], {}, 0, id="long"),
        pytest.param(SHORT, [Ledger], {}, 2 * len(SHORT), id="not-monitored"),
        pytest.param(SHORT, [Ledger, Lagging], IMPATIENT, 2 * len(SHORT), id="points-lag"),
        pytest.param([post()], [Ledger, Points, Picky], {}, 0, id="filter"),
        pytest.param([post()], [Ledger, Points, Durable], {}, 0, id="durable"),
        pytest.param([post()] * 3, [Ledger, Points, Stuck], IMPATIENT, 2, id="full"),
        pytest.param(
            SHORT, [Ledger, Points], {"event_rates": {"placed": 1e6}}, 2 * len(SHORT), id="rates"
        ),
        pytest.param(SHORT, [Ledger, Points], {"max_body": 30}, 0, id="small-bodies"),
        pytest.param(
            SHORT,
            [Ledger, Points],
            {"trusted_proxies": ["127.0.0.1"]},
            2 * len(SHORT),
            id="behind-a-proxy",
        ),
        pytest.param(ANONYMOUS, [Ledger, Points], {"tokens": TOKENS}, 2, id="a-token-needed"),
        pytest.param(ANONYMOUS, [Ledger, Points], {"tokens": READERS}, 4, id="a-token-known"),
        pytest.param(
            [post(path=b"/events/internal")],
            [Points],
            {"open_events": ["internal"]},
            2,
            id="opened",
        ),
    ],
)
async def test_a_shortcut_is_not_to_be_told_from_the_layers(
    monkeypatch: pytest.MonkeyPatch,
    requests: list[bytes],
    plugins: list[type[Plugin]],
    program: Mapping[str, Any],
    taken: int,
) -> None:
    """Responses, events, envelopes, points and counters are the same on both ways."""
    with monkeypatch.context() as patch:
        patch.setattr(_delivery, "_numbers", count(1000))
        short = Taken(patch, short=True)
        found = await answers(requests, plugins, program)
    with monkeypatch.context() as patch:
        patch.setattr(_delivery, "_numbers", count(1000))
        Taken(patch, short=False)
        expected = await answers(requests, plugins, program)
    assert found == expected
    assert len(short.answers) == taken


async def test_a_body_that_comes_later_takes_the_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The short way needs the whole body; a request in pieces is answered all the same."""
    short = Taken(monkeypatch, short=True)
    async with open_plugins(Ledger) as runtime, serving(runtime) as url:
        async with await connect(url) as stream:
            for piece in (post()[:-5], post()[-5:]):
                await stream.send_all(piece)
                await trio.testing.wait_all_tasks_blocked(0.01)
            assert status(await until(stream, b"}\n")) == 202
            assert len(short.answers) == 0
            await stream.send_all(post())
            assert status(await until(stream, b"}\n")) == 202
            assert len(short.answers) == 1
        deliveries = runtime.get(Ledger).deliveries
    assert [each.event for each in deliveries] == [Placed("o-1", "tea")] * 2


async def test_events_of_a_paused_plugin_take_the_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    """An event for a plugin whose delivery an operator has paused needs care."""
    short = Taken(monkeypatch, short=True)
    async with open_plugins(Ledger) as runtime, serving(runtime) as url:
        async with await connect(url) as stream:
            for has_paused in (True, False):
                inbox = runtime.host("ledger").inbox
                assert inbox is not None
                (inbox.gate.pause if has_paused else inbox.gate.resume)()
                await stream.send_all(post())
                assert status(await until(stream, b"}\n")) == 202
                assert len(short.answers) == (not has_paused)
            await trio.testing.wait_all_tasks_blocked()
        assert len(runtime.get(Ledger).deliveries) == 2


async def test_an_address_for_management_takes_no_events() -> None:
    """The shortcuts are those of the addresses for everybody."""
    async with (
        open_plugins(Ledger) as runtime,
        listening(runtime, "127.0.0.1:0", management_bind="127.0.0.1:0") as (url, management),
    ):
        for address, expected in ((url, 202), (management, 404)):
            async with await connect(address) as stream:
                await stream.send_all(post())
                assert status(await until(stream, b"}")) == expected
