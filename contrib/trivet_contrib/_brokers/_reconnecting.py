"""One connection to a broker, made anew for ever.

Owns the back-off, and that the plugin's status says whether the broker is there.
Never knows which broker, nor what is asked of it.
"""

from __future__ import annotations

import math
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from typing import Generic, Protocol, TypeVar

import trio

from trivet import Plugin, WrongSettingError

from ._client import AwayError, RefusedError

FIRST_WAIT = 0.1
"""Seconds before the second attempt to connect, at most; it doubles with each."""


class Connection(Protocol):
    """What is to be connected."""

    @property
    def not_promised(self) -> Sequence[str]:
        """What an operator should know."""
        ...


C = TypeVar("C", bound=Connection)
T = TypeVar("T")


class Backoff:
    """Waits that double, with full jitter, up to a limit."""

    def __init__(self, at_most: float, first: float = FIRST_WAIT) -> None:
        self._first = min(first, at_most)
        self._at_most = at_most
        self._next = self._first

    async def wait(self) -> None:
        """Wait, and longer the next time."""
        await trio.sleep(random.uniform(0, self._next))
        self._next = min(self._at_most, self._next * 2)

    def reset(self) -> None:
        """It has worked."""
        self._next = self._first

    def has_worked_for(self, seconds: float) -> None:
        """It has, but not for good: after less than the limit the next wait is no shorter."""
        if seconds >= self._at_most:
            self.reset()


class Link(Generic[C]):
    """Connects for a plugin, and again whenever the connection is lost.

    Args:
        plugin: it is degraded while there is no connection.
        connect: makes a connection; raises `AwayError`, and `RefusedError` for wrong settings.
        at_most: seconds between two attempts.
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
        self._connection: C | None = None
        self._changed = trio.Event()
        self._told: tuple[str, ...] = ()

    async def check(self) -> None:
        """Connect once, to find wrong settings before anything starts. One that is away may be.

        Raises:
            WrongSettingError: it answers, and refuses.
        """
        try:
            async with self._connect() as connection:
                self._tell(connection)
        except RefusedError as error:
            raise WrongSettingError(error.setting, error.reason) from None
        except AwayError as error:
            self._plugin.log.warning("the broker is away", reason=str(error))

    async def run(self) -> None:
        """Connect, and connect again, until cancelled."""
        while True:
            since = math.inf
            try:
                async with self._connect() as connection:
                    since = trio.current_time()
                    self._tell(connection)
                    self._plugin.recover()
                    self._set(connection)
                    while self._connection is connection:
                        await self._changed.wait()
            except AwayError as error:
                self._plugin.degrade(str(error))
            finally:
                self._set(None)
            self._backoff.has_worked_for(trio.current_time() - since)
            await self._backoff.wait()

    async def call(self, ask: Callable[[C], Awaitable[T]]) -> T:
        """Ask the broker, for as long and as often as it takes to get an answer."""
        while True:
            with suppress(AwayError):  # The plugin is degraded, and says why.
                return await self.attempt(ask)

    async def attempt(self, ask: Callable[[C], Awaitable[T]]) -> T:
        """Ask the broker once, as soon as it is there.

        Raises:
            AwayError: it gives no answer, or refuses; the connection is made anew.
        """
        while (connection := self._connection) is None:
            await self._changed.wait()
        try:
            return await ask(connection)
        except AwayError as error:
            if self._connection is connection:
                self._plugin.degrade(str(error))
                self._set(None)
            raise

    def _set(self, connection: C | None) -> None:
        self._connection = connection
        self._changed.set()
        self._changed = trio.Event()

    def _tell(self, connection: C) -> None:
        """Say once what is not promised, and again where it has become something else."""
        told, self._told = self._told, tuple(connection.not_promised)
        for each in self._told:
            if each not in told:
                self._plugin.log.warning("the broker does not promise all", missing=each)
