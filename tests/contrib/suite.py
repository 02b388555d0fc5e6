"""The promises that every connector to a broker makes, as tests that each connector inherits.

A connector's tests are a `Server`, which starts the real broker and inspects it with a bare
client, and a class that derives from `Contract`.
"""

from __future__ import annotations

import inspect
import json
import math
import re
import tomllib
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

import attrs
import pytest
import trio
import trustme
from structlog.testing import capture_logs

from trivet import (
    ConfigurationError,
    Delivery,
    DeliverySettings,
    Event,
    EventPlugin,
    Plugin,
    PluginStatusEvent,
    Runtime,
    Secret,
    StartError,
    StoreSettings,
    current_delivery,
    load_settings,
    open_runtime,
)
from trivet._events._types import EventTypes
from trivet.testing import client, open_plugins
from trivet_contrib._brokers._client import Message
from trivet_contrib._brokers._sink import BrokerSink
from trivet_contrib._brokers._source import BrokerSource

PASSWORD = "s3cret"
QUICK = 0.2
"""Seconds of visibility, short enough for a failed message to be tried again soon."""
PATIENCE = 60
"""Seconds of waiting after which a test fails."""

Table = dict[str, object]

TOGETHER_IN_NOTES: Table = {"events": ["note"], "batch_age": 0.1}
"""A delivery section in which events that are published at once are one batch."""


class Order(Event):
    """An order, which most messages are about."""

    number: int


class OrderParked(Event):
    """An event that nobody listens to."""

    number: int = 0


class OrderAudited(Event, from_outside=False):
    """An event of the program's own."""

    number: int = 0


class Note(Event):
    """An event that may hold any value."""

    number: int
    text: Any = None


class Endless:
    """A value that no encoder takes, and whose `repr` fails."""

    def __repr__(self) -> str:
        raise ArithmeticError


class Picky(Event):
    """An event that refuses some numbers, each with another exception."""

    number: int

    def __attrs_post_init__(self) -> None:
        wrong = {1: AssertionError, 2: KeyError, 3: ZeroDivisionError, 4: UnspeakableError}
        if self.number in wrong:
            raise wrong[self.number]("no")


class UnspeakableError(Exception):
    """An error whose text fails."""

    def __str__(self) -> str:
        raise RecursionError


class Billing(EventPlugin[Order]):
    """A subscriber that notes its events, and waits or fails if the test says so."""

    delivery = DeliverySettings(block_for=0.2)

    def __init__(self, app: object) -> None:
        self.seen: list[int] = []
        self.deliveries: list[Delivery[Event]] = []
        self.changed = trio.Event()
        self.may_go_on = trio.Event()
        self.may_go_on.set()
        self.fails: Callable[[int], bool] = lambda _: False

    async def handle_event(self, event: Order) -> None:
        self.seen.append(event.number)
        self.deliveries.append(current_delivery())
        self.changed.set()
        self.changed = trio.Event()
        await self.may_go_on.wait()
        if self.fails(event.number):
            raise ValueError("no")

    async def until(self, condition: Callable[[list[int]], bool]) -> None:
        """Wait until the condition holds for the seen numbers."""
        with trio.fail_after(PATIENCE):
            while not condition(self.seen):
                await self.changed.wait()


class Peer(ABC):
    """The server that a connector speaks to, in a process of the tests' own."""

    port: int

    @abstractmethod
    def settings(self, **others: object) -> Table:
        """The settings with which a connector finds this server."""

    @abstractmethod
    async def start(self) -> None:
        """Start the server, or start it again with its disk as it is; returns when it answers."""

    @abstractmethod
    async def kill(self) -> None:
        """Kill the server at once."""

    @abstractmethod
    def pause(self) -> None:
        """Make the server hang."""

    @abstractmethod
    def resume(self) -> None:
        """Make the server go on."""


class Server(Peer):
    """A real broker, in a process of the tests' own, with a bare client."""

    @abstractmethod
    def through(self, port: int) -> Table:
        """The same settings, with another port of this machine."""

    @abstractmethod
    def with_password(self, password: str) -> Table:
        """The same settings, with a user and a password."""

    @abstractmethod
    async def allow(self, password: str | None) -> None:
        """Admit that user with this password; None revokes it, and cuts the user's connections."""

    @abstractmethod
    async def send(self, messages: Sequence[Message]) -> None:
        """Send messages to the broker."""

    @abstractmethod
    async def messages(self) -> list[Message]:
        """All messages that the broker has."""

    @abstractmethod
    async def unacknowledged(self) -> int:
        """The number of messages that were delivered and not acknowledged."""

    @abstractmethod
    async def limit(self) -> int:
        """Set a limit to the size of messages; returns the limit in bytes."""

    @abstractmethod
    async def dead(self) -> list[tuple[Message, str]]:
        """The dead letters, each with its reason."""


