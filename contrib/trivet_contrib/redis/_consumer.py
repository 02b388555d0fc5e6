"""Redis Streams: a consumer of a group, and a producer.

Owns the commands, what each refusal means for a setting, and the checks of the server's own.
Never knows Trivet, nor what an entry is about.
"""

from __future__ import annotations

import logging
import math
import re
import secrets
import ssl
from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from types import MappingProxyType
from typing import Any, cast

import attrs
import coredis
import trio
from coredis.commands import CommandRequest
from coredis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    RedisError,
    ResponseError,
    StreamConsumerGroupError,
    StreamDuplicateConsumerGroupError,
    WrongTypeError,
)
from coredis.exceptions import (
    ConnectionError as LostError,
)
from coredis.response.types import StreamEntry
from coredis.retry import NoRetryPolicy
from coredis.tokens import PureToken

from .._brokers._client import (
    AwayError,
    Consumer,
    CutOffError,
    Message,
    MessageRefusedError,
    Producer,
    Received,
    RefusedError,
    UnsendableError,
)

# It tells with a traceback each time what is raised here, and said by the plugin in a line.
logging.getLogger("coredis").setLevel(logging.CRITICAL)

BODY = "data"
"""The field that holds the body; the others are headers."""
WAITING = "(waiting)"
"""A consumer that there is not: its is what has failed, or was given back, until it is claimed."""
GONE = 3600.0
"""Seconds in which a consumer that lives has asked for something."""
OLDEST = (7, 0)
"""Redis 7.0: its XAUTOCLAIM tells which entries are there no more."""

FORGET = """
for _, facts in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local consumer = {}
  for i = 1, #facts, 2 do consumer[facts[i]] = facts[i + 1] end
  if consumer.pending == 0 and consumer.idle > tonumber(ARGV[2]) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], consumer.name)
  end
end
"""
"""In one step: a consumer that is deleted with something in hand loses it."""

TRIMMED = "it was trimmed or deleted while it was in hand"
NOT_PENDING = (
    "nobody has it in hand any more: somebody has acknowledged it, or has deleted its consumer"
)
TOO_LARGE = ("Protocol error", "proto-max-bulk-len", "too large")
"""Redis' words for a message that it never takes, before it may end the connection."""
IS_ID = re.compile(rb"\d+-\d+").fullmatch

Client = coredis.Redis[bytes]


@attrs.frozen(kw_only=True)
class Server:
    """Where Redis is, and how patient to be with it."""

    url: str = attrs.field(repr=False)
    """`redis://user:password@host:port/db`, `rediss://` for TLS, `unix://`."""
    timeout: float = 5.0
    """Seconds for one answer, and for a connection."""


def new_name(service: str) -> str:
    """A consumer's name, which no other has."""
    return f"{service}-{secrets.token_hex(6)}"


@attrs.frozen(kw_only=True)
class Group:
    """What is consumed, and as whom."""

    stream: str
    group: str
    consumer: str
    create: bool
    """Whether to make a stream that is missing."""
    start: str
    """Where a group begins that is missing: `0` for the first entry there is, `$` for the next."""
    visibility: float
    """Seconds after which others may have what is in hand."""
    dead_letters: str
    """The stream of the dead letters."""
    max_dead_letters: int


@contextmanager
def translated() -> Generator[None]:
    """Raise what coredis raises as what it means."""
    try:
        yield
    except (AuthenticationError, AuthorizationError) as error:
        raise RefusedError("url", f"not with these credentials: {error}") from None
    except WrongTypeError:
        raise RefusedError("stream", "a key of this name holds something else") from None
    except StreamConsumerGroupError as error:
        raise RefusedError("stream", f"it, or its group, is gone: {error}") from None
    except (LostError, TimeoutError, OSError) as error:
        if isinstance(error.__cause__, ssl.SSLCertVerificationError):
            reason = f"the certificate is not trusted: {_words(error.__cause__)}"
            raise RefusedError("url", reason) from None
        is_silent = isinstance(error, TimeoutError)
        raise (AwayError if is_silent else CutOffError)(_words(error)) from None
    except RedisError as error:
        if "DB index" in str(error):
            raise RefusedError("url", f"there is no such database: {error}") from None
        is_too_large = any(words in str(error) for words in TOO_LARGE)
        raise (MessageRefusedError if is_too_large else AwayError)(
            f"Redis refuses: {error}"
        ) from None


