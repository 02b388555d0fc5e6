"""Trivet's own side of one plugin, apart from what its author sees.

Owns the fields that other rooms set on a plugin.
Never knows who sets them, nor when.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import NoReturn, Protocol, TypeVar, TypeVarTuple, Unpack

import attrs
import trio

from .._events._delivery_settings import DeliveryPolicy
from ._resources import Resources

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Bridge(Protocol):
    """The way from Trio to a plugin's asyncio loop, and back."""

    async def call(self, function: Callable[[Unpack[Ts]], Awaitable[T]], *args: *Ts) -> T:
        """Await `function(*args)` on asyncio."""
        ...

    async def call_back(self, function: Callable[[Unpack[Ts]], Awaitable[T]], *args: *Ts) -> T:
        """Await `function(*args)` on Trio."""
        ...

    def held(self, manager: AbstractAsyncContextManager[T]) -> AbstractAsyncContextManager[T]:
        """Make a manager like this one that is left on Trio's side, wherever it is entered."""
        ...


def _has_no_host(*_: object) -> NoReturn:
    raise RuntimeError("the plugin cannot do that yet: no program runs it")


@attrs.define
class Internals:
    """Trivet's own side of one plugin: `Plugin._trivet`."""

    resources: Resources | None = None
    """The resources of this lifetime, while `initialize` may enter some."""
    report: Callable[[str | None, str | None], None] = _has_no_host
    """Reports a fault of the plugin to the host, with its remedy; None reports that it is over."""
    fail: Callable[[BaseException], None] = _has_no_host
    """Reports a failure outside of `run` to the host, which ends the lifetime."""
    policy: DeliveryPolicy = attrs.field(factory=DeliveryPolicy)
    """The decisions about deliveries to the plugin, where it has an inbox."""
    bridge: Bridge | None = None
    """The way to asyncio in this lifetime; None on Trio, and between two lifetimes."""
    requests: int = 0
    """The requests that the plugin's routes are answering."""
    _quiet: trio.Event | None = None

    def request_ended(self) -> None:
        """Note that a request has been answered."""
        self.requests -= 1
        if self._quiet is not None and not self.requests:
            self._quiet.set()

    async def quiet(self) -> None:
        """Wait until no request is being answered."""
        while self.requests:
            self._quiet = trio.Event()
            await self._quiet.wait()
