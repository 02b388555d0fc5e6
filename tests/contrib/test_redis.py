from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
import trio
from structlog.testing import capture_logs

from trivet import ConfigurationError, ShutdownSettings, StartError
from trivet.testing import open_plugins
from trivet_contrib._brokers import _source
from trivet_contrib._brokers._client import Message
from trivet_contrib.redis import RedisSink, RedisSource, _checks

from .programs import free_port
from .redis_server import GROUP, STREAM, USER, RedisServer, needs_redis, redis_server
from .suite import (
    PASSWORD,
    QUICK,
    TOGETHER_IN_NOTES,
    Billing,
    Certificate,
    Contract,
    Note,
    Order,
    Server,
    Table,
    becomes,
    number_of_dead,
    plain,
    until_handled,
    until_trouble,
)

pytestmark = [
    pytest.mark.broker,
    needs_redis,
    # After a refused connection coredis leaves memory channels to the garbage collector.
    pytest.mark.filterwarnings("ignore:Unclosed <MemoryObject:ResourceWarning"),
    pytest.mark.usefixtures("own_garbage"),
]


class TestRedis(Contract):
    source = RedisSource
    sink = RedisSink
    credentials = "url"

    @pytest.fixture
    async def server(self, tmp_path: Path) -> AsyncGenerator[Server]:
        """A redis-server with its append-only file."""
        async with redis_server(tmp_path) as server:
            yield server

    def missing(self, server: Server) -> tuple[str, Table]:
        """See `Contract`."""
        return "stream", cast("RedisServer", server).settings(stream="missing")

    async def sample_for(self, server: Server, sample: str) -> str:
        """See `Contract`."""
        return sample.replace("127.0.0.1:6379", f"127.0.0.1:{server.port}")


@pytest.fixture
async def redis(tmp_path: Path) -> AsyncGenerator[RedisServer]:
    """The server, with the methods that only Redis needs."""
    async with redis_server(tmp_path) as server:
        yield server


def source(server: RedisServer, **others: object) -> dict[str, Table]:
    """Settings of the source."""
    table = {"event": "order", "group": GROUP, "reconnect_max": 0.2, **others}
    return {"redis_source": server.settings(**table)}


async def test_messages_of_a_dead_program_are_taken_over(redis: RedisServer) -> None:
    """Within the visibility other programs get the entries, and their deliveries count on."""
    await redis.send([plain(number) for number in range(10)])
    async with redis.client() as client:
        await client.xgroup_create(STREAM, GROUP, identifier="0")
        await client.xreadgroup(GROUP, "dead", {STREAM: ">"}, count=5)
    began = trio.current_time()
    async with open_plugins(RedisSource, Billing, settings=source(redis, visibility=1)) as runtime:
        billing = runtime.get(Billing)
        await billing.until(lambda seen: len(seen) >= 5)
        assert set(billing.seen) == set(range(5, 10))
        await billing.until(lambda seen: set(seen) == set(range(10)))
        assert trio.current_time() - began > 0.5
        await becomes(0, redis.unacknowledged)


async def test_a_message_that_kills_its_readers_is_a_dead_letter(redis: RedisServer) -> None:
    """An entry that was delivered up to the limit, and never acknowledged, is not read again."""
    await redis.send([plain(1), plain(2)])
    async with redis.client() as client:
        await client.xgroup_create(STREAM, GROUP, identifier="0")
        await client.xreadgroup(GROUP, "dead", {STREAM: ">"}, count=1)
        (entry, *_) = await client.xrange(STREAM)
        await client.xclaim(
            STREAM, GROUP, "dead", 0, [entry.identifier], idle=10_000, retrycount=3, justid=True
        )
    settings = source(redis, visibility=1, delivery_limit=3)
    async with open_plugins(RedisSource, Billing, settings=settings) as runtime:
        await becomes(1, lambda: number_of_dead(redis))
        await runtime.get(Billing).until(lambda seen: seen == [2])
    ((_, reason),) = await redis.dead()
    assert reason == "delivered 3 times, and never done"


