# pyright: reportUnknownMemberType=false
# nats-py has keywords without types.

from __future__ import annotations

import json
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import cast

import pytest
import trio
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DiscardPolicy,
    RePublish,
    RetentionPolicy,
    StorageType,
    StreamSource,
)
from structlog.testing import capture_logs

from trivet import (
    ConfigurationError,
    Event,
    Fate,
    Plugin,
    Runtime,
    StartError,
)
from trivet._faults._masking import mask
from trivet.testing import open_plugins
from trivet_contrib._brokers._client import Message
from trivet_contrib.nats import NatsSink, NatsSource
from trivet_contrib.nats._messages import received

from .nats_keys import Key, WithOperator
from .nats_server import CONSUMER, MAX_PAYLOAD, STREAM, NatsServer, nats_server, needs_nats, running
from .suite import (
    QUICK,
    Billing,
    Certificate,
    Contract,
    Order,
    Proxy,
    Server,
    Table,
    becomes,
    binary,
    number_of_dead,
    plain,
    text_of,
    until_accepted,
    until_handled,
    until_trouble,
)

pytestmark = [pytest.mark.broker, needs_nats]


class TestNats(Contract):
    source = NatsSource
    sink = NatsSink
    credentials = "url"

    @pytest.fixture
    async def server(self, tmp_path: Path) -> AsyncGenerator[Server]:
        """A nats-server with JetStream's files."""
        async with nats_server(tmp_path) as server:
            yield server

    def reading(
        self,
        server: Server,
        *plugins: type[Plugin],
        table: Table | None = None,
        types: Sequence[type[Event]] = (),
        **settings: object,
    ) -> AbstractAsyncContextManager[Runtime]:
        """See `Contract`. A message on its way over a broken connection comes soon."""
        settings = {"visibility": 2.0, **settings}
        return super().reading(server, *plugins, table=table, types=types, **settings)

    def missing(self, server: Server) -> tuple[str, Table]:
        """See `Contract`."""
        return "stream", cast("NatsServer", server).settings(stream="missing", create=False)

    async def sample_for(self, server: Server, sample: str) -> str:
        """See `Contract`."""
        return sample.replace("127.0.0.1:4222", f"127.0.0.1:{server.port}")


@pytest.fixture
async def server(tmp_path: Path) -> AsyncGenerator[NatsServer]:
    """The server, with the methods that only NATS needs."""
    async with nats_server(tmp_path) as server:
        yield server


def source(server: NatsServer, **others: object) -> dict[str, Table]:
    """Settings of the source."""
    table = {"event": "order", "consumer": CONSUMER, "reconnect_max": 0.2, **others}
    return {"nats_source": server.settings(**table)}


def sink(server: NatsServer, **others: object) -> dict[str, Table]:
    """Settings of the sink."""
    table = {"delivery": {"events": ["order"]}, "reconnect_max": 0.2, **others}
    return {"nats_sink": server.settings(**table)}


def sending(
    server: NatsServer, service: str = "shop", **others: object
) -> AbstractAsyncContextManager[Runtime]:
    """A program with the sink."""
    settings = sink(server, **others)
    return open_plugins(NatsSink, event_types=[Order], settings=settings, service=service)


def reading(server: NatsServer, **others: object) -> AbstractAsyncContextManager[Runtime]:
    """A program with the source."""
    return open_plugins(NatsSource, Billing, settings=source(server, **others))


async def make_consumer(server: NatsServer, **others: object) -> None:
    """Make a durable consumer, with a bare client."""
    config = ConsumerConfig(durable_name=CONSUMER).evolve(**others)
    await server.client(lambda js: js.add_consumer(STREAM, config))


async def take(server: NatsServer, count: int) -> None:
    """Pull messages with a bare client, as a program does that is then killed."""

    async def fetch(js: JetStreamContext) -> None:
        subscription = await js.pull_subscribe_bind(durable=CONSUMER, stream=STREAM)
        assert len(await subscription.fetch(count)) == count

    await server.client(fetch)


def contains(number: int, seen: list[int]) -> bool:
    """Whether the number was seen."""
    return number in seen


# On the wire.