def _words(error: BaseException) -> str:
    """What has happened; a cause says more than what wraps it."""
    cause = error.__cause__
    text = str(error) or type(error).__name__
    return f"{text} ({_words(cause)})" if cause is not None else text


@asynccontextmanager
async def connected(server: Server) -> AsyncGenerator[Client]:
    """A client whose connections end with the block; what is raised in it is raised alone.

    Raises:
        AwayError: it does not answer.
        RefusedError: it refuses the credentials.
    """
    options: dict[str, Any] = {}
    if server.url.startswith("rediss:"):  # By itself coredis would take any certificate.
        options["ssl_context"] = ssl.create_default_context()
    client = cast(
        "Client",
        coredis.Redis.from_url(
            server.url,
            verify_version=False,
            retry_policy=NoRetryPolicy(),
            stream_timeout=server.timeout,
            connect_timeout=server.timeout,
            **options,
        ),
    )
    failure: BaseException | None = None
    try:
        async with client:
            try:
                yield client
            except Exception as error:  # Out of the client's nursery it would come in a group.
                failure = error
    except BaseExceptionGroup as group:
        raise _only(group) from None
    if failure is not None:
        raise failure


def _only(error: BaseException) -> BaseException:
    """What is in a group, where it is one thing; otherwise the group."""
    inner: tuple[BaseException, ...] = getattr(error, "exceptions", ())
    return _only(inner[0]) if len(inner) == 1 else error


async def _check_stream(
    client: Client, stream: str, *, create: bool, setting: str = "stream"
) -> None:
    """Raise `RefusedError` where it is something else, or missing and not to be made."""
    kind = _text(await client.type(stream) or b"none")
    if kind not in ("stream", "none"):
        raise RefusedError(setting, f"{stream!r} is a {kind} in Redis, not a stream")
    if kind == "none" and not create:
        raise RefusedError(setting, f"there is no {stream!r} in Redis; `create = true` makes it")


async def _settings_of(client: Client) -> dict[str, str] | ResponseError:
    """How Redis is set up, or why it does not say so."""
    wanted = ["appendonly", "appendfsync", "maxmemory", "maxmemory-policy", "proto-max-bulk-len"]
    try:
        found = await client.config_get(wanted)
    except ResponseError as error:
        return error
    return {_text(name): _text(value) for name, value in found.items()}


def _largest(said: dict[str, str] | ResponseError) -> float:
    """Bytes of a field that it takes, at most, as far as it says."""
    if isinstance(said, ResponseError):
        return math.inf
    limits = [int(said.get(name, "0")) for name in ("proto-max-bulk-len", "maxmemory")]
    return min([limit for limit in limits if limit > 0], default=math.inf)


def _promises(said: dict[str, str] | ResponseError) -> list[str]:
    """What Redis, as it is set up, may lose."""
    if isinstance(said, ResponseError):
        return [f"its settings cannot be read ({said}): whether it keeps anything is not known"]
    missing: list[str] = []
    if said.get("appendonly") != "yes":
        missing.append("without `appendonly yes` Redis loses what came since its last snapshot")
    elif said.get("appendfsync") != "always":
        missing.append(
            f"with `appendfsync {said.get('appendfsync')}` a power cut costs the last moments"
        )
    policy = said.get("maxmemory-policy", "noeviction")
    if said.get("maxmemory", "0") != "0" and policy != "noeviction":
        missing.append(f"with `maxmemory-policy {policy}` a full Redis may drop the stream")
    return missing


def _text(value: str | bytes) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