async def test_a_handler_may_take_longer_than_the_visibility(redis: RedisServer) -> None:
    """A living program keeps its entries in flight, however long the handler takes."""
    visibility = 2.0  # Long enough for a program on a busy machine not to count as dead.
    settings = source(redis, visibility=visibility)
    await redis.send([plain(1)])
    async with (
        open_plugins(RedisSource, Billing, settings=settings) as one,
        open_plugins(RedisSource, Billing, settings=settings) as two,
    ):
        billings = [one.get(Billing), two.get(Billing)]
        for billing in billings:
            billing.may_go_on = trio.Event()
        await trio.sleep(1.5 * visibility)  # The test is that nothing happens in this time.
        for billing in billings:
            billing.may_go_on.set()
        await becomes(0, redis.unacknowledged)
        assert sum(len(billing.seen) for billing in billings) == 1


async def test_an_entry_that_is_trimmed_in_flight_is_a_dead_letter(redis: RedisServer) -> None:
    """The dead letter of a deleted entry has its id, and says that the content is lost."""
    await redis.send([plain(1), plain(2)])
    async with redis.client() as client:
        await client.xgroup_create(STREAM, GROUP, identifier="0")
        await client.xreadgroup(GROUP, "dead", {STREAM: ">"}, count=1)
        (entry, *_) = await client.xrange(STREAM)
        await client.xdel(STREAM, [entry.identifier])
    settings = source(redis, visibility=QUICK)
    async with open_plugins(RedisSource, Billing, settings=settings):
        await becomes(1, lambda: number_of_dead(redis))
        await becomes(0, redis.unacknowledged)
    ((letter, reason),) = await redis.dead()
    assert letter.headers["dead-id"].encode() == entry.identifier
    assert "trimmed" in reason


@pytest.mark.parametrize("how", ["trimmed", "its consumer"])
async def test_a_failed_message_that_cannot_come_again(redis: RedisServer, how: str) -> None:
    """A failed message whose entry or consumer was deleted meanwhile becomes a dead letter."""
    await redis.send([plain(1)])
    async with open_plugins(RedisSource, Billing, settings=source(redis)) as runtime:
        billing = runtime.get(Billing)
        billing.may_go_on, billing.fails = trio.Event(), bool
        await billing.until(bool)
        async with redis.client() as client:
            if how == "trimmed":
                (entry,) = await client.xrange(STREAM)
                await client.xdel(STREAM, [entry.identifier])
            else:
                (consumer,) = await client.xinfo_consumers(STREAM, GROUP)
                name = cast("bytes", consumer[b"name"])
                await client.xgroup_delconsumer(STREAM, GROUP, name)
        billing.may_go_on.set()
        await becomes(1, lambda: number_of_dead(redis))
    ((letter, reason),) = await redis.dead()
    assert json.loads(letter.body) == {"number": 1}
    assert how in reason
    assert billing.seen == [1]


@pytest.mark.parametrize("fails", [True, False])
async def test_an_entry_that_was_claimed_meanwhile_stays_there(
    redis: RedisServer, fails: bool
) -> None:
    """A claimed entry is left to its new consumer if it fails here, and logged if it is done."""
    await redis.send([plain(1)])
    with capture_logs() as logs:
        async with open_plugins(RedisSource, Billing, settings=source(redis)) as runtime:
            billing = runtime.get(Billing)
            billing.may_go_on = trio.Event()
            billing.fails = lambda number: fails and number == 1
            await billing.until(bool)
            async with redis.client() as client:
                (entry,) = await client.xrange(STREAM)
                await client.xclaim(STREAM, GROUP, "other", 0, [entry.identifier])
                if not fails:
                    await client.xack(STREAM, GROUP, [entry.identifier])
                billing.may_go_on.set()
                await redis.send([plain(2)])  # By this report the other one was handled as well.
                await billing.until(lambda seen: 2 in seen)
                await becomes(int(fails), redis.unacknowledged)
                pending = cast("Sequence[Any]", await client.xpending(STREAM, GROUP, "-", "+", 10))
    assert [each.consumer for each in pending] == ([b"other"] if fails else [])
    told = [each for each in logs if each["event"] == "messages were no longer in flight when done"]
    assert len(told) == (0 if fails else 1)