class Proxy:
    """A proxy that carries bytes between a client and a server until it is cut."""

    def __init__(self, port: int) -> None:
        self._server = port
        self._open: set[trio.SocketStream] = set()
        self.port = 0

    @asynccontextmanager
    async def serving(self) -> AsyncGenerator[Proxy]:
        """Listen at `port`."""
        async with trio.open_nursery() as nursery:
            (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
            self.port = listener.socket.getsockname()[1]
            await nursery.start(trio.serve_listeners, self._carry, [listener])
            yield self
            nursery.cancel_scope.cancel()

    async def _carry(self, stream: trio.SocketStream) -> None:
        other = await trio.open_tcp_stream("127.0.0.1", self._server)
        self._open |= {stream, other}
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._copy, stream, other, nursery.cancel_scope)
                nursery.start_soon(self._copy, other, stream, nursery.cancel_scope)
        finally:
            self._open -= {stream, other}
            stream.socket.close()
            other.socket.close()

    async def _copy(
        self, source: trio.SocketStream, target: trio.SocketStream, scope: trio.CancelScope
    ) -> None:
        try:
            while data := await source.receive_some(65536):
                await target.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # It was cut.
        scope.cancel()

    def cut(self) -> int:
        """Cut every connection; returns how many there were."""
        cut = len(self._open) // 2
        for stream in self._open:
            stream.socket.close()
        return cut


def plain(number: int) -> Message:
    """An order as JSON, without any attribute."""
    return Message(json.dumps({"number": number}).encode(), {})


def binary(number: int, **attributes: str) -> Message:
    """An order as a CloudEvent whose attributes are headers."""
    given = {"specversion": "1.0", "id": f"o-{number}", "source": "shop", "type": "order"}
    headers = {f"ce-{name}": value for name, value in {**given, **attributes}.items()}
    return Message(plain(number).body, {"content-type": "application/json", **headers})


def structured(number: int, **attributes: str) -> Message:
    """An order as a CloudEvent that is one document."""
    given = {"specversion": "1.0", "id": f"o-{number}", "source": "shop", "type": "order"}
    document = {**given, **attributes, "data": {"number": number}}
    headers = {"content-type": "application/cloudevents+json"}
    return Message(json.dumps(document).encode(), headers)


def text_of(logs: Sequence[Mapping[str, Any]]) -> str:
    """The text of all log entries."""
    return "\n".join(map(repr, logs))


@attrs.frozen
class Certificate:
    """A certificate for 127.0.0.1, from an authority that nobody trusts."""

    key: Path
    certificate: Path
    authority: Path

    @classmethod
    def made_in(cls, directory: Path) -> Certificate:
        """Make a certificate, in files of these names."""
        authority = trustme.CA()
        issued = authority.issue_cert("127.0.0.1")
        made = cls(*(directory / f"{name}.pem" for name in ("key", "certificate", "authority")))
        issued.private_key_pem.write_to_path(made.key)
        issued.cert_chain_pems[0].write_to_path(made.certificate)
        authority.cert_pem.write_to_path(made.authority)
        return made


async def becomes(wanted: object, ask: Callable[[], Awaitable[object]]) -> None:
    """Wait until the broker's answer is the wanted one."""
    with trio.fail_after(PATIENCE):
        while await ask() != wanted:
            await trio.sleep(0.02)


async def until_accepted(runtime: Runtime, plugin: str, count: int) -> None:
    """Wait until an inbox has taken in so many events.

    A broker may count a message as delivered while it is on its way to a program, which cannot
    give it back yet.
    """
    with trio.fail_after(PATIENCE):
        while runtime.statistics()[plugin].accepted < count:
            await trio.sleep(0.02)


async def until_trouble(runtime: Runtime, plugin: str, *words: str) -> None:
    """Wait until a plugin is degraded for a reason with these words."""
    with trio.fail_after(PATIENCE):
        while not all(word in (runtime.hosts[plugin].trouble or "") for word in words):
            await trio.sleep(0.02)


def revealed(value: Any) -> Any:
    """A setting as the operator wrote it: a secret as its text, in tables and arrays, too."""
    match value:
        case Secret():
            return value.reveal()
        case {**table}:
            return {key: revealed(inner) for key, inner in table.items()}
        case [*array]:
            return [revealed(inner) for inner in array]
        case _:
            return value


async def until_handled(runtime: Runtime, plugin: str, count: int) -> None:
    """Wait until a plugin has handled `count` events."""
    with trio.fail_after(PATIENCE):
        while runtime.statistics()[plugin].handled < count:
            await trio.sleep(0.01)


async def number_of_dead(server: Server) -> int:
    """The number of dead letters."""
    return len(await server.dead())


async def readiness(runtime: Runtime) -> int:
    """The status that `/readyz` answers with."""
    return (await client(runtime).get("/readyz")).status_code