class RedisConsumer(Consumer):
    """See `Consumer`. Made by `open_consumer`."""

    def __init__(self, client: Client, group: Group, *, block: float) -> None:
        self.visibility = group.visibility
        self._client = client
        self._group = group
        self._look_every = group.visibility / 10
        # An answer that blocks must not look like none.
        self._block = max(1, int(1000 * min(block, self._look_every)))
        self._history: str | None = "-"
        """Where to read on in what this consumer had in hand before; None when that is all read."""
        self._cursor: bytes | str = "0-0"
        self._look_at = 0.0

    async def fetch(self, count: int) -> list[Received]:
        """See `Consumer`."""
        with translated():
            if self._history is not None:
                return await self._fetch_history(count)
            if trio.current_time() >= self._look_at and (claimed := await self._claim(count)):
                return claimed
            return await self._read(count)

    async def _read(self, count: int) -> list[Received]:
        group = self._group
        request = cast(
            "CommandRequest[_Sent]",
            self._client.xreadgroup(
                group.group, group.consumer, {group.stream: ">"}, count=count, block=self._block
            ),
        )
        # As Redis sends them: to put each into coredis' own form first takes a microsecond or two.
        request.callback = _as_sent
        return [
            _received(identifier.decode(), fields)
            for entries in (await request).values()
            for identifier, fields in entries
        ]

    async def _fetch_history(self, count: int) -> list[Received]:
        # XREADGROUP would tell it all at once, but coredis fails at entries that are trimmed.
        group, after = self._group, self._history
        pending = cast(
            "Sequence[Any]",
            await self._client.xpending(
                group.stream, group.group, after, "+", count, consumer=group.consumer
            ),
        )
        if not pending:
            self._history = None
            return []
        tags = [_text(each.identifier) for each in pending]
        self._history = f"({tags[-1]}"
        async with self._client.pipeline(transaction=True) as pipeline:
            found = [pipeline.xrange(group.stream, tag, tag) for tag in tags]
            claimed = pipeline.xclaim(
                group.stream, group.group, group.consumer, 0, tags, justid=True
            )
        kept = set(map(_text, cast("Sequence[bytes]", await claimed)))
        received: list[Received] = []
        for each, tag, asked in zip(pending, tags, found, strict=True):
            entries = await asked
            if not entries:
                received.append(_trimmed(tag))
            elif tag in kept:  # Or somebody has acknowledged it meanwhile.
                received.append(_taken_over(entries[0], int(each.delivered)))
        return received

    async def _claim(self, count: int) -> list[Received]:
        """What others have let lie for too long, and what has failed somewhere."""
        group = self._group
        # Looked for now and then, and found within the time that was promised.
        idle = int(800 * group.visibility)
        answer = await self._client.xautoclaim(
            group.stream, group.group, group.consumer, idle, self._cursor, count=count
        )
        self._cursor, found = answer[0], cast("tuple[StreamEntry, ...]", answer[1])
        if self._cursor in (b"0-0", "0-0"):
            self._look_at = trio.current_time() + self._look_every
        trimmed = answer[2] if len(answer) > 2 else ()
        return [*await self._counted(found), *map(_trimmed, trimmed)]

    async def _counted(self, entries: Sequence[StreamEntry]) -> list[Received]:
        """With how often each was delivered, which only the list of pending entries knows."""
        if not entries:
            return []
        group = self._group
        async with self._client.pipeline(transaction=False) as pipeline:
            asked = [
                pipeline.xpending(
                    group.stream, group.group, start=entry.identifier, end=entry.identifier, count=1
                )
                for entry in entries
            ]
        received: list[Received] = []
        for entry, pending in zip(entries, asked, strict=True):
            facts = await pending
            times = cast("Sequence[Any]", facts)[0].delivered if facts else 1
            received.append(_taken_over(entry, int(times)))
        return received

    async def acknowledge(self, messages: Sequence[Received]) -> int:
        """See `Consumer`."""
        with translated():
            tags = _tags(messages)
            return len(tags) - await self._client.xack(self._group.stream, self._group.group, tags)

    async def retry(self, messages: Sequence[Received]) -> list[tuple[Received, str]]:
        """See `Consumer`: they lie with nobody until the visibility is over.

        What somebody else has by now stays there.
        """
        with translated():
            owners = await self._owners(_tags(messages))
            kept = await self._hand_to(WAITING, owners)
        lost: list[tuple[Received, str]] = []
        for message in messages:
            if message.tag not in owners:
                lost.append((message, NOT_PENDING))
            elif owners[message.tag] == self._group.consumer and message.tag not in kept:
                lost.append((message, TRIMMED))
        return lost

    async def _owners(self, tags: Sequence[str]) -> dict[str, str]:
        """Which consumer has each in hand; those are missing that none has."""
        group = self._group
        async with self._client.pipeline(transaction=False) as pipeline:
            asked = [
                pipeline.xpending(group.stream, group.group, start=tag, end=tag, count=1)
                for tag in tags
            ]
        found = [cast("Sequence[Any]", await each) for each in asked]
        return {
            tag: _text(facts[0].consumer) for tag, facts in zip(tags, found, strict=True) if facts
        }

    async def _hand_to(self, consumer: str, owners: Mapping[str, str]) -> set[str]:
        """Hand on what is in hand here; says what of it the stream still has."""
        group = self._group
        own = [tag for tag, owner in owners.items() if owner == group.consumer]
        if not own:
            return set()
        kept = await self._client.xclaim(group.stream, group.group, consumer, 0, own, justid=True)
        return set(map(_text, cast("Sequence[bytes]", kept)))

    async def bury(self, messages: Sequence[tuple[Received, str]]) -> None:
        """See `Consumer`: there and gone from here in one step."""
        group = self._group
        with translated():
            async with self._client.pipeline(transaction=True) as pipeline:
                for message, reason in messages:
                    facts = {
                        b"dead-reason": reason.encode(errors="backslashreplace"),
                        b"dead-stream": group.stream.encode(),
                        b"dead-id": message.tag.encode(),
                        b"dead-deliveries": b"%d" % message.deliveries,
                    }
                    pipeline.xadd(
                        group.dead_letters,
                        {**_pairs(message.raw), **facts},
                        trim_strategy=PureToken.MAXLEN,
                        trim_operator=PureToken.APPROXIMATELY,
                        threshold=group.max_dead_letters,
                    )
                pipeline.xack(group.stream, group.group, _tags([each for each, _ in messages]))

    async def extend(self, messages: Sequence[Received]) -> None:
        """See `Consumer`. What somebody else has by now stays there."""
        with translated():
            await self._hand_to(self._group.consumer, await self._owners(_tags(messages)))

    async def leave(self) -> None:
        """See `Consumer`: what was given back can be claimed at once, and the consumer is gone."""
        group = self._group
        with translated():
            while await self._give_back():
                pass
            await self._client.xgroup_delconsumer(group.stream, group.group, group.consumer)

    async def _give_back(self) -> int:
        group = self._group
        pending = cast(
            "Sequence[Any]",
            await self._client.xpending(
                group.stream, group.group, start="-", end="+", count=1000, consumer=group.consumer
            ),
        )
        if not pending:
            return 0
        async with self._client.pipeline(transaction=False) as pipeline:
            for each in pending:
                pipeline.xclaim(
                    group.stream,
                    group.group,
                    WAITING,
                    0,
                    [each.identifier],
                    idle=int(1000 * group.visibility),
                    retrycount=max(0, int(each.delivered) - 1),  # It is not to blame.
                    justid=True,
                )
        return len(pending)


