from __future__ import annotations

import asyncio
import contextlib
import json
import struct
from collections.abc import AsyncGenerator, Generator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import cast

import pytest
import trio
from aiormq.abc import DeliveredMessage
from aiormq.channel import Channel
from aiormq.exceptions import DeliveryError
from structlog.testing import capture_logs

from trivet import ConfigurationError, Fate, Runtime, StartError
from trivet.testing import open_plugins
from trivet_contrib._brokers._client import Message
from trivet_contrib.rabbitmq import RabbitmqSink, RabbitmqSource
from trivet_contrib.rabbitmq._checks import ALWAYS_MISSING

from .rabbitmq_server import QUEUE, USER, Node, RabbitmqServer, needs_rabbitmq, rabbitmq_server
from .suite import (
    PASSWORD,
    QUICK,
    TOGETHER_IN_NOTES,
    Billing,
    Certificate,
    Contract,
    Note,
    Order,
    Proxy,
    Server,
    Table,
    becomes,
    binary,
    number_of_dead,
    plain,
    readiness,
    text_of,
    until_accepted,
    until_handled,
    until_trouble,
)

pytestmark = [pytest.mark.broker, needs_rabbitmq]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Generator[Node]:
    """The RabbitMQ of all these tests; a test that kills it starts it again."""
    made = Node(tmp_path_factory.mktemp("rabbitmq"))
    try:
        yield made
    finally:
        made.end()


class TestRabbitmq(Contract):
    source = RabbitmqSource
    sink = RabbitmqSink
    credentials = "url"

    @pytest.fixture
    async def server(self, node: Node) -> AsyncGenerator[Server]:
        """A virtual host, with the queue."""
        async with rabbitmq_server(node) as server:
            yield server

    def missing(self, server: Server) -> tuple[str, Table]:
        """See `Contract`."""
        settings = cast("RabbitmqServer", server).settings
        return "queue", settings(queue="missing", create=False)

    async def sample_for(self, server: Server, sample: str) -> str:
        """See `Contract`."""
        here = cast("RabbitmqServer", server)
        await here.client(lambda channel: channel.exchange_declare("events", durable=True))
        return sample.replace("127.0.0.1:5672/shop", f"127.0.0.1:{here.port}/{here.vhost}")


@pytest.fixture
async def server(node: Node) -> AsyncGenerator[RabbitmqServer]:
    """The server, with the methods that only RabbitMQ needs."""
    async with rabbitmq_server(node) as server:
        yield server


def reading(server: RabbitmqServer, **others: object) -> AbstractAsyncContextManager[Runtime]:
    """A program with the source."""
    table = server.settings(event="order", reconnect_max=0.2, **others)
    return open_plugins(RabbitmqSource, Billing, settings={"rabbitmq_source": table})


def sending(server: RabbitmqServer, **others: object) -> AbstractAsyncContextManager[Runtime]:
    """A program with the sink."""
    table = server.settings(delivery={"events": ["order"]}, reconnect_max=0.2, **others)
    return open_plugins(
        RabbitmqSink, event_types=[Order], settings={"rabbitmq_sink": table}, service="shop"
    )


async def fill(server: RabbitmqServer) -> None:
    """Send until the queue rejects messages, which it does a little late."""
    with contextlib.suppress(DeliveryError):
        while True:
            await server.send([plain(99)])


async def take(server: RabbitmqServer, count: int) -> list[dict[str, object]]:
    """Get `count` messages with a bare client that is then killed; returns their headers.

    RabbitMQ has the messages back then.
    """

    async def take(channel: Channel) -> list[dict[str, object]]:
        arrived = asyncio.Queue[DeliveredMessage]()
        await channel.basic_qos(prefetch_count=count)
        await channel.basic_consume(QUEUE, arrived.put)
        taken = [await arrived.get() for _ in range(count)]
        return [dict(each.header.properties.headers or {}) for each in taken]

    taken = await server.client(take)
    await becomes(0, server.unacknowledged)  # RabbitMQ learns of a client's end only later.
    return taken


# On the wire.