async def test_attributes_are_percent_encoded(server: NatsServer) -> None:
    """A header holds any attribute in printable ASCII, and the attribute is read as it was."""
    async with sending(server, service="Kaffee & Tee 50 %") as runtime:
        await runtime.publish(Order(1), id="ä 1", key='"k"', wait=True)
    (message,) = await server.messages()
    assert message.headers["ce-source"] == "Kaffee%20&%20Tee%2050%20%25"
    assert message.headers["ce-id"] == "%C3%A4%201"
    assert message.headers["ce-partitionkey"] == "%22k%22"
    assert message.headers["ce-datacontenttype"] == "application/json"
    async with reading(server) as runtime:
        await runtime.get(Billing).until(bool)
    (delivery,) = runtime.get(Billing).deliveries
    facts = (delivery.id, delivery.source, delivery.key)
    assert facts == ("ä 1", "Kaffee & Tee 50 %", '"k"')


async def test_headers_as_others_write_them(server: NatsServer) -> None:
    """Header names are read in any case, and the data's type is read as an attribute."""
    headers = {
        name.title() if name != "content-type" else "ce-datacontenttype": value
        for name, value in binary(1).headers.items()
    }
    text = Message(b"x", {**headers, "ce-datacontenttype": "text/plain"})
    await server.send([Message(plain(1).body, headers), text])
    async with reading(server) as runtime:
        await runtime.get(Billing).until(bool)
        await becomes(1, lambda: number_of_dead(server))
    (delivery,) = runtime.get(Billing).deliveries
    assert (delivery.id, delivery.source) == ("o-1", "shop")
    assert "text/plain" in (await server.dead())[0][1]


async def test_a_plain_message_has_one_id(server: NatsServer) -> None:
    """A message has the same id when it comes again, and another one in a stream that was made
    again."""
    await server.send([plain(1)])
    async with reading(server, visibility=QUICK) as runtime:
        first = runtime.get(Billing)
        first.fails = lambda _: len(first.seen) == 1
        await first.until(lambda seen: len(seen) == 2)
        await becomes(0, server.unacknowledged)
    assert first.deliveries[0].id == first.deliveries[1].id
    assert first.deliveries[0].source == "nats:orders"
    await server.client(lambda js: js.delete_stream(STREAM))
    await server.make_stream()
    await server.send([plain(1)])
    async with reading(server) as runtime:
        await runtime.get(Billing).until(bool)
    assert runtime.get(Billing).deliveries[0].id != first.deliveries[0].id


async def test_a_dead_letter_has_the_message(server: NatsServer) -> None:
    """A dead letter has the body, the headers, the reason and the origin, without NATS' own ids."""
    headers = {"content-type": "text/plain", "X-Own": "1", "Nats-Msg-Id": "m-1"}
    await server.send([Message(b"x", headers)])
    async with reading(server):
        await becomes(1, lambda: number_of_dead(server))
    ((letter, reason),) = await server.dead()
    assert letter.body == b"x"
    assert letter.headers["X-Own"] == "1"
    assert letter.headers["Nats-Msg-Id"] != "m-1"
    assert letter.headers["dead-stream"] == letter.headers["dead-subject"] == STREAM
    assert letter.headers["dead-deliveries"] == "1"
    assert "text/plain" in reason


async def test_dead_letters_for_a_full_stream_go_back(server: NatsServer) -> None:
    """While the dead letters' stream is full, other messages are handled, and a stop gives back
    the messages in flight at once."""
    await server.make_stream(f"{STREAM}_dead", max_msgs=1, discard=DiscardPolicy.NEW)
    bad = [Message(b"{", {}), Message(b"[", {}), Message(b"!", {})]
    await server.send([*bad, plain(1), plain(2)])
    async with reading(server, drain=0) as runtime:
        billing = runtime.get(Billing)
        billing.may_go_on = trio.Event()
        await billing.until(bool)
        await until_trouble(runtime, "nats_source", "the stream refuses")
        runtime.hurry()
    async with reading(server, visibility=30.0) as runtime:
        await runtime.get(Billing).until(lambda seen: {1, 2} <= set(seen))
        await server.change_stream(f"{STREAM}_dead", max_msgs=10, discard=DiscardPolicy.NEW)
        await becomes(3, lambda: number_of_dead(server))
        await becomes(0, server.unacknowledged)


def with_headers(block: bytes) -> bytes:
    """The protocol line of a body of thirteen bytes."""
    return b"HPUB orders %d %d\r\n%b" % (len(block), len(block) + 13, block)