def _tags(messages: Sequence[Received]) -> list[str]:
    return [message.tag for message in messages]


_BODY = BODY.encode()
_Sent = Mapping[bytes, Sequence[tuple[bytes, Sequence[bytes]]]]
"""Streams with their entries, each an identifier with its fields."""
NO_HEADERS: Mapping[str, str] = MappingProxyType({})


def _trimmed(identifier: str | bytes) -> Received:
    """All that is left of an entry that was trimmed, or deleted, before it was acknowledged."""
    fault = f"{TRIMMED}; its content is lost"
    return Received(b"", NO_HEADERS, tag=_text(identifier), fault=fault, raw=())


def _taken_over(entry: StreamEntry, deliveries: int) -> Received:
    fields = cast("dict[bytes, bytes]", entry.field_values)
    raw = [each for field in fields.items() for each in field]
    return _received(_text(entry.identifier), raw, deliveries)


def _received(tag: str, raw: Sequence[bytes], deliveries: int = 1) -> Received:
    """An entry with its fields, name and value in turn."""
    if raw[-2] == _BODY:  # As the sink writes it.
        headers = _headers(raw[:-2]) if len(raw) > 2 else NO_HEADERS
        return Received(raw[-1], headers, tag=tag, deliveries=deliveries, raw=raw)
    fields = _pairs(raw)
    body = fields.pop(_BODY, None)
    headers = _headers([each for field in fields.items() for each in field])
    fault = f"it has no field {BODY!r}" if body is None else None
    return Received(body or b"", headers, tag=tag, deliveries=deliveries, fault=fault, raw=raw)


def _pairs(raw: object) -> dict[bytes, bytes]:
    each = iter(cast("Sequence[bytes]", raw))
    return {name: next(each) for name in each}


def _headers(raw: Sequence[bytes]) -> dict[str, str]:
    try:
        texts = map(bytes.decode, raw)
        return {name: next(texts) for name in texts}
    except UnicodeDecodeError:
        return {_text(name): _text(value) for name, value in _pairs(raw).items()}