async def test_entries_of_a_lost_answer_are_read_again(redis: RedisServer) -> None:
    """Entries of a broken connection come over the next one, long before other programs could
    claim them; deleted entries become dead letters."""
    await redis.send([plain(0)])
    async with open_plugins(RedisSource, Billing, settings=source(redis)) as runtime:
        await runtime.get(Billing).until(bool)
        async with redis.client() as client:
            (consumer,) = [each[b"name"] for each in await client.xinfo_consumers(STREAM, GROUP)]
            assert isinstance(consumer, bytes)
            # In one transaction, before the program can read.
            async with client.pipeline(transaction=True) as pipeline:
                pipeline.xadd(STREAM, {"data": '{"number": 1}'}, identifier="99999999999999-1")
                pipeline.xadd(STREAM, {"data": '{"number": 2}'}, identifier="99999999999999-2")
                pipeline.xreadgroup(GROUP, consumer, {STREAM: ">"}, count=2)
                pipeline.xdel(STREAM, ["99999999999999-1"])
        await redis.cut()
        await runtime.get(Billing).until(lambda seen: 2 in seen)
        await becomes(0, redis.unacknowledged)
    assert runtime.get(Billing).seen == [0, 2]
    ((letter, _),) = await redis.dead()
    assert letter.headers["dead-id"] == "99999999999999-1"


