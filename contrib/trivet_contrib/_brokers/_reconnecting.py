"""One connection to a broker, made again whenever it is lost.

Owns the back-off, and the plugin's status while the broker is unavailable.
Never knows a particular broker, nor the requests.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from typing import Generic, TypeVar

import trio

from trivet import Plugin, WrongSettingError, full_jitter

from ._client import BrokerRefusedError, BrokerUnavailableError, Client

FIRST_WAIT = 0.1
"""Seconds before the second attempt to connect, at most; the limit doubles with each attempt."""

C = TypeVar("C", bound=Client)
T = TypeVar("T")


class Backoff:
    """Waits with full jitter, whose limit doubles up to `at_most` seconds."""

    def __init__(self, at_most: float) -> None:
        self._at_most = at_most
        self._waits = 0

    async def wait(self) -> None:
        """Wait; the limit of the next wait is twice as long."""
        self._waits += 1
        await trio.sleep(full_jitter(FIRST_WAIT, 2, self._at_most, self._waits))

    def reset(self) -> None:
        """Begin again with the first limit, after a success."""
        self._waits = 0

    def reset_after(self, seconds: float) -> None:
        """Begin again, after a success that lasted `seconds`, unless it was shorter than the most.

        A connection that is lost again and again must not be made again in a hurry.
        """
        if seconds >= self._at_most:
            self.reset()


class Reconnector(Generic[C]):
    """A plugin's connection, made again whenever it is lost.

    Args:
        plugin: the plugin, which is degraded while there is no connection.
        connect: makes a connection. It raises `BrokerUnavailableError`, and `BrokerRefusedError`
            for wrong settings.
        at_most: seconds between two attempts, at most.
    """

    def __init__(
        self,
        plugin: Plugin,
        connect: Callable[[], AbstractAsyncContextManager[C]],
        *,
        at_most: float,
    ) -> None:
        self._plugin = plugin
        self._connect = connect
        self._backoff = Backoff(at_most)
        self._client: C | None = None
        self._changed = trio.Event()
        self._logged: tuple[str, ...] = ()

    async def check(self) -> None:
        """Connect once, to find wrong settings before anything starts.

        A broker that is unavailable is logged, and is no error.

        Raises:
            WrongSettingError: the broker answers, and refuses.
        """
        try:
            async with self._connect() as client:
                self._log_missing_guarantees(client)
        except BrokerRefusedError as error:
            raise WrongSettingError(error.setting, error.reason) from None
        except BrokerUnavailableError as error:
            self._plugin.log.warning("the broker is unavailable", reason=str(error))

    async def run(self) -> None:
        """Connect, and connect again, until cancelled."""
        while True:
            since = math.inf
            try:
                async with self._connect() as client:
                    since = trio.current_time()
                    self._log_missing_guarantees(client)
                    self._plugin.recover()
                    self._set(client)
                    while self._client is client:
                        await self._changed.wait()
            except BrokerUnavailableError as error:
                self._degrade(error)
            finally:
                self._set(None)
            self._backoff.reset_after(trio.current_time() - since)
            await self._backoff.wait()

    async def call(self, request: Callable[[C], Awaitable[T]]) -> T:
        """Make a request, and repeat it until the broker answers."""
        while True:
            with suppress(BrokerUnavailableError):  # The plugin is degraded, and says why.
                return await self.attempt(request)

    async def attempt(self, request: Callable[[C], Awaitable[T]]) -> T:
        """Make a request once, as soon as there is a connection.

        Raises:
            BrokerUnavailableError: the broker gives no answer, or refuses. The connection is made
                again.
        """
        while (client := self._client) is None:
            await self._changed.wait()
        try:
            return await request(client)
        except BrokerUnavailableError as error:
            if self._client is client:
                self._degrade(error)
                self._set(None)
            raise

    def _degrade(self, error: BrokerUnavailableError) -> None:
        remedy = None
        if isinstance(error, BrokerRefusedError):
            remedy = f"correct `{error.setting}` in [plugins.{self._plugin.name}], or its broker"
        self._plugin.degrade(str(error), remedy=remedy)

    def _set(self, client: C | None) -> None:
        self._client = client
        self._changed.set()
        self._changed = trio.Event()

    def _log_missing_guarantees(self, client: C) -> None:
        """Log each missing guarantee once, and again after it was away for a connection."""
        logged, self._logged = self._logged, tuple(client.missing_guarantees)
        for each in self._logged:
            if each not in logged:
                self._plugin.log.warning("the broker does not guarantee everything", missing=each)