def _as_sent(answer: _Sent | None) -> _Sent:
    """The streams of an answer; none where it is empty."""
    return answer or {}


@asynccontextmanager
async def open_consumer(server: Server, group: Group) -> AsyncGenerator[RedisConsumer]:
    """Connect as a consumer of a group, which is made where it is missing.

    Raises:
        AwayError: Redis does not answer.
        RefusedError: it does, and something is wrong: `url`, `stream`.
    """
    async with connected(server) as client:
        with translated():
            consumer = RedisConsumer(client, group, block=server.timeout / 2)
            await _require_version(client)
            await _check_stream(client, group.stream, create=group.create)
            await _check_stream(client, group.dead_letters, create=True, setting="dead_letters")
            await _make_group(client, group)
            consumer.not_promised = (
                *_promises(await _settings_of(client)),
                *await _forget_the_dead(client, group),
            )
        yield consumer


async def _require_version(client: Client) -> None:
    info = await client.info("server")
    version = str(info.get("redis_version", "7.0.0"))
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST:
        raise RefusedError("url", f"this is Redis {version}; 7.0 or newer is needed")


async def _make_group(client: Client, group: Group) -> None:
    with suppress(StreamDuplicateConsumerGroupError):  # It is there.
        await client.xgroup_create(
            group.stream, group.group, identifier=group.start, mkstream=group.create or None
        )


async def _forget_the_dead(client: Client, group: Group) -> list[str]:
    try:
        await client.eval(FORGET, [group.stream], [group.group, int(1000 * GONE)])
    except ResponseError as error:
        return [f"consumers of processes that were killed stay in the group's list: {error}"]
    return []


class RedisProducer(Producer):
    """See `Producer`. Made by `open_producer`."""

    def __init__(self, client: Client, stream: str, max_length: int, largest: float) -> None:
        self._client = client
        self._stream = stream
        self._largest = largest
        self._trimming: dict[str, Any] = {}
        if max_length:
            self._trimming = {
                "trim_strategy": PureToken.MAXLEN,
                "trim_operator": PureToken.APPROXIMATELY,
                "threshold": max_length,
            }

    async def send(self, messages: Sequence[Message], taken: set[int]) -> None:
        """See `Producer`: all in one go."""
        self._check_sizes(messages)
        with translated():
            async with self._client.pipeline(transaction=False, raise_on_error=False) as pipeline:
                for message in messages:
                    fields: dict[str, str | bytes] = {**message.headers, BODY: message.body}
                    pipeline.xadd(self._stream, fields, **self._trimming)
            answers = pipeline.results or ()
            taken.update(place for place, each in enumerate(answers) if _is_entry(each))
            for answer in answers:
                if isinstance(answer, Exception):
                    raise answer
            if len(taken) < len(messages):
                raise AwayError("Redis does not say that it has all entries")

    def _check_sizes(self, messages: Sequence[Message]) -> None:
        too_large = {
            place: f"it is larger than Redis takes: {size} bytes, of {self._largest}"
            for place, message in enumerate(messages)
            if (size := _size_of(message)) > self._largest
        }
        if too_large:
            raise UnsendableError(too_large)


def _is_entry(answer: object) -> bool:
    return isinstance(answer, bytes) and IS_ID(answer) is not None


def _size_of(message: Message) -> int:
    """Bytes of the largest of its fields."""
    return max(len(message.body), *(len(value.encode()) for value in message.headers.values()))


@asynccontextmanager
async def open_producer(
    server: Server, stream: str, *, create: bool, max_length: int
) -> AsyncGenerator[RedisProducer]:
    """Connect, to send to a stream.

    Args:
        server: where.
        stream: its key.
        create: whether it may be missing.
        max_length: entries that it keeps, more or less; 0 for all.

    Raises:
        AwayError: Redis does not answer.
        RefusedError: it does, and something is wrong: `url`, `stream`.
    """
    async with connected(server) as client:
        with translated():
            await _check_stream(client, stream, create=create)
            said = await _settings_of(client)
            producer = RedisProducer(client, stream, max_length, _largest(said))
            missing = _promises(said)
            if max_length:
                missing.append(
                    f"the oldest beyond about {max_length} entries are trimmed, read or not"
                )
            producer.not_promised = tuple(missing)
        yield producer