UNREADABLE = [
    b"PUB orders.Caf\xe9 13\r\n",
    with_headers(b"NATS/1.0 \xff\xff\r\n\r\n"),
    with_headers(b"NATS/1.0\r\nno colon\r\n\r\n"),
    with_headers(b"NATS/2.0\r\n\r\n"),
    with_headers(b"NATS/1."),
]
READABLE = [
    b"PUB orders.a\x0bb 13\r\n",
    b"PUB orders.\x00 13\r\n",
    b"PUB orders.%b 13\r\n" % (b"x" * 3000),
    with_headers(b"NATS/1.0\r\n\r\n"),
    with_headers(b"NATS/1.0 503\r\nCaf\xe9: 1\r\nX: \xff\r\n\r\n"),
]


async def test_messages_that_the_client_cannot_parse(tmp_path: Path) -> None:
    """Each message with an unreadable subject or header is a dead letter; others are handled."""
    frames = [*UNREADABLE, *READABLE]
    async with nats_server(tmp_path, subjects=["orders", "orders.>"]) as server:
        await server.send([plain(99)])
        for number, frame in enumerate(frames, start=10):
            await server.send_raw(frame + b'{"number":%d}\r\n' % number)
        await server.send([plain(100)])
        async with reading(server) as runtime:
            billing = runtime.get(Billing)
            await billing.until(lambda seen: 100 in seen)
            await becomes(len(UNREADABLE), lambda: number_of_dead(server))
            await becomes(0, server.unacknowledged)
        dead = {json.loads(letter.body)["number"] for letter, _ in await server.dead()}
    assert dead == set(range(10, 10 + len(UNREADABLE)))
    assert sorted(billing.seen) == [*range(10 + len(UNREADABLE), 10 + len(frames)), 99, 100]


async def test_a_header_that_cannot_be_sent_again(server: NatsServer) -> None:
    """A dead letter has the headers that can be sent, and names the others."""
    headers = with_headers(b"NATS/1.0\r\nX(1): y\r\nX-Own: z\r\n\r\n")
    await server.send_raw(headers + b"not an order!\r\n")
    await server.send([Message(b"nor is this", {}), plain(1)])
    async with reading(server) as runtime:
        await runtime.get(Billing).until(bool)
        await becomes(2, lambda: number_of_dead(server))
        await becomes(0, server.unacknowledged)
    letter = (await server.dead())[0][0]
    assert (letter.headers["X-Own"], letter.headers["dead-left-out"]) == ("z", "X(1)")


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "x",
        "$JS.ACK",
        "$JS.ACK.orders.billing.1.2.3.4",
        "$JS.ACK.orders.billing.1.x.3.4.5",
        "$JS.ACK.orders.other.1.2.3.4.5",
        "$JS.ACK.other.billing.1.2.3.4.5",
        "$JS.API.orders.billing.1.2.3.4.5",
        "$JS.ACK.hub.acc.orders.other.1.2.3.4.5.6",
    ],
)
def test_a_message_of_somebody_else(reply: str) -> None:
    """A message that another program sends to a source's inbox is none of the source's messages."""
    assert received(Msg(cast("Client", None), reply=reply), "orders", "billing") is None


@pytest.mark.parametrize("prefix", ["$JS.ACK", "$JS.ACK.hub.acc"])
def test_a_message_of_the_consumer(prefix: str) -> None:
    """Older servers name neither a domain nor an account in the reply subject."""
    message = Msg(cast("Client", None), reply=f"{prefix}.orders.billing.3.7.5.99.0.r")
    found = received(message, "orders", "billing")
    assert found is not None
    assert (found.tag, found.deliveries) == ("7-99", 3)


async def test_a_source_may_take_a_part_of_the_stream(tmp_path: Path) -> None:
    """With `subject` a source has the matching messages alone."""
    async with nats_server(tmp_path, subjects=["orders", "orders.>"]) as server:

        async def send(js: JetStreamContext) -> None:
            for number, subject in enumerate(
                ["orders", "orders.a.new", "orders.a", "orders.b.new"]
            ):
                await js.publish(subject, plain(number).body)

        await server.client(send)
        async with reading(server, subject="orders.*.new") as runtime:
            await runtime.get(Billing).until(lambda seen: len(seen) == 2)
            assert runtime.get(Billing).seen == [1, 3]


# At least once.


async def test_duplicates_are_dropped(server: NatsServer) -> None:
    """In every format NATS knows an event by its source and id, and drops duplicates."""
    for form in ("binary", "structured", "json", "binary"):
        async with sending(server, format=form) as runtime:
            await runtime.publish(Order(1), id="o-1", wait=True)
    async with sending(server, service="another") as runtime:
        await runtime.publish(Order(2), id="o-1", wait=True)
    assert [json.loads(each.body)["number"] for each in await server.messages()] == [1, 2]


