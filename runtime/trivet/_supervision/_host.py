"""The host of one plugin: one task that lives its lifetimes, one after the other.

Owns a plugin's status, its scopes and its restarts.
Never knows other plugins: their order is the runtime's.
"""

from __future__ import annotations

import math
import traceback
from contextlib import AsyncExitStack
from typing import Literal, Protocol

import structlog
import trio

from .._envelope import take_in_hand
from .._errors import CriticalPluginError
from .._plugin import Plugin, resources_of
from .._policies import SupervisionSettings
from ._restarts import Restarts
from ._tasks import plugin_of_task, stack_of

Status = Literal["starting", "running", "backing_off", "stopping", "stopped", "failed"]


class SupervisedInbox(Protocol):
    """What a host needs of its plugin's inbox."""

    is_read: bool
    """Whether the plugin has asked for an event in this lifetime."""

    def close(self) -> None:
        """Let nothing more in."""

    def lifetime_ended(self) -> None:
        """Take back what the plugin had in hand."""

    def abandon(self) -> None:
        """Close, and end everything that is still inside."""


class Host:
    """Runs one plugin, restarts it, and stops it in time.

    A lifetime is a scope around the plugin's resources around a scope around its `run()`. It is
    shielded once the plugin has started, so that a cancellation from outside reaches it as an
    orderly stop; before that, it ends a hanging `initialize`.
    """

    def __init__(
        self,
        plugin: Plugin,
        *,
        supervision: SupervisionSettings,
        inbox: SupervisedInbox | None,
        start_limit: float,
        close_limit: float,
    ) -> None:
        self.plugin = plugin
        self.name = plugin.name
        self.critical = supervision.critical
        self.status: Status = "starting"
        self.restarts = 0
        """Restarts since the program started."""
        self.failure: Exception | None = None
        """The last failure."""
        self.start_failed = False
        """Whether the first start failed, and was not to be retried."""
        self.ended = trio.Event()
        """Set when there will be no further lifetime."""
        self._fails_start = supervision.on_start_failure == "fail"
        self._policy = Restarts(supervision)
        self._inbox = inbox
        self._start_limit = start_limit
        self._close_limit = close_limit
        self._log: structlog.typing.FilteringBoundLogger = structlog.get_logger(plugin=self.name)
        self._task: trio.lowlevel.Task | None = None
        self._announced = False
        self._stopping = False
        self._close_until = math.inf
        self._restart_at = 0.0
        self._hung = ""
        self._lifetime = trio.CancelScope()
        self._work = trio.CancelScope()
        self._closing = trio.CancelScope()
        self._back_off = trio.CancelScope()

    @property
    def error(self) -> str | None:
        """The last failure in one line."""
        return None if self.failure is None else f"{type(self.failure).__name__}: {self.failure}"

    @property
    def retry_in(self) -> float | None:
        """Seconds until the next start, while backing off."""
        if self.status != "backing_off":
            return None
        return max(0.0, self._restart_at - trio.current_time())

    def stack(self) -> str:
        """Where the plugin's task stands now."""
        return "" if self._task is None else stack_of(self._task)

    async def supervise(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Live lifetime after lifetime, until the plugin is stopped or given up.

        Life: one task in the runtime's nursery, from the start of the plugin's tier to its stop.
        `started()` is called when the plugin runs, or when its first start has failed.

        Raises:
            CriticalPluginError: the plugin gave up and is critical.
        """
        self._task = trio.lowlevel.current_task()
        plugin_of_task.set(self.name)
        try:
            await self._live_on(task_status)
        finally:
            if self._inbox is not None:
                self._inbox.abandon()
            if self.status != "failed":
                self.status = "stopped"
            self.ended.set()
        if self.status == "failed":
            self._announce(task_status)
            if self.critical and not self.start_failed:
                raise CriticalPluginError(f"plugin {self.name!r} gave up: {self.error}")

    def stop(self, *, drain_until: float, close_until: float) -> None:
        """Begin the end; `ended` says when it has come.

        Args:
            drain_until: a plugin that reads its inbox may finish it until then.
            close_until: everything else that it does ends then.
        """
        self._stopping = True
        self._close_until = close_until
        if self._inbox is not None:
            self._inbox.close()
        if self._task is None:
            self.ended.set()
        elif self.status == "starting":
            self._lifetime.cancel()
        elif self.status == "backing_off":
            self._back_off.cancel()
        elif self.status == "running":
            self.status = "stopping"
            self._lifetime.deadline = min(self._lifetime.deadline, close_until)
            self._closing.deadline = min(self._closing.deadline, close_until)
            if self._inbox is not None and self._inbox.is_read:
                self._work.deadline = drain_until
            else:
                self._work.cancel()

    def hurry(self) -> None:
        """End the draining that is under way."""
        self._work.deadline = min(self._work.deadline, trio.current_time())

    async def _live_on(self, task_status: trio.TaskStatus[None]) -> None:
        while True:
            begun = trio.current_time()
            failure = await self._live(task_status)
            if failure is None or self._stopping:
                return
            self.failure = failure
            if self._fails_start and not self._announced:
                self.status, self.start_failed = "failed", True
                return
            self._policy.after_lifetime(trio.current_time() - begun)
            wait = self._policy.after_failure(trio.current_time())
            if wait is None:
                self.status = "failed"
                self._log.error("plugin failed too often and is given up", exc_info=failure)
                return
            self._log.error("plugin failed", restart_in=round(wait, 3), exc_info=failure)
            self.status = "backing_off"
            self._restart_at = trio.current_time() + wait
            self._announce(task_status)
            with trio.CancelScope() as self._back_off:
                await trio.sleep(wait)
            if self._stopping:
                return
            self.restarts += 1

    async def _live(self, task_status: trio.TaskStatus[None]) -> Exception | None:
        """One lifetime. Returns the failure that ended it; None where it was a stop."""
        self.status = "starting"
        self._lifetime = trio.CancelScope(deadline=trio.current_time() + self._start_limit)
        crash: Exception | None = None
        try:
            with self._lifetime:
                async with AsyncExitStack() as resources:
                    await self._initialize(resources, task_status)
                    try:
                        await self._run()
                    except Exception as error:
                        crash = error  # Closing may overrun; then this is all that is left of it.
                        raise
                    finally:
                        take_in_hand(None)  # What was in hand is not what closing is about.
                        await self._close()  # noqa: ASYNC102 - shielded and bounded in there
        except Exception as error:
            if self._stopping:
                self._log.error("plugin failed while it stopped", exc_info=error)
            return error
        finally:
            if self._inbox is not None and not self._stopping:  # At a stop it is abandoned.
                self._inbox.lifetime_ended()
        if self.status == "starting" and not self._stopping:
            return TimeoutError(
                f"initialize() took longer than {self._start_limit:g} s; it stood at\n{self._hung}"
            )
        if self._lifetime.cancelled_caught and self.status != "starting":
            self._log.error("plugin took too long to close its resources")
        return crash

    async def _initialize(
        self, resources: AsyncExitStack, task_status: trio.TaskStatus[None]
    ) -> None:
        # No scope may be opened around this: what initialize enters outlives it.
        try:
            with resources_of(self.plugin, resources):
                await self.plugin.initialize()
        except trio.Cancelled as cancelled:
            self._hung = "".join(traceback.format_tb(cancelled.__traceback__))
            raise
        # From here to the shield nothing waits: a cancellation comes before it, or finds it.
        await trio.lowlevel.checkpoint_if_cancelled()
        self._lifetime.deadline = math.inf
        self._lifetime.shield = True
        self._work, self._closing = trio.CancelScope(), trio.CancelScope(shield=True)
        self.status = "running"
        self._announce(task_status)

    async def _run(self) -> None:
        with self._work:
            await self.plugin.run()
            if self._stopping:
                return
            if self._inbox is not None:
                raise RuntimeError("run() returned although events may still come")
            await trio.sleep_forever()  # The work is done; routes and resources live on.

    async def _close(self) -> None:
        until = min(self._close_until, trio.current_time() + self._close_limit)
        self._lifetime.deadline = self._closing.deadline = until
        with self._closing:
            try:
                await self.plugin.close()
            except Exception as error:
                self._log.error("close() failed", exc_info=error)
        if self._closing.cancelled_caught:
            self._log.error("close() took too long and was cancelled")

    def _announce(self, task_status: trio.TaskStatus[None]) -> None:
        if not self._announced:
            self._announced = True
            task_status.started()