async def test_nothing_is_left_of_consumers_that_are_gone(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a stop the group has neither this consumer, nor those of long dead programs."""
    monkeypatch.setattr(_checks, "IDLE_FOR", 0.01)
    await redis.send([plain(1)])
    async with redis.client() as client:
        await client.xgroup_create(STREAM, GROUP, identifier="0")
        await client.xgroup_createconsumer(STREAM, GROUP, "dead")
        await trio.sleep(0.05)  # The consumer has to be idle for longer than that.
        async with open_plugins(RedisSource, Billing, settings=source(redis)) as runtime:
            await runtime.get(Billing).until(bool)
            await becomes(0, redis.unacknowledged)
            assert len(await client.xinfo_consumers(STREAM, GROUP)) == 1
        assert await client.xinfo_consumers(STREAM, GROUP) == ()


async def test_a_stream_that_is_lost_is_missed(redis: RedisServer) -> None:
    """The source reports a lost group, and goes on once it exists again."""
    async with open_plugins(RedisSource, Billing, settings=source(redis)) as runtime:
        async with redis.client() as client:
            await client.delete([STREAM])
        await until_trouble(runtime, "redis_source", "there is no 'orders'")
        await redis.send([plain(1)])
        await runtime.get(Billing).until(bool)


async def test_a_key_of_another_type_is_said_with_its_setting(redis: RedisServer) -> None:
    """Neither source nor sink starts with a key that is no stream."""
    async with redis.client() as client:
        await client.set("text", "x")
    for plugin, others in ((RedisSource, [Billing]), (RedisSink, [])):
        table = redis.settings(stream="text")
        place = rf"plugins\.{plugin.name}\.stream: 'text' is a string in Redis, not a stream"
        with pytest.raises(StartError, match=place):
            async with open_plugins(plugin, *others, settings={plugin.name: table}):
                pass


async def test_dead_letters_that_are_no_stream_are_refused(redis: RedisServer) -> None:
    """A source whose dead letters could not be kept does not start."""
    async with redis.client() as client:
        await client.set("text", "x")
    place = r"plugins\.redis_source\.dead_letters: 'text' is a string in Redis, not a stream"
    with pytest.raises(StartError, match=place):
        async with open_plugins(RedisSource, Billing, settings=source(redis, dead_letters="text")):
            pass


async def test_a_missing_database_is_said_with_its_setting(redis: RedisServer) -> None:
    """A source does not start with a database that the server does not have."""
    table = source(redis, url=f"{redis.url}/99")
    with pytest.raises(StartError, match=r"plugins\.redis_source\.url: there is no such database"):
        async with open_plugins(RedisSource, Billing, settings=table):
            pass


async def test_large_messages_in_flight_are_bounded_in_memory(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fewer large messages than `prefetch` are fetched at once, and all are handled."""
    monkeypatch.setattr(_source, "BYTES_IN_FLIGHT", 1_000_000)
    large = b'{"number":%d,"more":"' + b"x" * 100_000 + b'"}'
    await redis.send([Message(large % number, {}) for number in range(40)])
    async with open_plugins(RedisSource, Billing, settings=source(redis, prefetch=3)) as runtime:
        billing, acks = runtime.get(Billing), runtime.get(RedisSource)._acks  # pyright: ignore[reportPrivateUsage]
        billing.may_go_on = trio.Event()
        await billing.until(bool)
        runtime.get(RedisSource).prefetch = 100
        billing.may_go_on.set()
        most = 0
        while len(billing.seen) < 40:
            most = max(most, acks.bytes)
            await trio.lowlevel.checkpoint()
    assert most <= 1_000_000


async def test_a_stop_does_not_wait_for_unpublished_events(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stop gives back events that wait for memory, and lets a plugin finish its own."""
    monkeypatch.setattr(_source, "WAIT_FOR_BYTES", 100.0)
    large = b'{"number":%d,"more":"' + b"x" * 60_000 + b'"}'
    await redis.send([Message(large % number, {}) for number in range(2)])
    tables: dict[str, Table] = source(redis, drain=20.0)
    tables["billing"] = {"delivery": {"buffer_bytes": 100_000}}
    shutdown = ShutdownSettings(close=25.0)
    async with trio.open_nursery() as nursery:
        async with open_plugins(
            RedisSource, Billing, settings=tables, shutdown=shutdown
        ) as runtime:
            billing = runtime.get(Billing)
            billing.may_go_on = may_go_on = trio.Event()

            @nursery.start_soon
            async def let_go_on() -> None:
                await runtime.stopping.wait()
                await trio.sleep(0.1)
                may_go_on.set()

            await billing.until(bool)
            while len(runtime.get(RedisSource)._acks.in_flight) < 2:  # pyright: ignore[reportPrivateUsage]
                await trio.sleep(0.01)
            began = trio.current_time()
        assert trio.current_time() - began < 6
    assert billing.seen == [0]
    async with open_plugins(RedisSource, Billing, settings=tables) as runtime:
        await runtime.get(Billing).until(lambda seen: seen == [1])


async def test_a_message_that_no_inbox_can_hold_is_a_dead_letter(redis: RedisServer) -> None:
    """A message that is too large is never decoded, and the others are handled."""
    dense = b'{"number":2,"more":[' + b",".join([b"{}"] * 10_000) + b"]}"
    await redis.send([plain(1), Message(dense, {}), plain(3)])
    tables: dict[str, Table] = {**source(redis), "billing": {"delivery": {"buffer_bytes": 100_000}}}
    async with open_plugins(RedisSource, Billing, settings=tables) as runtime:
        await runtime.get(Billing).until(lambda seen: seen == [1, 3])
        await becomes(1, lambda: number_of_dead(redis))


async def test_messages_for_a_slow_subscriber_are_fetched_together(redis: RedisServer) -> None:
    """With many messages in flight the next ones are fetched together."""

    class Slow(Billing):
        async def handle_event(self, event: Order) -> None:
            await trio.sleep(0.001)
            await super().handle_event(event)

    await redis.send([plain(number) for number in range(1000)])
    async with open_plugins(RedisSource, Slow, settings=source(redis, prefetch=100)) as runtime:
        await runtime.get(Slow).until(lambda seen: len(seen) == 1000)
        async with redis.client() as client:
            said = cast("dict[str, dict[str, int]]", await client.info("commandstats"))
    assert said["cmdstat_xreadgroup"]["calls"] <= 1000 / 10


async def test_a_certificate_must_be_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With TLS a server is refused if its authority is unknown, and accepted if it is known."""
    made, tls_port = Certificate.made_in(tmp_path), str(free_port())
    options = {"tls-port": tls_port, "tls-auth-clients": "no"}
    options |= {"tls-key-file": str(made.key), "tls-cert-file": str(made.certificate)}
    options |= {"tls-ca-cert-file": str(made.authority)}
    async with redis_server(tmp_path, **options) as server:
        settings = source(server, url=f"rediss://127.0.0.1:{tls_port}")
        with pytest.raises(
            StartError, match=r"plugins\.redis_source\.url: the certificate is not trusted"
        ):
            async with open_plugins(RedisSource, Billing, settings=settings):
                pass
        monkeypatch.setenv("SSL_CERT_FILE", str(made.authority))
        await server.send([plain(1)])
        async with open_plugins(RedisSource, Billing, settings=settings) as runtime:
            await runtime.get(Billing).until(bool)


async def test_a_limit_that_redis_does_not_tell(redis: RedisServer) -> None:
    """An event at which Redis ends the connection each time fails alone; others are sent once."""
    text = "x" * (await redis.limit() + 1)
    rules = ["on", "~*", "&*", "+@all", "-config", f">{PASSWORD}"]
    async with redis.client() as client:
        await client.acl_setuser(USER, *rules)
    table = redis.with_password(PASSWORD)
    settings = {"redis_sink": {**table, "reconnect_max": 0.05, "delivery": TOGETHER_IN_NOTES}}
    async with open_plugins(RedisSink, event_types=[Note], settings=settings) as runtime:
        for number in range(5):
            await runtime.publish(Note(number, text if number == 2 else ""))
        await runtime.publish(Note(5), wait=True)
        statistics = runtime.statistics()["redis_sink"]
        assert (statistics.handled, statistics.failed) == (5, 1)
    sent = [json.loads(each.body)["number"] for each in await redis.messages()]
    assert sent == [0, 1, 3, 4, 5]


async def test_a_full_redis_has_each_event_once(redis: RedisServer) -> None:
    """Events wait while Redis is full, and events of a batch that it took are not sent again."""
    settings = {"redis_sink": redis.settings(reconnect_max=0.05, delivery=TOGETHER_IN_NOTES)}
    async with open_plugins(RedisSink, event_types=[Note], settings=settings) as runtime:
        await runtime.publish(Note(0), wait=True)
        async with redis.client() as client:
            used = cast("int", (await client.info("memory"))["used_memory"])
            await client.config_set({"maxmemory": used + 500_000})
            for number in range(1, 20):
                await runtime.publish(Note(number, "x" * 50_000))
            await until_trouble(runtime, "redis_sink", "Redis refuses")
            await client.config_set({"maxmemory": 0})
        await until_handled(runtime, "redis_sink", 20)
    sent = [json.loads(each.body)["number"] for each in await redis.messages()]
    assert sorted(sent) == list(range(20))


async def test_a_sink_trims_its_stream(redis: RedisServer) -> None:
    """A stream has about `max_length` entries, the newest."""
    table = redis.settings(max_length=100, delivery={"events": ["order"], "block_for": 30})
    async with open_plugins(
        RedisSink, event_types=[Order], settings={"redis_sink": table}
    ) as runtime:
        for number in range(5000):
            await runtime.publish(Order(number))
    left = await redis.messages()
    assert 100 <= len(left) < 500
    assert b"4999" in left[-1].body


@pytest.mark.parametrize(
    ("options", "missing"),
    [
        ({"appendonly": "no"}, "without `appendonly yes`"),
        ({"appendfsync": "no"}, "with `appendfsync no` a power cut loses the last moments"),
        (
            {"appendfsync": "everysec"},
            "a power cut, or a crash of Redis beside a slow disk, loses the last moments",
        ),
        (
            {"maxmemory": "100mb", "maxmemory-policy": "allkeys-lru"},
            "with `maxmemory-policy allkeys-lru` a full Redis may drop the stream",
        ),
    ],
)
async def test_missing_guarantees_of_redis_are_logged(
    tmp_path: Path, options: dict[str, str], missing: str
) -> None:
    """The log has a line for each setting of Redis with which it may lose entries."""
    async with redis_server(tmp_path, **options) as server:
        with capture_logs() as logs:
            async with open_plugins(RedisSource, Billing, settings=source(server)):
                pass
    assert missing in "\n".join(str(entry.get("missing")) for entry in logs)


async def test_a_redis_that_keeps_everything_is_not_complained_of(tmp_path: Path) -> None:
    """With `appendfsync always` no guarantee is missing."""
    async with redis_server(tmp_path, appendfsync="always") as server:
        with capture_logs() as logs:
            async with open_plugins(RedisSource, Billing, settings=source(server)):
                pass
    assert not [entry for entry in logs if entry["log_level"] == "warning"]


@pytest.mark.parametrize(
    "url",
    [
        *("", "127.0.0.1:6379", "http://127.0.0.1/s3cret", "redis://", "redis://s3cret@h:s3cret"),
        *("redis://h?decode_responses=true", "unix:///s?decode_responses=true"),
    ],
)
async def test_a_wrong_url_is_refused(url: str) -> None:
    """A wrong URL is an error of the settings that names the key without repeating a password."""
    table = {"redis_sink": {"url": url, "stream": STREAM}}
    with pytest.raises(ConfigurationError, match=r"redis_sink\S* ?.*url") as caught:
        async with open_plugins(RedisSink, event_types=[Order], settings=table):
            pass
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("place", [0, 1, 2])
async def test_a_body_may_stand_anywhere(redis: RedisServer, place: int) -> None:
    """The body is found among other fields, even if its value is the name of its field."""
    fields = [("ce-subject", "data"), ("ce-specversion", "1.0")]
    fields.insert(place, ("data", '{"number": 7}'))
    fields += [("ce-id", "1"), ("ce-source", "data"), ("ce-type", "order")]
    async with redis.client() as client:
        await client.xadd(STREAM, dict(fields))
    async with open_plugins(RedisSource, Billing, settings=source(redis)) as runtime:
        await runtime.get(Billing).until(lambda seen: seen == [7])


async def test_a_dead_letter_that_is_put_back_dies_anew(redis: RedisServer) -> None:
    """A dead letter that dies again has the reason, the place and the count of this time."""
    async with redis.client() as client:
        await client.xadd(STREAM, {"data": "{", "dead-reason": "long ago", "dead-id": "0-0"})
    async with open_plugins(RedisSource, Billing, settings=source(redis)):
        await becomes(1, lambda: number_of_dead(redis))
    first = "return redis.call('XRANGE', KEYS[1], '-', '+')[1][2]"
    async with redis.client() as client:
        raw = cast("list[bytes]", await client.eval(first, [f"{STREAM}:dead"], []))
    assert sorted(raw[::2]) == [
        *(b"data", b"dead-deliveries", b"dead-id", b"dead-reason", b"dead-stream")
    ]
    assert raw[raw.index(b"dead-id") + 1] != b"0-0"