async def test_messages_of_a_dead_program_are_taken_over(server: NatsServer) -> None:
    """Within the visibility other programs get the messages, and their deliveries count on."""
    await server.send([plain(number) for number in range(10)])
    await make_consumer(server, ack_wait=1)
    await take(server, 5)
    async with reading(server, visibility=1) as runtime:
        billing = runtime.get(Billing)
        await billing.until(lambda seen: len(seen) >= 5)
        assert set(billing.seen) == set(range(5, 10))
        await billing.until(lambda seen: set(seen) == set(range(10)))
        await becomes(0, server.unacknowledged)


async def test_a_message_that_kills_its_readers_is_a_dead_letter(server: NatsServer) -> None:
    """A message that was delivered up to the limit, and never acknowledged, is not read again."""
    await server.send([plain(1)])
    await make_consumer(server, ack_wait=QUICK)
    for _ in range(3):
        await take(server, 1)
    await server.send([plain(2)])
    async with reading(server, visibility=QUICK, delivery_limit=3) as runtime:
        await becomes(1, lambda: number_of_dead(server))
        await runtime.get(Billing).until(lambda seen: seen == [2])
        await becomes(0, server.unacknowledged)
    ((_, reason),) = await server.dead()
    assert reason == "delivered 3 times, and never done"


async def test_a_handler_may_take_longer_than_the_visibility(server: NatsServer) -> None:
    """A living program keeps its messages in flight, however long the handler takes."""
    await server.send([plain(1)])
    async with reading(server, visibility=QUICK) as one, reading(server, visibility=QUICK) as two:
        billings = [one.get(Billing), two.get(Billing)]
        for billing in billings:
            billing.may_go_on = trio.Event()
        await trio.sleep(6 * QUICK)  # The test is that nothing happens in this time.
        for billing in billings:
            billing.may_go_on.set()
        await becomes(0, server.unacknowledged)
        assert sum(len(billing.seen) for billing in billings) == 1


async def test_releases_of_many_stops_do_not_count(server: NatsServer) -> None:
    """Releases are subtracted from NATS' deliveries, so that the limit counts failures alone."""
    await server.send([plain(number) for number in range(20)])
    for _ in range(4):
        async with reading(server, drain=0, delivery_limit=2) as runtime:
            billing = runtime.get(Billing)
            billing.may_go_on = trio.Event()
            await until_accepted(runtime, "billing", 20)
            await becomes(20, server.unacknowledged)
            runtime.hurry()
    async with reading(server, visibility=30.0, delivery_limit=2) as runtime:
        await runtime.get(Billing).until(lambda seen: set(seen) == set(range(20)))
        await becomes(0, server.unacknowledged)
    assert await server.dead() == []


async def test_without_a_bucket_a_stop_is_blamed(server: NatsServer) -> None:
    """Without a bucket the start logs it, and a message that was given back too often is dead."""
    await server.send([plain(1)])
    await make_consumer(server, ack_wait=30)
    await server.make_stream(f"{STREAM}_dead")
    with capture_logs() as logs:
        async with reading(server, drain=0, create=False) as runtime:
            billing = runtime.get(Billing)
            billing.may_go_on = trio.Event()
            await billing.until(bool)
            runtime.hurry()
    assert "without a key-value bucket 'orders_returned'" in text_of(logs)
    async with reading(server, create=False, delivery_limit=1):
        await becomes(1, lambda: number_of_dead(server))


async def test_programs_that_stop_together_count_all(server: NatsServer) -> None:
    """Releases of two programs at one time are subtracted for both."""
    await server.send([plain(number) for number in range(20)])

    async def program() -> None:
        async with reading(server, drain=0, delivery_limit=1, prefetch=10) as runtime:
            runtime.get(Billing).may_go_on = trio.Event()
            await until_accepted(runtime, "billing", 10)
            await becomes(20, server.unacknowledged)
            runtime.hurry()

    for _ in range(3):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(program)
            nursery.start_soon(program)
    async with reading(server, delivery_limit=1) as runtime:
        await runtime.get(Billing).until(lambda seen: set(seen) == set(range(20)))
        await becomes(0, server.unacknowledged)
    assert await server.dead() == []


