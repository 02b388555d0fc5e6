"""One connection to NATS: connected once, asked many things at once, and lost once.

Owns what each failure of the client means, and the pipelining of what wants an answer.
Never knows JetStream's messages, nor Trivet.
"""

# pyright: reportUnknownMemberType=false
# nats-py has keywords without types.

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from itertools import count
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import attrs
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.errors import APIError, ServiceUnavailableError

from .._brokers._client import AwayError, CutOffError, MessageRefusedError, RefusedError
from ._library import STATUS, CarefulClient
from ._settings import is_seed

# What it would say with a traceback is raised here, and said by the plugin in a line.
logging.getLogger("nats").setLevel(logging.CRITICAL)

NO_RESPONDERS = "503"
NOT_ENABLED = (None, 10039, 10076)
"""The codes of JetStream's that is not there at all; None where nobody answered."""
WORDS_OF_REFUSAL = (
    "authorization",
    "authentication",
    "permissions violation",
    "revoked",
)

TOO_LARGE = "maximum payload"

T = TypeVar("T")
Headers = dict[str, str]
Hear = Callable[[int, Msg], bool]
"""Called with the number of a request, and what may be its answer; says whether it is one."""


@attrs.frozen(kw_only=True)
class Server:
    """Where NATS is, and how patient to be with it."""

    url: str = attrs.field(repr=False)
    """`nats://user:password@host:port`, `tls://`; several, separated by commas."""
    credentials: Path | None = None
    """A file with a user's JWT and seed, or the seed alone."""
    timeout: float = 5.0
    """Seconds for one answer, and for a connection."""
    name: str = ""
    """By what the server's operator knows the connection."""


class NotTheseError(RefusedError):
    """It is the credentials that are refused."""


@contextmanager
def translated() -> Generator[None]:
    """Raise what nats-py raises as what it means."""
    try:
        yield
    except ServiceUnavailableError as error:
        if error.err_code in NOT_ENABLED:
            raise RefusedError(
                "url", "JetStream is not enabled there, or not for this account"
            ) from (None)
        raise AwayError(f"JetStream refuses: {error.description}") from None
    except APIError as error:
        raise AwayError(f"JetStream refuses: {error.description}") from None
    except (nats.errors.Error, OSError, TimeoutError) as error:
        raise meant_by(error) from None


def meant_by(error: BaseException) -> AwayError:
    """What a failure of the connection means."""
    text = str(error) or ("no answer" if isinstance(error, TimeoutError) else type(error).__name__)
    text = text.removeprefix("nats: ")
    if isinstance(error, ssl.SSLCertVerificationError):
        return RefusedError("url", f"the certificate is not trusted: {text}")
    if isinstance(error, nats.errors.SecureConnWantedError):
        return RefusedError("url", "the server takes no TLS")
    if any(word in text.lower() for word in WORDS_OF_REFUSAL):
        return NotTheseError("url", f"not with these credentials: {text}")
    if TOO_LARGE in text.lower():
        return MessageRefusedError(text)
    is_cut = isinstance(error, nats.errors.UnexpectedEOF | ConnectionError)
    return CutOffError(text) if is_cut else AwayError(text)