class Contract:
    """The tests of a connector: derive `Test…` from it, with the plugins and a fixture `server`."""

    source: ClassVar[type[BrokerSource]]
    sink: ClassVar[type[BrokerSink]]

    def reading(
        self,
        server: Server,
        *plugins: type[Plugin],
        table: Table | None = None,
        types: Sequence[type[Event]] = (),
        **settings: object,
    ) -> AbstractAsyncContextManager[Runtime]:
        """A program with the source and its subscribers."""
        given = {**(table or server.settings()), "event": "order", "reconnect_max": 0.2, **settings}
        if given["event"] is None:
            del given["event"]
        return open_plugins(
            self.source,
            *(plugins or (Billing,)),
            settings={self.source.name: given},
            event_types=types,
        )

    def sending(
        self,
        server: Server,
        *,
        table: Table | None = None,
        types: Sequence[type[Event]] = (Order,),
        **settings: object,
    ) -> AbstractAsyncContextManager[Runtime]:
        """A program with the sink."""
        given = {**(table or server.settings()), "reconnect_max": 0.2, **settings}
        given.setdefault("delivery", {"events": ["order"]})
        return open_plugins(
            self.sink, event_types=types, settings={self.sink.name: given}, service="shop"
        )

    # On the wire.

    async def test_plain_json_becomes_an_event(self, server: Server) -> None:
        """A message of JSON is an event of the type that the settings name, with an id of its
        own."""
        await server.send([plain(1), plain(2)])
        async with self.reading(server) as runtime:
            billing = runtime.get(Billing)
            await billing.until(lambda seen: len(seen) == 2)
            assert billing.seen == [1, 2]
            assert len({delivery.id for delivery in billing.deliveries}) == 2

    @pytest.mark.parametrize("write", [binary, structured])
    async def test_a_cloudevent_brings_its_envelope(
        self, server: Server, write: Callable[..., Message]
    ) -> None:
        """In either mode the attributes become the event's id, source, time, key and trace."""
        trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        attributes = {"time": "2025-01-31T12:00:00Z", "partitionkey": "k", "traceparent": trace}
        await server.send([write(1, **attributes)])
        async with self.reading(server) as runtime:
            billing = runtime.get(Billing)
            await billing.until(bool)
        (delivery,) = billing.deliveries
        assert delivery.event == Order(1)
        assert (delivery.id, delivery.source) == ("o-1", "shop")
        assert (delivery.key, delivery.traceparent) == ("k", trace)
        assert delivery.time.isoformat() == "2025-01-31T12:00:00+00:00"

    async def test_a_cloudevent_says_its_type(self, server: Server) -> None:
        """Without `event` the attribute `type` decides, and a message without it cannot be read."""
        await server.send([binary(1), plain(2)])
        async with self.reading(server, event=None) as runtime:
            await runtime.get(Billing).until(bool)
            await becomes(1, lambda: number_of_dead(server))
            assert runtime.get(Billing).seen == [1]

    async def test_events_of_the_program_itself_are_no_messages(self, server: Server) -> None:
        """A message whose type is the program's own is a dead letter, and reaches no plugin."""
        forged = ["plugin_status_event", "monitoring_event", "sending_event", "order_audited"]
        forged.append("operator_action_event")
        await server.send([*(binary(1, type=name) for name in forged), binary(2)])
        async with self.reading(server, types=[OrderAudited], event=None) as runtime:
            await runtime.get(Billing).until(bool)
            await becomes(len(forged), lambda: number_of_dead(server))
            assert runtime.get(Billing).seen == [2]
        for _, reason in await server.dead():
            assert "no event type that may come from outside" in reason

    async def test_a_type_that_the_operator_closes_again(self, server: Server) -> None:
        """A source with a type of the program's own takes its messages as long as it is open."""
        seen: list[int] = []
        has_seen = trio.Event()

        class Auditing(EventPlugin[OrderAudited]):
            async def handle_event(self, event: OrderAudited) -> None:
                seen.append(event.number)
                has_seen.set()

        settings = server.settings() | {"event": "order_audited", "reconnect_max": 0.2}
        async with open_plugins(
            self.source,
            Auditing,
            settings={self.source.name: settings},
            event_types=[Order, OrderAudited],
            open_events=["order_audited"],
        ) as runtime:
            await server.send([plain(1)])
            with trio.fail_after(PATIENCE):
                await has_seen.wait()
            runtime.events.become(EventTypes([Order, OrderAudited]))  # As a reload does it.
            await server.send([plain(2), plain(3)])
            await becomes(2, lambda: number_of_dead(server))
            assert seen == [1]

    @pytest.mark.parametrize("format", ["binary", "structured"])
    async def test_a_source_reads_a_sinks_messages(self, server: Server, format: str) -> None:
        """Event and envelope arrive as they were published."""
        async with self.sending(server, format=format) as runtime:
            await runtime.publish(Order(1), id="o-1", key="k", wait=True)
        async with self.reading(server) as runtime:
            billing = runtime.get(Billing)
            await billing.until(bool)
        (delivery,) = billing.deliveries
        facts = (delivery.event, delivery.id, delivery.source, delivery.key)
        assert facts == (Order(1), "o-1", "shop", "k")

    async def test_a_sink_sends_plain_json_where_told_to(self, server: Server) -> None:
        """With the format `json` a message is the data of the event."""
        async with self.sending(server, format="json") as runtime:
            await runtime.publish(Order(1), wait=True)
        (message,) = await server.messages()
        assert json.loads(message.body) == {"number": 1}
        assert not [name for name in message.headers if name.startswith("ce-")]

    # At least once.

    async def test_a_message_is_acknowledged_when_its_event_is_handled(
        self, server: Server
    ) -> None:
        """The broker counts a message as unacknowledged until the last subscriber is done with
        it."""

        class Audit(Billing):
            pass

        await server.send([plain(1)])
        async with self.reading(server, Billing, Audit) as runtime:
            runtime.get(Audit).may_go_on = trio.Event()
            await runtime.get(Audit).until(bool)
            await runtime.get(Billing).until(bool)
            assert await server.unacknowledged() == 1
            runtime.get(Audit).may_go_on.set()
            await becomes(0, server.unacknowledged)

    async def test_a_message_is_acknowledged_when_its_event_is_on_the_disk(
        self, server: Server, tmp_path: Path
    ) -> None:
        """A durable subscriber has its own copy from then on, however long its handler takes."""
        await server.send([plain(1)])
        given = {**server.settings(), "event": "order"}
        async with open_plugins(
            self.source,
            Billing,
            settings={self.source.name: given, "billing": {"delivery": {"durable": True}}},
            store=StoreSettings(path=tmp_path / "store.sqlite3"),
        ) as runtime:
            runtime.get(Billing).may_go_on = trio.Event()
            await runtime.get(Billing).until(bool)
            await becomes(0, server.unacknowledged)
            assert runtime.statistics()["billing"].in_flight == 1
            runtime.get(Billing).may_go_on.set()

    async def test_back_pressure_reaches_the_broker(self, server: Server) -> None:
        """Messages without room stay in the broker, and `prefetch` bounds the messages in
        flight."""
        await server.send([plain(number) for number in range(1000)])
        narrow = {"delivery": {"buffer": 8}}
        given = {**server.settings(), "event": "order", "prefetch": 20}
        async with open_plugins(
            self.source, Billing, settings={self.source.name: given, "billing": narrow}
        ) as runtime:
            billing = runtime.get(Billing)
            billing.may_go_on = trio.Event()
            await billing.until(bool)
            await becomes(9, server.unacknowledged)  # One with the handler, eight behind it.
            assert runtime.statistics()["billing"].rejected == 0
            billing.may_go_on.set()
            await billing.until(lambda seen: len(seen) == 1000)
            assert billing.seen == list(range(1000))
            await becomes(0, server.unacknowledged)

    async def test_at_most_prefetch_messages_are_in_flight(self, server: Server) -> None:
        """Even with room for all messages only `prefetch` are fetched."""
        await server.send([plain(number) for number in range(100)])
        async with self.reading(server, prefetch=20) as runtime:
            billing = runtime.get(Billing)
            billing.may_go_on = trio.Event()
            await billing.until(bool)
            await becomes(20, server.unacknowledged)
            billing.may_go_on.set()
            await billing.until(lambda seen: len(seen) == 100)

    async def test_an_unreadable_message_is_a_dead_letter(self, server: Server) -> None:
        """An unreadable message is dead with its reason and acknowledged, and later ones are
        handled."""
        bad = [Message(b"{", {}), Message(b"{}", {}), Message(b"x", {"content-type": "text/plain"})]
        await server.send([*bad, plain(1)])
        async with self.reading(server) as runtime:
            await runtime.get(Billing).until(bool)
            await becomes(3, lambda: number_of_dead(server))
            await becomes(0, server.unacknowledged)
        dead = await server.dead()
        assert [message.body for message, _ in dead] == [message.body for message in bad]
        assert "number" in dead[1][1]
        assert "text/plain" in dead[2][1]

    async def test_a_failed_message_comes_again_until_its_limit(self, server: Server) -> None:
        """A poison message becomes a dead letter at the limit, and holds up no other message."""
        await server.send([plain(number) for number in range(10)])
        async with self.reading(server, delivery_limit=3, visibility=QUICK) as runtime:
            billing = runtime.get(Billing)
            billing.fails = lambda number: number == 0
            await billing.until(lambda seen: set(seen) == set(range(10)))
            await becomes(1, lambda: number_of_dead(server))
            await becomes(0, server.unacknowledged)
            assert billing.seen.count(0) == 3
            assert len(billing.seen) == 12
        ((message, reason),) = await server.dead()
        assert json.loads(message.body) == {"number": 0}
        assert "billing" in reason

    async def test_a_retry_goes_to_the_failed_subscriber_alone(self, server: Server) -> None:
        """The subscriber that failed gets the event again, and the other subscriber does not."""

        class Audit(Billing):
            pass

        await server.send([plain(1)])
        async with self.reading(server, Billing, Audit, visibility=QUICK) as runtime:
            audit = runtime.get(Audit)
            audit.fails = lambda _: len(audit.seen) == 1
            await audit.until(lambda seen: len(seen) == 2)
            await becomes(0, server.unacknowledged)
            assert runtime.get(Billing).seen == [1]

    # One message costs no other.

    async def test_an_event_that_cannot_be_written(self, server: Server) -> None:
        """An event that cannot be written fails alone, and the others of its batch are sent
        once."""
        bad: list[object] = [
            {"\ud800": 1},
            "\ud800",
            Endless(),
            {Endless(): 1},
            math.nan,
            [math.inf],
        ]
        async with self.sending(server, delivery=TOGETHER_IN_NOTES, types=[Note]) as runtime:
            await runtime.publish(Note(0))
            for wrong in bad:
                await runtime.publish(Note(1, wrong))
            await runtime.publish(Note(1), id="\ud800")
            await runtime.publish(Note(1), source="\ud800")
            await runtime.publish(Note(1), key="\ud800")
            await runtime.publish(Note(2), wait=True)
            statistics = runtime.statistics()[self.sink.name]
            assert (statistics.handled, statistics.failed) == (2, len(bad) + 3)
            assert await readiness(runtime) == 200
        assert [json.loads(each.body)["number"] for each in await server.messages()] == [0, 2]

    async def test_an_event_for_the_end_of_all_time(self, server: Server) -> None:
        """A deadline beyond the calendar costs no event, not even its own."""
        async with self.sending(server) as runtime:
            await runtime.publish(Order(0), deadline=1e15)
            await runtime.publish(Order(1), deadline=trio.current_time() + 250_000_000_000)
            await runtime.publish(Order(2), wait=True)
            assert runtime.statistics()[self.sink.name].handled == 3
        async with self.reading(server) as runtime:
            await runtime.get(Billing).until(lambda seen: seen == [0, 1, 2])

    async def test_an_event_that_is_larger_than_the_broker_takes(self, server: Server) -> None:
        """An event that is too large fails alone, and the others are sent once."""
        text = "x" * (await server.limit() + 1)
        async with self.sending(server, delivery=TOGETHER_IN_NOTES, types=[Note]) as runtime:
            for number in range(7):
                await runtime.publish(Note(number, text if number == 3 else ""))
            await runtime.publish(Note(7, text), wait=True)
            await runtime.publish(Note(8), wait=True)
            statistics = runtime.statistics()[self.sink.name]
            assert (statistics.handled, statistics.failed) == (7, 2)
            await becomes(200, lambda: readiness(runtime))
        sent = [json.loads(each.body)["number"] for each in await server.messages()]
        assert sent == [0, 1, 2, 4, 5, 6, 8]

    async def test_an_event_type_that_refuses_a_message(self, server: Server) -> None:
        """Only the message that a type's own check refuses becomes a dead letter."""

        class Buyer(EventPlugin[Picky]):
            def __init__(self, app: object) -> None:
                self.seen: list[int] = []

            async def handle_event(self, event: Picky) -> None:
                self.seen.append(event.number)

        await server.send([plain(number) for number in range(6)])
        async with self.reading(server, Buyer, event="picky") as runtime:
            await becomes(4, lambda: number_of_dead(server))
            await becomes(0, server.unacknowledged)
            assert runtime.get(Buyer).seen == [0, 5]
            assert await readiness(runtime) == 200
        assert {json.loads(dead.body)["number"] for dead, _ in await server.dead()} == {1, 2, 3, 4}

    async def test_an_event_that_can_never_be_stored(self, server: Server, tmp_path: Path) -> None:
        """The message becomes a dead letter at once, with the subscriber's reason, and holds up no
        other."""

        class Vague(Event):
            number: int
            text: Any = math.nan

        class Keeper(EventPlugin[Vague]):
            delivery = DeliverySettings(durable=True)

            def __init__(self, app: object) -> None:
                self.seen: list[int] = []

            async def handle_event(self, event: Vague) -> None:
                self.seen.append(event.number)

        good = [Message(b'{"number":%d,"text":"x"}' % number, {}) for number in (1, 2)]
        await server.send([plain(0), good[0], plain(0), good[1]])
        given = {**server.settings(), "event": "vague"}
        async with open_plugins(
            self.source,
            Keeper,
            settings={self.source.name: given},
            store=StoreSettings(path=tmp_path / "store.sqlite3"),
        ) as runtime:
            await becomes(2, lambda: number_of_dead(server))
            await becomes(0, server.unacknowledged)
            assert runtime.get(Keeper).seen == [1, 2]
            assert await readiness(runtime) == 200
        assert all("keeper cannot take it" in reason for _, reason in await server.dead())

    async def test_an_event_that_nobody_listens_to(self, server: Server) -> None:
        """The message becomes a dead letter at once, and holds up no other."""
        await server.send([binary(1, type="order_parked"), binary(2)])
        async with self.reading(server, types=[OrderParked], event=None) as runtime:
            await runtime.get(Billing).until(bool)
            await becomes(1, lambda: number_of_dead(server))
            await becomes(0, server.unacknowledged)
            assert await readiness(runtime) == 200
        ((_, reason),) = await server.dead()
        assert "no active plugin listens to 'order_parked'" in reason

    async def test_envelopes_that_make_no_sense(self, server: Server) -> None:
        """Each such message is a dead letter or an event, and later ones are handled."""
        ends, begins = "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59"
        odd: list[dict[str, str]] = [
            {"id": ""},
            {"id": "x" * 40_000},
            {"source": "\x00"},
            {"specversion": "2.0"},
            {"type": "y" * 20_000},
            *({name: each} for name in ("time", "expirytime") for each in (ends, begins, "noon")),
            {"traceparent": "00-zz"},
            {"partitionkey": "", "subject": ""},
        ]
        written = [write(1, **each) for each in odd for write in (binary, structured)]
        surrogate = structured(1).body.replace(b"o-1", b"\\ud800")
        await server.send([*written, Message(surrogate, structured(1).headers), binary(2)])
        async with self.reading(server, event=None) as runtime:
            await runtime.get(Billing).until(lambda seen: 2 in seen)
            await becomes(0, server.unacknowledged)
            assert await readiness(runtime) == 200
        reasons = [reason for _, reason in await server.dead()]
        assert len(reasons) >= 9
        assert max(map(len, reasons)) < 1000

    async def test_a_wait_for_room_is_told(
        self, server: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """After long without progress `/readyz` says which subscriber has no room, until it has."""
        monkeypatch.setattr("trivet_contrib._brokers._source.BLOCKED", 0.2)
        await server.send([plain(number) for number in range(9)])
        given = {**server.settings(), "event": "order"}
        narrow = {"delivery": {"buffer": 2}}
        async with open_plugins(
            self.source, Billing, settings={self.source.name: given, "billing": narrow}
        ) as runtime:
            billing = runtime.get(Billing)
            billing.may_go_on = trio.Event()
            await becomes(503, lambda: readiness(runtime))
            assert "order" in (runtime.hosts[self.source.name].trouble or "")
            billing.may_go_on.set()
            await billing.until(lambda seen: len(seen) == 9)
            await becomes(200, lambda: readiness(runtime))

    async def test_dead_letters_are_not_put_where_they_come_from(self, server: Server) -> None:
        """The source's own stream or queue is refused: the dead letters would come again for
        ever."""
        table = server.settings()
        own = table.get("stream") or table["queue"]
        with pytest.raises(ConfigurationError, match=rf"{self.source.name}\.dead_letters: "):
            async with self.reading(server, dead_letters=own):
                pass

    # A stop.

    async def test_a_stop_gives_back_unfinished_messages(self, server: Server) -> None:
        """The next program gets the messages in flight at once, uncounted, and none is lost."""
        await server.send([plain(number) for number in range(50)])
        async with self.reading(server, prefetch=10, drain=0.1, delivery_limit=1) as runtime:
            first = runtime.get(Billing)
            first.may_go_on = trio.Event()
            await first.until(bool)
            await until_accepted(runtime, "billing", 10)
            await becomes(10, server.unacknowledged)
            runtime.hurry()
        async with self.reading(server, delivery_limit=1) as runtime:
            second = runtime.get(Billing)
            await second.until(lambda seen: set(seen) == set(range(50)))
            await becomes(0, server.unacknowledged)
        assert await server.dead() == []

    async def test_a_stop_waits_a_little_for_messages_in_flight(self, server: Server) -> None:
        """A message that ends within `drain` is acknowledged, and does not come again."""
        await server.send([plain(number) for number in range(5)])
        async with self.reading(server) as runtime:
            billing = runtime.get(Billing)
            billing.may_go_on = trio.Event()
            await billing.until(bool)
            await becomes(5, server.unacknowledged)
            billing.may_go_on.set()
        assert await server.unacknowledged() == 0
        assert billing.seen == list(range(5))

    # A broker that is unavailable.

    async def test_a_source_outlives_its_broker(self, server: Server) -> None:
        """While the broker is killed `/readyz` says so, and after its return all its messages are
        handled."""
        await server.send([binary(number) for number in range(400)])
        async with self.reading(server, prefetch=20) as runtime:
            billing = runtime.get(Billing)
            await billing.until(lambda seen: len(seen) > 100)
            billing.may_go_on = trio.Event()
            await server.kill()
            billing.may_go_on.set()
            await becomes(503, lambda: readiness(runtime))
            await server.start()
            await becomes(200, lambda: readiness(runtime))
            await billing.until(lambda seen: set(seen) == set(range(400)))
            await becomes(0, server.unacknowledged)

    async def test_a_sinks_events_wait_for_its_broker(self, server: Server) -> None:
        """Events stay in the inbox while the broker is unavailable, and are sent after its
        return."""
        async with self.sending(server) as runtime:
            await runtime.publish(Order(0), wait=True)
            await server.kill()
            for number in range(1, 300):
                await runtime.publish(Order(number))
            await becomes(503, lambda: readiness(runtime))
            statistics = runtime.statistics()[self.sink.name]
            assert statistics.queued + statistics.in_flight == 299
            await server.start()
            await becomes(200, lambda: readiness(runtime))
        assert await _numbers(server) == set(range(300))

    async def test_unsent_events_of_a_durable_sink_wait_for_the_next_start(
        self, server: Server, tmp_path: Path
    ) -> None:
        """A stop without the broker keeps the events, and the next program sends them."""
        store = StoreSettings(path=tmp_path / "store.sqlite3")
        delivery = {"events": ["order"], "durable": True}
        table = {**server.settings(), "reconnect_max": 0.2, "delivery": delivery}

        def program() -> AbstractAsyncContextManager[Runtime]:
            settings = {self.sink.name: table}
            return open_plugins(self.sink, event_types=[Order], settings=settings, store=store)

        await server.kill()
        async with program() as runtime:
            for number in range(20):
                await runtime.publish(Order(number))
            runtime.hurry()
        await server.start()
        async with program() as runtime:
            await until_handled(runtime, self.sink.name, 20)
        assert await _numbers(server) == set(range(20))

    async def test_a_stop_while_the_broker_is_away(self, server: Server) -> None:
        """The stop ends in time, logs the messages that it could not give back, and they come
        again."""
        await server.send([plain(number) for number in range(5)])
        with capture_logs() as logs:
            async with self.reading(server, drain=0, visibility=QUICK) as runtime:
                billing = runtime.get(Billing)
                billing.may_go_on = trio.Event()
                await billing.until(bool)
                await becomes(5, server.unacknowledged)
                await server.kill()
                runtime.hurry()
        assert "messages could not be given back" in [entry["event"] for entry in logs]
        await server.start()
        async with self.reading(server, visibility=QUICK) as runtime:
            await runtime.get(Billing).until(lambda seen: set(seen) == set(range(5)))

    async def test_programs_start_without_their_broker(self, server: Server) -> None:
        """A program starts without its broker, and waits for it."""
        await server.kill()
        async with self.reading(server) as runtime, self.sending(server) as other:
            await becomes(503, lambda: readiness(runtime))
            await other.publish(Order(1))
            await server.start()
            await runtime.get(Billing).until(bool)
            await becomes(200, lambda: readiness(runtime))

    async def test_a_broker_that_stands_still(self, server: Server) -> None:
        """A broker that accepts connections and answers nothing counts as unavailable."""
        table = {**server.settings(), "timeout": 0.3}
        async with (
            self.reading(server, table=table) as runtime,
            self.sending(server, table=table) as other,
        ):
            await other.publish(Order(0), wait=True)
            await runtime.get(Billing).until(bool)
            server.pause()
            await other.publish(Order(1))
            await becomes(503, lambda: readiness(runtime))
            await becomes(503, lambda: readiness(other))
            server.resume()
            await runtime.get(Billing).until(lambda seen: 1 in seen)
            await becomes(200, lambda: readiness(runtime))
            await becomes(200, lambda: readiness(other))
            await becomes(0, server.unacknowledged)

    async def test_connections_that_are_cut_lose_nothing(self, server: Server) -> None:
        """Connections that are cut again and again in the middle of a stream lose no event."""
        patient = {"events": ["order"], "block_for": 30}  # A connection may take its time.
        async with Proxy(server.port).serving() as proxy:
            table = server.through(proxy.port)
            async with (
                self.reading(server, table=table, prefetch=50) as runtime,
                self.sending(server, table=table, delivery=patient) as other,
            ):
                billing = runtime.get(Billing)
                cut = 0
                for number in range(2000):
                    await other.publish(Order(number))
                    if number % 400 == 200:
                        await billing.until(lambda seen: len(set(seen)) > 100)
                        cut += proxy.cut()
                assert cut
                await billing.until(lambda seen: set(seen) == set(range(2000)))
                await becomes(0, server.unacknowledged)

    # Wrong settings.

    async def test_wrong_credentials_are_said_with_their_setting(self, server: Server) -> None:
        """The program does not start, and the error names the setting and no password."""
        await server.allow(PASSWORD)
        for opened, name in (
            (self.reading(server, table=server.with_password("wr0ng")), self.source.name),
            (self.sending(server, table=server.with_password("wr0ng")), self.sink.name),
        ):
            with capture_logs() as logs, pytest.raises(StartError) as caught:
                async with opened:
                    pass
            assert f"plugins.{name}.{self.credentials}" in str(caught.value)
            assert "wr0ng" not in str(caught.value) + text_of(logs)

    credentials: ClassVar[str]
    """The setting that holds the password."""

    async def test_credentials_that_are_revoked(self, server: Server) -> None:
        """While the credentials are revoked `/readyz` says so, without a password."""
        await server.allow(PASSWORD)
        table = server.with_password(PASSWORD)
        with capture_logs() as logs:
            async with (
                self.reading(server, table=table) as runtime,
                self.sending(server, table=table) as other,
            ):
                await other.publish(Order(0), wait=True)
                await runtime.get(Billing).until(bool)
                await server.allow(None)
                await other.publish(Order(1))
                await becomes(503, lambda: readiness(runtime))
                await becomes(503, lambda: readiness(other))
                trouble = f"{runtime.hosts[self.source.name].trouble}"
                await server.allow(PASSWORD)
                await runtime.get(Billing).until(lambda seen: 1 in seen)
                await becomes(200, lambda: readiness(runtime))
        assert trouble
        assert PASSWORD not in text_of(logs) + trouble

    async def test_the_password_is_not_shown(self, server: Server) -> None:
        """Neither the `repr` of a plugin nor its HTTP status shows the password."""
        await server.allow(PASSWORD)
        table = server.with_password(PASSWORD)
        async with self.reading(server, table=table) as runtime:
            shown = await (await client(runtime).get("/plugins")).get_data(as_text=True)
            assert PASSWORD not in shown + repr(runtime.get(self.source))
        async with self.sending(server, table=table) as runtime:
            assert PASSWORD not in repr(runtime.get(self.sink))

    async def test_a_missing_thing_is_an_error_with_its_setting(self, server: Server) -> None:
        """A missing stream, queue or subject is an error, unless the settings let it be made."""
        setting, table = self.missing(server)
        for opened, name in (
            (self.reading(server, table=table), self.source.name),
            (self.sending(server, table=table), self.sink.name),
        ):
            with pytest.raises(StartError, match=rf"plugins\.{name}\.{setting}: .*missing"):
                async with opened:
                    pass

    def missing(self, server: Server) -> tuple[str, Table]:
        """A setting, and a table in which it names `missing`, which does not exist."""
        raise NotImplementedError

    async def test_an_event_that_nobody_knows_or_wants(self, server: Server) -> None:
        """A source without any subscriber does not start, and the error names the setting."""

        class Other(EventPlugin[PluginStatusEvent]):
            async def handle_event(self, event: PluginStatusEvent) -> None:
                pass

        place = rf"plugins\.{self.source.name}\.event"
        with pytest.raises(ConfigurationError, match=f"{place}: .* did you mean 'order'"):
            async with self.reading(server, event="odrer"):
                pass
        for name, said in (
            ("order_parked", "no active plugin listens to"),
            ("plugin_status_event", ".* is the program's own; .*open_events"),
            ("order_audited", ".* is the program's own; .*open_events"),
        ):
            with pytest.raises(StartError, match=f"{place}: {said}"):
                async with self.reading(
                    server, Other, types=[OrderParked, OrderAudited], event=name
                ):
                    pass

    # The README's sample.

    async def test_the_readmes_settings_work(self, server: Server, tmp_path: Path) -> None:
        """The README's sample starts both plugins by name, with the settings that it shows."""
        package = inspect.getfile(self.source)
        readme = Path(package).with_name("README.md").read_text()
        (block,) = re.findall(r"^```toml\n(.*?)^```", readme, re.DOTALL | re.MULTILINE)
        await server.allow(PASSWORD)
        sample = await self.sample_for(server, block)
        sample = sample.replace('_sink"]', '_sink", "listener"]')
        (tmp_path / "plugins").mkdir()
        (tmp_path / "plugins" / "listener.py").write_text(LISTENER)
        (tmp_path / "trivet.toml").write_text(sample)
        async with open_runtime(load_settings(tmp_path / "trivet.toml", environ={})) as runtime:
            for cls in (self.source, self.sink):
                plugin, table = runtime.get(cls), tomllib.loads(sample)["plugins"][cls.name]
                table.pop("delivery", None)
                if "event" in table:
                    table["event"] = runtime.events[table["event"]]
                assert {name: revealed(getattr(plugin, name)) for name in table} == table

    async def sample_for(self, server: Server, sample: str) -> str:
        """The README's sample with the address of this server."""
        raise NotImplementedError

    # Several programs.

    async def test_replicas_share_the_work(self, server: Server) -> None:
        """Two programs in one group handle each message once between them."""
        async with (
            self.reading(server, prefetch=10) as one,
            self.reading(server, prefetch=10) as two,
        ):
            billings = [one.get(Billing), two.get(Billing)]
            for billing in billings:
                billing.may_go_on = trio.Event()
            await server.send([plain(number) for number in range(200)])
            for billing in billings:
                await billing.until(bool)
            for billing in billings:
                billing.may_go_on.set()
            await becomes(0, server.unacknowledged)
            seen = [number for billing in billings for number in billing.seen]
            assert sorted(seen) == list(range(200))


LISTENER = """
from trivet import EventPlugin, SendingEvent

class Listener(EventPlugin[SendingEvent]):
    async def handle_event(self, event: SendingEvent) -> None:
        pass
"""


async def _numbers(server: Server) -> set[int]:
    """The numbers of the orders that the broker has."""
    return {json.loads(message.body)["number"] for message in await server.messages()}