async def test_too_large_an_event_fails(server: NatsServer) -> None:
    """An event that NATS would not take fails, and holds up no other event."""

    class Note(Event):
        text: str

    await server.change_stream(max_msg_size=5000)
    settings = sink(server, delivery={"events": ["note"], "batch_age": 0.2})
    async with open_plugins(NatsSink, event_types=[Note], settings=settings) as runtime:
        for size in (10, MAX_PAYLOAD - 100, 5000, 20):
            await runtime.publish(Note("x" * size))
        await until_handled(runtime, "nats_sink", 2)
        assert runtime.statistics()["nats_sink"].failed == 2
        assert not runtime.hosts["nats_sink"].trouble
    assert [len(json.loads(each.body)["text"]) for each in await server.messages()] == [10, 20]


async def test_a_dead_letter_may_be_too_large(server: NatsServer) -> None:
    """Without room for the message, a dead letter keeps the reason and the size."""
    size = MAX_PAYLOAD - 50
    await server.send([Message(b"x" * size, {}), plain(1)])
    async with reading(server) as runtime:
        await becomes(1, lambda: number_of_dead(server))
        await runtime.get(Billing).until(bool)
        await becomes(0, server.unacknowledged)
    ((letter, reason),) = await server.dead()
    assert (letter.body, letter.headers["dead-size"]) == (b"", str(size))
    assert "JSON" in reason


# A server in trouble.


async def test_a_stop_while_the_server_stands_still(server: NatsServer) -> None:
    """The stop ends, and logs the messages that it could not give back."""
    await server.send([plain(1)])
    with capture_logs() as logs:
        async with reading(server, drain=0, timeout=1.0) as runtime:
            runtime.get(Billing).may_go_on = trio.Event()
            await runtime.get(Billing).until(bool)
            async with sending(server) as other:
                server.pause()
                await other.publish(Order(2))
                other.hurry()
            runtime.hurry()
    assert "messages could not be given back" in [entry["event"] for entry in logs]


async def test_a_stop_while_much_is_on_its_way(server: NatsServer) -> None:
    """Unsent bytes of a sink do not hold up its stop."""

    class Note(Event):
        text: str

    settings = sink(server, timeout=1.0, delivery={"events": ["note"], "batch_age": 1.0})
    with capture_logs() as logs:
        async with open_plugins(NatsSink, event_types=[Note], settings=settings) as runtime:
            await runtime.publish(Note("x"), wait=True)
            server.pause()
            for _ in range(256):
                await runtime.publish(Note("x" * 90_000))
            await until_trouble(runtime, "nats_sink", "no answer")
            runtime.hurry()
    assert not [entry for entry in logs if "too long" in entry["event"]]


async def test_a_lost_connection_is_no_crash(
    server: NatsServer, caplog: pytest.LogCaptureFixture
) -> None:
    """However often the connection is cut, no task of nats-py fails unheard, and it logs
    nothing."""
    async with Proxy(server.port).serving() as proxy:
        table = server.through(proxy.port)
        with capture_logs() as logs, caplog.at_level(logging.DEBUG):
            async with (
                reading(server, url=table["url"], visibility=1) as runtime,
                sending(server, url=table["url"]) as other,
            ):
                for number in range(10):
                    await other.publish(Order(number))
                    await runtime.get(Billing).until(partial(contains, number))
                    proxy.cut()
                for program, plugin in ((runtime, "nats_source"), (other, "nats_sink")):
                    assert program.hosts[plugin].restarts == 0
    assert not [entry for entry in logs if entry["log_level"] == "error"]
    assert not [record for record in caplog.records if record.name.startswith("nats")]


async def test_a_stream_that_is_lost_is_missed(server: NatsServer) -> None:
    """The plugins report a deleted stream or consumer, and go on once it exists again."""
    await make_consumer(server, ack_wait=30)
    await server.make_stream(f"{STREAM}_dead")
    async with (
        reading(server, create=False, timeout=1.0) as runtime,
        sending(server, create=False, timeout=1.0) as other,
    ):
        await server.client(lambda js: js.delete_stream(STREAM))
        await other.publish(Order(1))
        await until_trouble(runtime, "nats_source", "stream: there is no stream 'orders'")
        await until_trouble(other, "nats_sink", "stream: there is no stream 'orders'")
        await server.make_stream()
        await until_trouble(runtime, "nats_source", "consumer: there is no consumer 'billing'")
        await make_consumer(server, ack_wait=30)
        await runtime.get(Billing).until(bool)
        await becomes(0, server.unacknowledged)


