"""The departure of the instances that a reload has replaced, and of the plugins that are gone.

Owns their order and their time: requests that they are answering end, a plugin that is gone drains
its inbox, and all of them close in the order of a stop.
Never knows the instances that follow, which run already.

A stop of the program does not wait for the order: all that are left leave by its deadlines.
"""

from __future__ import annotations

from collections.abc import Mapping

import structlog
import trio

from .._plugins._instance import internals_of
from .._program._difference import Difference
from .._runtime import Runtime
from .._supervision._handover import Retirement
from .._supervision._host import Host

LATE = 1.0
"""Seconds after its deadlines from which an instance counts as one that does not end."""

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger("trivet")


class Departure:
    """The departure from one program for another, which has taken its place.

    Args:
        runtime: the program.
        difference: the changes.
        retirements: the retirements of the instances that were replaced, by name.
        hosts: the hosts of all that leave, by name.
    """

    def __init__(
        self,
        runtime: Runtime,
        difference: Difference,
        retirements: Mapping[str, Retirement],
        hosts: Mapping[str, Host],
    ) -> None:
        self._runtime = runtime
        self._difference = difference
        self._retirements = retirements
        self._hosts = dict(hosts)
        """The hosts that have not left."""
        self._is_hasty = False
        self._patience: trio.CancelScope | None = None
        self.over = trio.Event()
        """Set when all have left, or are left behind."""

    async def run(self) -> None:
        """Have them leave.

        Life: a task of its own in the program's nursery, which outlives whoever asked for the
        reload.
        """
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._hasten)
                for tier in reversed(self._difference.old.tiers):
                    for level in reversed(tier):
                        await self._leave([name for name in level if name in self._hosts])
                nursery.cancel_scope.cancel()
        self.over.set()

    async def _hasten(self) -> None:
        """Have all leave at once when the program stops, and sooner when it is in a hurry."""
        await self._runtime.stopping.wait()
        self._is_hasty = True
        if self._patience is not None:
            self._patience.cancel()
        for name in list(self._hosts):
            self._let_go(name)
        await self._runtime.hurried.wait()
        for host in self._hosts.values():
            host.hurry()

    async def _leave(self, level: list[str]) -> None:
        limits = self._runtime.program.settings.shutdown
        with trio.move_on_after(0 if self._is_hasty else limits.requests) as self._patience:
            for name in level:
                await internals_of(self._hosts[name].plugin).quiet()
        for name in level:
            self._let_go(name)
        for name in level:
            host = self._hosts[name]
            with trio.move_on_after(limits.drain + limits.close + LATE):
                await host.ended.wait()
            if not host.ended.is_set():
                _log.error("the old instance does not end", plugin=name, stack=host.stack())
            del self._hosts[name]
            host.needs.leave()
            if name not in self._retirements:
                self._runtime.hosting.inboxes.pop(name, None)

    def _let_go(self, name: str) -> None:
        """Let an instance close, and a plugin that is gone drain before that."""
        if name in self._retirements:
            self._retirements[name].may_close.set()
            return
        limits, plan = self._runtime.program.settings.shutdown, self._runtime.plan
        drain_until = trio.current_time() + limits.drain
        close_until = drain_until + limits.close
        if plan is not None:
            drain_until = min(drain_until, plan.drain_until)
            close_until = min(close_until, plan.drain_until + plan.settings.close)
        self._hosts[name].stop(drain_until=drain_until, close_until=close_until)