async def test_a_certificate_must_be_trusted(
    server: RabbitmqServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With TLS a server is refused if its authority is unknown, and accepted if it is known."""
    port = await server.listen_with_tls(Certificate.made_in(tmp_path))
    url = server.url(port=port).replace("amqp://", "amqps://")
    with pytest.raises(
        StartError, match=r"plugins\.rabbitmq_sink\.url: the certificate is not trusted"
    ):
        async with sending(server, url=url):
            pass
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    async with sending(server, url=url) as runtime:
        assert (await runtime.publish(Order(1), wait=True)).worst is Fate.HANDLED


async def test_an_event_as_a_message(server: RabbitmqServer) -> None:
    """A message is persistent, has the event's id, and its attributes have AMQP's prefix."""
    async with sending(server) as runtime:
        await runtime.publish(Order(1), id="o-1", key="k", wait=True)
    (message,) = await server.raw()
    given = message.header.properties
    assert (given.delivery_mode, given.message_id) == (2, "o-1")
    assert given.content_type == "application/json"
    headers = given.headers or {}
    assert headers["cloudEvents:id"] == "o-1"
    assert headers["cloudEvents:partitionkey"] == "k"
    assert "content-type" not in headers


def table(*fields: bytes) -> bytes:
    """A table of AMQP."""
    return struct.pack(">I", len(b"".join(fields))) + b"".join(fields)


def short(text: bytes) -> bytes:
    """A short string of AMQP."""
    return bytes([len(text)]) + text


CONTENT_TYPE, HEADERS, APP_ID, TIMESTAMP, MESSAGE_ID = (1 << each for each in (15, 13, 3, 6, 7))
nested = b""
for _ in range(2000):
    nested = short(b"x") + b"F" + table(nested)
UNDECODABLE = [
    struct.pack(">H", TIMESTAMP) + struct.pack(">Q", 1_795_952_677_022_000),
    struct.pack(">H", MESSAGE_ID | TIMESTAMP) + short(b"m-1") + struct.pack(">Q", 2**64 - 1),
    struct.pack(">H", APP_ID) + short(b"Caf\xe9"),
    struct.pack(">H", CONTENT_TYPE) + short(b"\xff\xfe"),
    struct.pack(">H", HEADERS) + table(short(b"Caf\xe9") + b"t\x01"),
    struct.pack(">H", HEADERS) + table(short(b"x") + b"T" + struct.pack(">Q", 2**63)),
    struct.pack(">H", HEADERS) + table(nested),
]


async def test_properties_that_the_client_cannot_decode(server: RabbitmqServer) -> None:
    """Each undecodable message becomes a dead letter with its body and properties as they came;
    the others are handled, and the connection lasts."""
    await server.send([plain(0)])
    for number, properties in enumerate(UNDECODABLE, start=1):
        await server.send_raw(properties, b'{"number": %d}' % number)
    await server.send([plain(99)])
    async with reading(server) as runtime:
        await runtime.get(Billing).until(lambda seen: 99 in seen)
        await becomes(len(UNDECODABLE), lambda: number_of_dead(server))
        await becomes(0, server.unacknowledged)
        assert runtime.get(Billing).seen == [0, 99]
    dead = [(each.body, each.header.properties) for each in await server.raw(f"{QUEUE}_dead")]
    assert {json.loads(body)["number"] for body, _ in dead} == set(range(1, 1 + len(UNDECODABLE)))
    for body, kept in dead:
        headers = kept.headers or {}
        assert headers["dead-properties"] == UNDECODABLE[json.loads(body)["number"] - 1]
        assert "cannot be decoded" in str(headers["dead-reason"])


async def test_a_routing_key_that_is_not_utf8(server: RabbitmqServer) -> None:
    """A delivery that is not UTF-8 becomes a dead letter, and costs no other message."""
    await server.client(lambda channel: channel.queue_bind(QUEUE, "amq.fanout"))
    await server.send([plain(0)])
    await server.send_raw(b"\0\0", plain(1).body, "amq.fanout", b"Caf\xe9")
    await server.send([plain(2)])
    async with reading(server) as runtime:
        await runtime.get(Billing).until(lambda seen: 2 in seen)
        await becomes(1, lambda: number_of_dead(server))
        await becomes(0, server.unacknowledged)
        assert runtime.get(Billing).seen == [0, 2]


async def test_a_dead_letter_without_room_for_its_headers(server: RabbitmqServer) -> None:
    """If the headers and the reason exceed a frame, the dead letter has body and reason alone."""
    await server.send([Message(b"{", {"x": "y" * 130_990}), plain(1)])
    async with reading(server) as runtime:
        await runtime.get(Billing).until(bool)
        await becomes(1, lambda: number_of_dead(server))
        await becomes(0, server.unacknowledged)
    ((letter, reason),) = await server.dead()
    assert letter.body == b"{"
    assert "x" not in letter.headers
    assert reason.startswith("order: ")


async def test_headers_that_are_larger_than_a_frame(server: RabbitmqServer) -> None:
    """An event whose headers exceed a frame fails alone, and the others are sent once."""
    settings = server.settings(delivery=TOGETHER_IN_NOTES, reconnect_max=0.2)
    async with open_plugins(
        RabbitmqSink, event_types=[Note], settings={"rabbitmq_sink": settings}
    ) as runtime:
        await runtime.publish(Note(0))
        await runtime.publish(Note(1), id="x" * 200_000)
        await runtime.publish(Note(2), wait=True)
        statistics = runtime.statistics()["rabbitmq_sink"]
        assert (statistics.handled, statistics.failed) == (2, 1)
    assert [json.loads(each.body)["number"] for each in await server.messages()] == [0, 2]


async def test_attributes_with_the_other_prefix(server: RabbitmqServer) -> None:
    """The prefix `cloudEvents_` is read as well, for senders without colons in headers."""
    message = binary(1)
    headers = {name.replace("ce-", "cloudEvents_"): each for name, each in message.headers.items()}
    await server.send([Message(message.body, headers)])
    async with reading(server) as runtime:
        await runtime.get(Billing).until(bool)
    (delivery,) = runtime.get(Billing).deliveries
    assert (delivery.id, delivery.source) == ("o-1", "shop")


async def test_the_id_of_a_plain_message(server: RabbitmqServer) -> None:
    """The event's id is the `message_id`, also when the message comes again."""
    await server.send([Message(plain(1).body, {}, id="m-1"), Message(plain(2).body, {}, id="m-1")])
    async with reading(server, visibility=QUICK) as runtime:
        billing = runtime.get(Billing)
        billing.fails = lambda _: len(billing.seen) == 1
        await billing.until(lambda seen: len(seen) == 2)
        await becomes(0, server.unacknowledged)
    assert [delivery.id for delivery in billing.deliveries] == ["m-1", "m-1"]
    assert {delivery.source for delivery in billing.deliveries} == {"rabbitmq:orders"}


async def test_messages_without_any_id(server: RabbitmqServer) -> None:
    """A message without an id gets one, and keeps it when it fails here and comes again here."""
    await server.send([plain(1), plain(1)])
    async with reading(server, visibility=QUICK) as runtime:
        billing = runtime.get(Billing)
        billing.fails = lambda _: len(billing.seen) == 1
        await billing.until(lambda seen: len(seen) == 3)
        await becomes(0, server.unacknowledged)
    first, second, again = [delivery.id for delivery in billing.deliveries]
    assert first == again != second


# Messages in flight.


async def test_messages_in_flight_on_a_lost_connection(server: RabbitmqServer) -> None:
    """A message that comes again is recognized, and the same program does not handle it twice."""
    await server.send([plain(number) for number in (0, 1, 1)])
    async with Proxy(server.port).serving() as proxy:
        async with reading(server, url=server.url(port=proxy.port)) as runtime:
            billing = runtime.get(Billing)
            billing.may_go_on = trio.Event()
            await billing.until(bool)
            await becomes(3, server.unacknowledged)
            assert proxy.cut()
            await becomes(503, lambda: readiness(runtime))
            await becomes(200, lambda: readiness(runtime))
            await becomes(3, server.unacknowledged)
            billing.may_go_on.set()
            await becomes(0, server.unacknowledged)
            assert billing.seen == [0, 1, 1]


async def test_a_released_message_is_published_again(server: RabbitmqServer) -> None:
    """A released message is at the end of the queue, unchanged, with its earlier deliveries."""
    await server.send([plain(1), binary(2), plain(3)])
    await take(server, 2)
    async with reading(server, drain=0, prefetch=2) as runtime:
        runtime.get(Billing).may_go_on = trio.Event()
        await until_accepted(runtime, "billing", 2)
        await becomes(2, server.unacknowledged)
        runtime.hurry()
    messages = await server.raw()
    assert [each.body for each in messages] == [plain(each).body for each in (3, 1, 2)]
    headers = [each.header.properties.headers or {} for each in messages]
    assert [each.get("trivet-deliveries") for each in headers] == [None, 1, 1]
    assert headers[2]["cloudEvents:id"] == "o-2"
    assert messages[2].header.properties.content_type == "application/json"


async def test_a_stop_with_a_queue_that_is_full(server: RabbitmqServer) -> None:
    """Messages that a full queue does not take are given back and counted, and none is lost."""
    await server.client(lambda channel: channel.queue_delete(QUEUE))
    await server.declare(max_length=3, overflow="reject-publish")
    await server.send([plain(number) for number in range(3)])
    async with reading(server, drain=0) as runtime:
        runtime.get(Billing).may_go_on = trio.Event()
        await until_accepted(runtime, "billing", 3)
        await becomes(3, server.unacknowledged)
        await fill(server)
        runtime.hurry()
    left = [each.body for each in await server.messages() if each.body != plain(99).body]
    assert sorted(left) == [plain(number).body for number in range(3)]


async def test_more_fail_than_may_be_in_flight(server: RabbitmqServer) -> None:
    """Failed messages hold up no other: the first of them is tried again before its time."""
    await server.send([plain(number) for number in range(30)])
    async with reading(server, prefetch=4, visibility=3600, delivery_limit=2) as runtime:
        billing = runtime.get(Billing)
        billing.fails = lambda number: number < 20
        await billing.until(lambda seen: set(seen) == set(range(30)))
    assert len(await server.messages()) + await number_of_dead(server) == 20


async def test_a_message_that_kills_its_readers_is_a_dead_letter(server: RabbitmqServer) -> None:
    """A message that was delivered up to the limit, and never acknowledged, is not read again."""
    await server.send([plain(1), plain(2)])
    for _ in range(3):
        await take(server, 1)
    async with reading(server, delivery_limit=3) as runtime:
        await becomes(1, lambda: number_of_dead(server))
        await runtime.get(Billing).until(lambda seen: seen == [2])
    ((letter, reason),) = await server.dead()
    assert reason == "delivered 3 times, and never done"
    assert letter.headers["dead-queue"] == QUEUE


# Queues.


async def test_a_queue_that_is_made(server: RabbitmqServer) -> None:
    """A queue that is made is a quorum queue, whose own dead letters reach the connector's."""
    await server.client(lambda channel: channel.queue_delete(QUEUE))
    with capture_logs() as logs:
        async with reading(server, delivery_limit=3):
            pass
    assert [entry["missing"] for entry in logs if "missing" in entry] == list(ALWAYS_MISSING)
    made = await server.arguments()
    for wanted in ("quorum", "at-least-once", "reject-publish", "x-delivery-limit"):
        assert wanted in made
    await server.send([plain(1)])
    for _ in range(4):
        await take(server, 1)
    await becomes(1, lambda: number_of_dead(server))
    ((letter, _),) = await server.dead()
    assert letter.headers["x-first-death-reason"] == "delivery_limit"


async def test_a_queue_that_is_bound(server: RabbitmqServer) -> None:
    """A queue that is bound gets the exchange's messages with the routing key."""
    binding = {"exchange": "amq.topic", "routing_key": "order.*"}
    sink: Table = {"queue": "", "exchange": "amq.topic", "routing_key": "order.new"}
    async with reading(server, **binding) as runtime:
        async with sending(server, **sink) as other:
            await other.publish(Order(1), wait=True)
        await runtime.get(Billing).until(lambda seen: seen == [1])


@pytest.mark.parametrize(
    "arguments",
    [
        {"dead_letter_exchange": ""},
        {"dead_letter_exchange": "", "dead_letter_routing_key": "other"},
        {"dead_letter_exchange": "amq.direct"},
        {"dead_letter_exchange": "amq.direct", "dead_letter_routing_key": "order"},
    ],
)
async def test_dead_letters_that_come_back_are_refused(
    server: RabbitmqServer, arguments: dict[str, str | int]
) -> None:
    """A queue that gets its own dead letters again would have them for ever."""
    await server.declare("other", **arguments)
    binding = {"exchange": "amq.direct", "routing_key": "order"}
    place = r"rabbitmq_source\.queue: 'other' .* leads back to it"
    with pytest.raises(StartError, match=place):
        async with reading(server, queue="other", **binding):
            pass


async def test_a_queue_of_another_type(server: RabbitmqServer) -> None:
    """Neither source nor sink starts with a queue that is no quorum queue."""
    await server.declare("text", queue_type="classic")
    for opened, name in ((reading, "rabbitmq_source"), (sending, "rabbitmq_sink")):
        place = rf"plugins\.{name}\.queue: 'text' is a classic queue; a quorum queue is needed"
        with pytest.raises(StartError, match=place):
            async with opened(server, queue="text"):
                pass


@pytest.mark.parametrize(
    ("arguments", "missing"),
    [
        ({}, "without `x-dead-letter-exchange`"),
        (
            {"dead_letter_exchange": "", "dead_letter_routing_key": "elsewhere"},
            "without `x-dead-letter-strategy at-least-once`",
        ),
        ({"max_length": 10}, "with `x-max-length 10` the oldest messages are dropped"),
        ({"delivery_limit": 2}, "with `x-delivery-limit 2` RabbitMQ gives up before"),
        ({"message_ttl": 60_000}, "with `x-message-ttl 60000` older messages are dropped"),
    ],
)
async def test_missing_guarantees_of_a_queue_are_logged(
    server: RabbitmqServer, arguments: dict[str, str | int], missing: str
) -> None:
    """The log has a line for each argument of the queue with which it may lose messages."""
    await server.declare("other", **arguments)
    with capture_logs() as logs:
        async with reading(server, queue="other"):
            pass
    assert missing in "\n".join(str(entry.get("missing")) for entry in logs)


async def test_a_user_without_the_permission_to_configure(server: RabbitmqServer) -> None:
    """A source works with a queue that it may only read, without knowing its arguments."""
    await server.allow(PASSWORD)
    await server.permit(USER, configure="", write="orders_dead|amq.default")
    await server.declare("orders_dead")
    await server.send([plain(1)])
    table = {"url": server.url(USER, PASSWORD), "create": False}
    with capture_logs() as logs:
        async with reading(server, **table) as runtime:
            await runtime.get(Billing).until(bool)
            await becomes(0, server.unacknowledged)
    assert "the queue's arguments are unknown" in text_of(logs)
    place = r"plugins\.rabbitmq_source\.dead_letters: .*'new_dead' cannot be made: "
    with pytest.raises(StartError, match=place):
        async with reading(server, **table | {"create": True, "queue": "new"}):
            pass


async def test_a_queue_that_is_deleted(server: RabbitmqServer) -> None:
    """The source reports a deleted queue at once, and goes on once it exists again."""
    await server.declare("orders_dead")
    async with reading(server, create=False) as runtime:
        await server.send([plain(0)])
        await runtime.get(Billing).until(bool)
        await server.client(lambda channel: channel.queue_delete(QUEUE))
        await until_trouble(runtime, "rabbitmq_source", "queue", QUEUE, "missing")
        await server.declare()
        await server.send([plain(1)])
        await runtime.get(Billing).until(lambda seen: 1 in seen)


# A sink whose broker is in trouble.


@pytest.mark.parametrize("given", ["o-1", "x" * 300], ids=["an id", "none that AMQP has"])
async def test_an_unroutable_event_waits(server: RabbitmqServer, given: str) -> None:
    """An unroutable event waits, and the sink says so, until the exchange has a queue for it."""
    table: Table = {"queue": "", "exchange": "amq.direct", "routing_key": "new"}
    async with sending(server, **table) as runtime:
        await runtime.publish(Order(1), id=given)
        await until_trouble(runtime, "rabbitmq_sink", "routing_key: unroutable", "'new'")
        await becomes(503, lambda: readiness(runtime))
        assert runtime.statistics()["rabbitmq_sink"].handled == 0
        await server.client(lambda channel: channel.queue_bind(QUEUE, "amq.direct", "new"))
        await becomes(1, lambda: _count(server))
        await becomes(200, lambda: readiness(runtime))


async def test_a_queue_that_is_full(server: RabbitmqServer) -> None:
    """Rejected events are sent again until there is room, and confirmed ones are not."""
    await server.client(lambda channel: channel.queue_delete(QUEUE))
    await server.declare(max_length=3, overflow="reject-publish")
    await fill(server)
    async with sending(server) as runtime:
        for number in range(10):
            await runtime.publish(Order(number))
        await until_trouble(runtime, "rabbitmq_sink", "refuses")
        await becomes(503, lambda: readiness(runtime))
        async with reading(server) as other:
            billing = other.get(Billing)
            await billing.until(lambda seen: set(seen) >= set(range(10)))
            await until_handled(runtime, "rabbitmq_sink", 10)
            await becomes(0, server.unacknowledged)
    assert sorted(number for number in billing.seen if number < 10) == list(range(10))


async def test_a_server_without_memory(server: RabbitmqServer) -> None:
    """While RabbitMQ blocks publishers the sink says why, and its events wait."""
    async with sending(server, timeout=0.3) as runtime:
        await runtime.publish(Order(0), wait=True)
        await server.limit_memory("0.000001")
        try:
            for number in range(1, 100):
                await runtime.publish(Order(number))
            await until_trouble(runtime, "rabbitmq_sink", "want of memory or disk")
            await becomes(503, lambda: readiness(runtime))
        finally:
            with trio.move_on_after(5, shield=True):
                await server.limit_memory("0.4")
        await until_handled(runtime, "rabbitmq_sink", 100)
    bodies = {each.body for each in await server.messages()}
    assert bodies == {b'{"number":%d}' % number for number in range(100)}


# Wrong settings.


async def test_other_missing_things(server: RabbitmqServer) -> None:
    """The error for a missing exchange or virtual host names the setting."""
    missing = "the exchange 'none' is missing"
    with pytest.raises(StartError, match=rf"plugins\.rabbitmq_source\.exchange: {missing}"):
        async with reading(server, exchange="none"):
            pass
    with pytest.raises(StartError, match=rf"plugins\.rabbitmq_sink\.exchange: {missing}"):
        async with sending(server, queue="", exchange="none"):
            pass
    url = server.url().replace(server.vhost, "none")
    with pytest.raises(StartError, match=r"plugins\.rabbitmq_source\.url: .*virtual host"):
        async with reading(server, url=url):
            pass


async def test_a_sink_is_for_one_place(server: RabbitmqServer) -> None:
    """A sink starts neither with both a queue and an exchange, nor without either."""
    for exchange, queue in (("", ""), ("amq.direct", QUEUE)):
        with pytest.raises(StartError, match="name a `queue`, or an `exchange`"):
            async with sending(server, exchange=exchange, queue=queue):
                pass


@pytest.mark.parametrize(
    "url",
    ["", "127.0.0.1:5672", "http://h/s3cret", "amqp://", "amqp://s3cret@h:s3cret", "amqp://h?s=3"],
)
async def test_a_wrong_url_is_refused(url: str) -> None:
    """A wrong URL is an error of the settings that names the key without repeating a password."""
    table = {"rabbitmq_sink": {"url": url, "queue": QUEUE}}
    with pytest.raises(ConfigurationError, match=r"rabbitmq_sink\S* ?.*url") as caught:
        async with open_plugins(RabbitmqSink, event_types=[Order], settings=table):
            pass
    assert "s3cret" not in str(caught.value)


async def _count(server: RabbitmqServer) -> int:
    return len(await server.messages())