async def test_a_subject_that_nobody_listens_to_any_more(server: NatsServer) -> None:
    """Events for a subject without a stream wait, the sink says why, and then they are sent."""
    async with sending(server) as runtime:
        await server.change_stream(subjects=["others"])
        await runtime.publish(Order(1))
        await until_trouble(runtime, "nats_sink", "subject: ", "does not listen to 'orders'")
        await server.change_stream(subjects=["orders"])
        await until_handled(runtime, "nats_sink", 1)
    assert len(await server.messages()) == 1


async def test_a_full_stream_is_waited_for(tmp_path: Path) -> None:
    """A full stream with `discard new` has each event once, even after its window for
    duplicates."""
    limits = {"max_msgs": 5, "discard": DiscardPolicy.NEW, "duplicate_window": 0.1}
    async with nats_server(tmp_path, **limits) as server:
        async with sending(server) as runtime:
            for number in range(20):
                await runtime.publish(Order(number))
            await until_trouble(runtime, "nats_sink", "the stream refuses")
            assert len(await server.messages()) == 5
            await trio.sleep(0.5)  # NATS has forgotten them as duplicates by now.
            await server.change_stream(**{**limits, "max_msgs": 100})
            await until_handled(runtime, "nats_sink", 20)
        numbers = [json.loads(each.body)["number"] for each in await server.messages()]
        assert sorted(numbers) == list(range(20))


STRAYS = (
    b'{"ok": true}',
    b'{"stream": "other", "seq": 1}',
    b'{"stream": "orders", "seq": 0}',
    b'{"error": {"description": "none of JetStream"}}',
    b"[]",
    b"x",
)


async def test_answers_of_others_are_no_acknowledgements(tmp_path: Path) -> None:
    """Only the stream's answer confirms an event, whatever other programs answer."""
    limits = {"max_msgs": 1, "discard": DiscardPolicy.NEW}
    async with nats_server(tmp_path, **limits) as server, server.answering(STREAM, STRAYS):
        async with sending(server) as runtime:
            await runtime.publish(Order(0), wait=True)
            await runtime.publish(Order(1))
            await until_trouble(runtime, "nats_sink", "the stream refuses")
            assert runtime.statistics()["nats_sink"].handled == 1
            await server.change_stream(max_msgs=2, discard=DiscardPolicy.NEW)
            await until_handled(runtime, "nats_sink", 2)
        assert len(await server.messages()) == 2


# Wrong settings.


@pytest.mark.parametrize(
    ("stream", "dead"),
    [
        ({"sources": [StreamSource(name="old")]}, {}),
        ({}, {"republish": RePublish(src="old", dest="orders")}),
    ],
)
async def test_dead_letters_that_come_back_are_refused(
    tmp_path: Path, stream: dict[str, object], dead: dict[str, object]
) -> None:
    """A stream that copies its dead letters, or gets them sent, would have them for ever."""
    async with running(NatsServer(tmp_path)) as server:
        await server.make_stream("old", **dead)
        await server.make_stream(STREAM, **stream)
        with pytest.raises(StartError, match=r"nats_source\.dead_letters: .* 'orders' again"):
            async with reading(server, dead_letters="old"):
                pass


@pytest.mark.parametrize(
    ("consumer", "said"),
    [
        ({"deliver_subject": "x"}, r"consumer: the consumer 'billing' is a push consumer"),
        ({"ack_policy": AckPolicy.ALL}, r"consumer: .* has the ack_policy all"),
        ({"filter_subject": "orders"}, r"subject: .* has another filter: orders"),
        ({"ack_wait": 60}, r"visibility: .* has an ack_wait of 60 s"),
        ({"max_deliver": 5}, r"delivery_limit: .* has a max_deliver of 5"),
        ({"headers_only": True}, r"consumer: .* has headers_only"),
    ],
)
async def test_a_consumer_of_another_kind_is_refused(
    server: NatsServer, consumer: Table, said: str
) -> None:
    """The program does not start, and the error names the setting that differs."""
    await make_consumer(server, **{"ack_wait": 30, **consumer})
    with pytest.raises(StartError, match=rf"plugins\.nats_source\.{said}"):
        async with reading(server, delivery_limit=5):
            pass