class _Batch:
    """What was sent together, and the answers that are missing."""

    def __init__(self, left: int, hear: Hear) -> None:
        self.left = left
        self.hear = hear
        self.has_strays = False
        """Whether somebody has answered who was not asked."""
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class Line:
    """A connection, and what is waited for on it. Made by `connected`."""

    def __init__(self, client: Client, timeout: float) -> None:
        self.client = client
        self.timeout = timeout
        self.js: JetStreamContext = client.jetstream(timeout=timeout)
        self._inbox = ""
        self._numbers = count()
        self._asked: dict[str, tuple[_Batch, int]] = {}
        self._open: set[asyncio.Future[Any]] = set()
        self._end: AwayError | None = None

    async def begin(self) -> None:
        """Be ready for answers."""
        self._inbox = self.client.new_inbox()
        await self.client.subscribe(f"{self._inbox}.*", cb=self._hear)

    def fail(self, error: AwayError) -> None:
        """Nothing more is to be expected of it."""
        self._end = self._end or error
        for future in self._open:
            if not future.done():
                future.set_exception(self._end)

    @contextmanager
    def translated(self) -> Generator[None]:
        """As the function of this name; what waits in vain for what is not permitted says so."""
        try:
            with translated():
                yield
        except AwayError:
            if self._end is not None:
                raise self._end from None
            raise

    async def until(self, future: asyncio.Future[T], seconds: float) -> T:
        """Wait for this, for so many seconds.

        Raises:
            AwayError: the time is over, or the connection.
        """
        if self._end is not None:
            raise self._end
        self._open.add(future)
        try:
            async with asyncio.timeout(seconds):
                return await future
        except TimeoutError:
            raise self._silent() from None
        finally:
            self._open.discard(future)

    async def ask(
        self,
        requests: Sequence[tuple[str, bytes, Headers | None]],
        hear: Hear,
    ) -> None:
        """Send all of them, in order, and wait until each is answered.

        Args:
            requests: subject, body and headers of each.
            hear: see `Hear`. What is no answer comes from somebody else who listens there.

        Raises:
            AwayError: not all of them were answered.
        """
        if self._end is not None:
            raise self._end
        batch, tokens = _Batch(len(requests), hear), [str(next(self._numbers)) for _ in requests]
        self._asked.update((token, (batch, index)) for index, token in enumerate(tokens))
        try:
            self._open.add(batch.done)
            with self.translated():
                for token, (subject, body, headers) in zip(tokens, requests, strict=True):
                    reply = f"{self._inbox}.{token}"
                    await self.client.publish(subject, body, reply, headers)
            await self._all_answers(batch)
        finally:
            self._open.discard(batch.done)
            for token in tokens:
                self._asked.pop(token, None)

    async def _all_answers(self, batch: _Batch) -> None:
        """Wait for them, for as long as now and then one comes."""
        left = batch.left + 1
        while not batch.done.done():
            if batch.left == left:
                raise self._silent(has_strays=batch.has_strays)
            left = batch.left
            await asyncio.wait((batch.done,), timeout=self.timeout)
        batch.done.result()

    def _silent(self, *, has_strays: bool = False) -> AwayError:
        but = ", but of others who listen there" if has_strays else ""
        return AwayError(f"no answer within {self.timeout:g} s{but}")

    async def tell(self, told: Sequence[tuple[str, bytes]]) -> None:
        """Send all of them, and wait for an answer to the last: before that all were heard.

        What comes over one connection is handled in its order.
        """
        *others, (subject, body) = told
        with self.translated():
            for each, text in others:
                await self.client.publish(each, text)
        await self.ask([(subject, body, None)], _must_be_heard)

    async def _hear(self, message: Msg) -> None:
        token = message.subject.rpartition(".")[2]
        asked = self._asked.get(token)
        if asked is None:
            return
        batch, index = asked
        if batch.done.done():
            return
        try:
            if not batch.hear(index, message):
                batch.has_strays = True
                return
        except AwayError as error:
            batch.done.set_exception(error)
            return
        del self._asked[token]
        batch.left -= 1
        if not batch.left:
            batch.done.set_result(None)


def status_of(message: Msg) -> str:
    """The status that the server, and no program, has put into a message without a body."""
    headers: Mapping[str, str] = message.headers or {}
    return "" if message.data else headers.get(STATUS, "")


def _must_be_heard(_: int, message: Msg) -> bool:
    if status_of(message) == NO_RESPONDERS:
        raise AwayError("the consumer is gone")
    return True


@asynccontextmanager
async def connected(server: Server) -> AsyncGenerator[Line]:
    """A connection that ends with the block; it is not made again.

    Raises:
        AwayError: it does not answer.
        RefusedError: it refuses the credentials.
    """
    client = CarefulClient()
    line = Line(client, server.timeout)
    reasons: list[Exception] = []

    async def note(error: Exception) -> None:
        """Hear of what the client has met with, in its own tasks."""
        reasons.append(error)
        meant = meant_by(error)
        if isinstance(meant, RefusedError):  # Who waits for an answer would wait in vain.
            line.fail(meant)

    async def lost() -> None:
        """Hear of the end."""
        last = client.last_error or (reasons[-1] if reasons else None)
        line.fail(meant_by(last) if last else AwayError("the connection is closed"))

    try:
        with translated():
            try:
                await client.connect(**_options(server), error_cb=note, closed_cb=lost)
            except nats.errors.NoServersError:
                raise (reasons[-1] if reasons else AwayError("no server")) from None
            await line.begin()
        yield line
    except NotTheseError as error:
        if server.credentials is None:
            raise
        raise RefusedError("credentials", error.reason) from None
    finally:
        await client.close()


def _options(server: Server) -> dict[str, Any]:
    urls = [urlsplit(each.strip()) for each in server.url.split(",")]
    options: dict[str, Any] = {
        "servers": [f"{url.scheme}://{url.netloc.rpartition('@')[2]}" for url in urls],
        "name": server.name,
        "allow_reconnect": False,
        "max_reconnect_attempts": 1,
        "reconnect_time_wait": 0,
        "connect_timeout": server.timeout,
        "ping_interval": server.timeout,
        "max_outstanding_pings": 1,
        "flush_timeout": server.timeout,
    }
    for url in urls:
        if url.username and url.password is not None:
            options |= {"user": unquote(url.username), "password": unquote(url.password)}
        elif url.username:
            options["token"] = unquote(url.username)
    if (file := server.credentials) is not None:
        try:
            options["nkeys_seed" if is_seed(file) else "user_credentials"] = str(file)
        except ValueError as error:  # It has been written anew.
            raise RefusedError("credentials", str(error)) from None
    if any(url.scheme == "tls" for url in urls):
        options["tls"] = ssl.create_default_context()
    return options