async def test_missing_things_are_errors_one_after_the_other(server: NatsServer) -> None:
    """Without `create` the dead letters' stream and the consumer have to exist."""
    with pytest.raises(
        StartError, match=r"nats_source\.dead_letters: there is no stream 'orders_d"
    ):
        async with reading(server, create=False):
            pass
    await server.make_stream(f"{STREAM}_dead")
    with pytest.raises(StartError, match=r"nats_source\.consumer: there is no consumer 'billing'"):
        async with reading(server, create=False):
            pass


async def test_a_subject_of_another_stream_is_refused(server: NatsServer) -> None:
    """A sink does not start if its stream does not listen to the subject."""
    with pytest.raises(StartError, match=r"nats_sink\.subject: .*does not listen to 'shipments'"):
        async with sending(server, subject="shipments"):
            pass


async def test_a_server_without_jetstream_is_refused(tmp_path: Path) -> None:
    """The error says what is missing on the server, and names the setting."""
    async with running(NatsServer(tmp_path, jetstream=False)) as server:
        with pytest.raises(StartError, match=r"nats_source\.url: JetStream is not enabled"):
            async with reading(server):
                pass


async def test_a_missing_permission_is_an_error(server: NatsServer) -> None:
    """A user without the permission to publish gets an error with the subject."""
    permissions = 'permissions: { publish: { deny: "$JS.API.STREAM.INFO.>" } }'
    await server.admit("guest", "pw", permissions)
    url = f"nats://guest:pw@127.0.0.1:{server.port}"
    said = r"nats_sink\.url: not with these credentials: .*stream\.info"
    with pytest.raises(StartError, match=said):
        async with sending(server, url=url, timeout=1.0):
            pass


async def test_tls_is_not_done_without(server: NatsServer) -> None:
    """A server without TLS does not get the password that `tls://` was to protect."""
    await server.allow("s3cret")
    with pytest.raises(StartError, match=r"nats_sink\.url: the server takes no TLS"):
        async with sending(server, url=f"tls://clerk:s3cret@127.0.0.1:{server.port}"):
            pass


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:4222",
        "http://127.0.0.1/s3cret",
        "nats://",
        "nats://s3cret@h:s3cret",
        "nats://clerk:12/s3cret@h",  # Only `%2F` would be part of a password.
    ],
)
async def test_a_wrong_url_is_refused(url: str) -> None:
    """A wrong URL is an error of the settings that names the key without repeating a password."""
    table = {"nats_sink": {"url": url, "stream": STREAM}}
    with pytest.raises(ConfigurationError, match=r"nats_sink\S* ?.*url") as caught:
        async with open_plugins(NatsSink, event_types=[Order], settings=table):
            pass
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("stream", ""),
        ("stream", "a.b"),
        ("consumer", "a b"),
        ("subject", "a..b"),
        ("subject", ">.a"),
    ],
)
async def test_a_wrong_name_is_refused(key: str, value: str) -> None:
    """A wrong name is an error of the settings, before the server is asked."""
    table = {"nats_source": {"stream": STREAM, "event": "order", key: value}}
    with pytest.raises(ConfigurationError, match=rf"nats_source\S* ?.*{key}"):
        async with open_plugins(NatsSource, Billing, settings=table):
            pass


# Missing guarantees.


@pytest.mark.parametrize(
    ("stream", "missing"),
    [
        ({}, "`sync_interval: always` cannot be asked"),
        ({}, "with `num_replicas 1` the loss of a disk costs everything"),
        ({"storage": StorageType.MEMORY}, "with `storage memory`"),
        ({"max_msgs": 9}, "with `max_msgs 9` and `discard old`"),
        ({"max_bytes": 99999}, "with `max_bytes 99999` and `discard old`"),
        ({"max_age": 60}, "with `max_age 60 s`"),
        ({"retention": RetentionPolicy.INTEREST}, "with `retention interest`"),
    ],
)
async def test_missing_guarantees_of_a_stream_are_logged(
    tmp_path: Path, stream: Table, missing: str
) -> None:
    """The log has a line for each setting of the stream with which it may lose messages."""
    async with nats_server(tmp_path, **stream) as server:
        for opened in (reading(server), sending(server)):
            with capture_logs() as logs:
                async with opened:
                    pass
            assert missing in "\n".join(str(entry.get("missing")) for entry in logs)


@pytest.mark.parametrize(
    ("consumer", "missing"),
    [
        ({"max_deliver": 6}, "with `max_deliver 6`"),
        ({"max_ack_pending": 10}, "with `max_ack_pending 10`"),
        ({"mem_storage": True}, "with `mem_storage`"),
    ],
)
async def test_missing_guarantees_of_a_consumer_are_logged(
    server: NatsServer, consumer: Table, missing: str
) -> None:
    """The log has a line for each setting of the consumer with which it may lose messages."""
    await make_consumer(server, ack_wait=30, **consumer)
    with capture_logs() as logs:
        async with reading(server):
            pass
    assert missing in "\n".join(str(entry.get("missing")) for entry in logs)


async def test_several_programs_have_room_in_the_consumer_that_is_made(server: NatsServer) -> None:
    """A consumer that is made has no `max_deliver`, and `max_ack_pending` for sixteen programs."""
    async with reading(server, prefetch=100, visibility=7):
        info = await server.client(lambda js: js.consumer_info(STREAM, CONSUMER))
    config = info.config
    found = (config.max_deliver, config.max_ack_pending, config.ack_wait, config.ack_policy)
    assert found == (-1, 1600, 7, "explicit")


async def test_a_certificate_must_be_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With TLS a server is refused if its authority is unknown, and accepted if it is known."""
    made = Certificate.made_in(tmp_path)
    server = NatsServer(tmp_path)
    server.more = f'tls {{ cert_file: "{made.certificate}", key_file: "{made.key}" }}\n'
    async with running(server):
        url = server.url.replace("nats://", "tls://")
        with pytest.raises(
            StartError, match=r"plugins\.nats_sink\.url: the certificate is not trusted"
        ):
            async with sending(server, url=url):
                pass
        monkeypatch.setenv("SSL_CERT_FILE", str(made.authority))
        async with sending(server, url=url) as runtime:
            assert (await runtime.publish(Order(1), wait=True)).worst is Fate.HANDLED


# Credentials that are files.


@pytest.mark.parametrize("operator", [False, True], ids=["an nkey", "a JWT"])
async def test_credentials_in_a_file(tmp_path: Path, operator: bool) -> None:
    """A user proves to have its key, alone or with a JWT that its account has signed."""
    server: NatsServer
    file = tmp_path / "clerk.creds"
    if operator:
        server = WithOperator(tmp_path)
        server.credentials(file)
    else:
        server, clerk = NatsServer(tmp_path), Key.of("user")
        server.nkeys.append(clerk.public)
        file.write_text(f"{clerk.seed}\n")
    async with running(server):
        url, credentials = f"nats://127.0.0.1:{server.port}", {"file": str(file)}
        there = {"url": url, "credentials": credentials, "create": True}
        table = {"nats_source": {**there, "stream": STREAM, "event": "order"}}
        sink = {**there, "stream": STREAM, "delivery": {"events": ["order"]}}
        async with open_plugins(NatsSink, event_types=[Order], settings={"nats_sink": sink}) as out:
            await out.publish(Order(1), wait=True)
        async with open_plugins(NatsSource, Billing, settings=table) as runtime:
            await runtime.get(Billing).until(lambda seen: seen == [1])


async def test_credentials_are_a_secret(tmp_path: Path) -> None:
    """The seed may be the setting itself, and is shown nowhere."""
    server, clerk = NatsServer(tmp_path), Key.of("user")
    server.nkeys.append(clerk.public)
    async with running(server):
        url = f"nats://127.0.0.1:{server.port}"
        async with sending(server, url=url, credentials=clerk.seed, create=True) as runtime:
            assert (await runtime.publish(Order(1), wait=True)).worst is Fate.HANDLED
            found = runtime.get(NatsSink)
            assert clerk.seed not in f"{found} {found.credentials} {mask(clerk.seed)}"


async def test_wrong_credentials_in_a_file(tmp_path: Path) -> None:
    """Credentials of another account, and files without any, are refused with the setting."""
    async with running(WithOperator(tmp_path)) as server:
        assert isinstance(server, WithOperator)
        file = server.credentials(tmp_path / "forged.creds", of=Key.of("account"))
        url = f"nats://127.0.0.1:{server.port}"
        with pytest.raises(StartError, match=r"nats_sink\.credentials: not with these credentials"):
            async with sending(server, url=url, credentials={"file": str(file)}):
                pass
    file.write_text("SU not")
    for wrong, said in ((file, "holds neither"), (tmp_path / "none", "cannot be read")):
        with pytest.raises(ConfigurationError, match=rf"nats_sink\.credentials: .*{said}"):
            async with sending(server, url=url, credentials={"file": str(wrong)}):
                pass
