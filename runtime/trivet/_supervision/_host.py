"""The host of one plugin: one task that lives its lifetimes, one after the other.

Owns a plugin's status and its restarts, and ends its dependents before it.
Never knows HTTP, nor the order in which a program starts and stops: that is the runtime's.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from itertools import count
from time import perf_counter

import attrs
import structlog
import trio

from .._faults._advice import explained
from .._faults._containment import summary
from .._faults._errors import CriticalPluginError, DisabledPluginError
from .._faults._masking import mask_beginning
from .._faults._stacks import stack_of
from .._loop._tasks import plugin_of_task
from .._plugins._instance import internals_of
from .._plugins._plugin import Plugin
from .._plugins._status import TRANSITIONS, Status
from .._plugins._supervision_settings import SupervisionSettings
from ._handover import Retirement, Succession
from ._lifetime import Lifetime
from ._needs import Member, Needs
from ._restarts import Restarts
from ._supervised_inbox import SupervisedInbox


@attrs.frozen
class StatusChange:
    """One transition of a plugin's status."""

    host: Host
    previous: Status
    status: Status
    reason: str | None


class Host:
    """Runs one plugin, restarts it, and stops it in time.

    Args:
        plugin: the plugin.
        supervision: the decisions about its restarts.
        inbox: its inbox, if it has one.
        start_limit: seconds for `initialize`.
        close_limit: seconds for `close`, and for the plugin's resources.
        contains_interrupts: whether a KeyboardInterrupt is a fault of the plugin.
        on_change: called for each transition; must neither wait nor raise.
        runs: whether the plugin's `run` is called.
        succession: the turn of a plugin that starts beside another one, whose inbox it gets later;
            until then it has one chance to initialize.
    """

    def __init__(
        self,
        plugin: Plugin,
        *,
        supervision: SupervisionSettings,
        inbox: SupervisedInbox | None,
        start_limit: float,
        close_limit: float,
        contains_interrupts: bool,
        on_change: Callable[[StatusChange], None],
        runs: bool = True,
        succession: Succession | None = None,
    ) -> None:
        self.plugin = plugin
        self.name: str = plugin.name
        self.critical: bool = supervision.critical
        self.needs: Needs = Needs(self)
        """The plugins that this one needs, and those that need it."""
        self.status: Status = Status.STARTING
        self.since: datetime = datetime.now(UTC)
        """The moment at which the plugin got its status."""
        self.trouble: str | None = None
        """The fault that the plugin has reported by `degrade` in this lifetime."""
        self.remedy: str | None = None
        """The remedy that a person has for that fault, if the plugin says so."""
        self.restarts: int = 0
        """Restarts since the program started; a replacement by a reload is none."""
        self.failure: BaseException | None = None
        """The last failure."""
        self.close_failure: BaseException | None = None
        """The latest failure of a lifetime while it ended; it was logged."""
        self.is_disabled: bool = False
        """Whether an operator has the plugin stopped, so that no lifetime begins."""
        self.is_stopping: bool = False
        """Whether the plugin stops with the program."""
        self.is_leaving: bool = False
        """Whether a reload replaces or removes the plugin, so that orders to it would be lost."""
        self.start_failed: bool = False
        """Whether the first start failed, and the settings forbid another."""
        self.ended: trio.Event = trio.Event()
        """Set when the last lifetime is over."""
        self._succession = succession
        self._retirement: Retirement | None = None
        self._supervision = supervision
        self._policy = Restarts(supervision)
        self.inbox: SupervisedInbox | None = inbox if succession is None else None
        """The plugin's inbox; None for a plugin that takes no events, or has no turn yet or any
        more."""
        self._own_inbox = inbox
        self._on_change = on_change
        self.start_limit: float = start_limit
        """Seconds for `initialize` in the next lifetime."""
        self.close_limit: float = close_limit
        """Seconds for `close` in the next lifetime, and for the plugin's resources."""
        self._new_lifetime = partial(
            Lifetime, plugin, self, contains_interrupts=contains_interrupts, runs=runs
        )
        self._lifetime: Lifetime | None = None
        self._task: trio.lowlevel.Task | None = None
        self._on_start: Callable[[], None] | None = None
        self._has_run = False
        self._started, self._restart_at = -math.inf, math.nan
        self._pause: trio.CancelScope | None = None
        self._changed: trio.Event | None = None
        internals = internals_of(plugin)
        internals.report, internals.fail = self._report, self._fail

    # Questions.

    @property
    def is_up(self) -> bool:
        """Whether the plugin works."""
        return self.status.is_up

    @property
    def is_paused(self) -> bool:
        """Whether an operator has paused the delivery of events to the plugin."""
        return self.inbox is not None and self.inbox.gate.is_paused

    @property
    def error(self) -> str | None:
        """The last failure in one line."""
        return None if self.failure is None else summary(self.failure)

    @property
    def retry_in(self) -> float | None:
        """Seconds until the next start, while backing off."""
        if self.status is not Status.BACKING_OFF:
            return None
        return max(0.0, self._restart_at - trio.current_time())

    @property
    def is_alive(self) -> bool:
        """Whether the plugin is within a lifetime."""
        return self._lifetime is not None

    @property
    def waits_for(self) -> Member | None:
        """The unmet need that blocks the start; a failed one comes before one that is only down."""
        return self.needs.unmet

    @property
    def is_given_up(self) -> bool:
        """Whether only an operator can help: the plugin, or one that it waits for, was given up.

        Or it was disabled.
        """
        waits_for = self.waits_for
        return self.status.awaits_operator or (
            self.status is Status.STOPPED
            and waits_for is not None
            and waits_for.status.awaits_operator
        )

    def stack(self) -> str:
        """The stack of the plugin's task; empty before the first start."""
        return "" if self._task is None else stack_of(self._task)

    def was_starting(self, since: float) -> bool:
        """Whether the plugin starts now, or started at or after `since`, by `perf_counter`."""
        return self.status is Status.STARTING or self._started >= since

    async def changed(self) -> None:
        """Wait for the next change of the status."""
        if self._changed is None:
            self._changed = trio.Event()
        await self._changed.wait()

    async def wait_for_status(self, *statuses: Status) -> None:
        """Wait until the plugin has one of these statuses."""
        while self.status not in statuses:
            await self.changed()

    async def wait_until_down(self) -> None:
        """Wait until the plugin is down, or up in another lifetime."""
        restarts = self.restarts
        while self.is_up and self.restarts == restarts:
            await self.changed()

    # Orders.

    def restart(self) -> None:
        """Begin a new lifetime, and forget earlier failures; dependents restart too."""
        self._log.info("plugin is restarted by an operator", status=self.status)
        self._policy = Restarts(self._supervision)
        self.end_lifetime()

    def disable(self, *, drain_until: float, close_until: float) -> None:
        """End the lifetime as a stop does, and begin no other one until `enable`.

        Args:
            drain_until: the deadline, on Trio's clock, for a plugin that reads its inbox to finish
                the events that end with the program, and those in flight.
            close_until: the deadline for everything.
        """
        self._log.info("plugin is disabled by an operator", status=self.status)
        self.is_disabled = True
        self._end_pause()
        if self.inbox is not None:
            self.inbox.retire()
        self._end_by(drain_until, close_until)

    def disable_from_start(self, why: str) -> None:
        """Begin no lifetime until `enable`, since the plugin has ended the program again and again.

        Args:
            why: the reason, which is the plugin's error.
        """
        self.is_disabled = True
        self.failure = DisabledPluginError(why, plugin=self.name)

    def enable(self) -> None:
        """Begin a new lifetime after `disable`, and forget earlier failures."""
        self._log.info("plugin is enabled by an operator")
        self.is_disabled = False
        self._policy = Restarts(self._supervision)
        self.end_lifetime()

    def stop(self, *, drain_until: float, close_until: float) -> None:
        """Begin the stop; `ended` is set at its end.

        Args:
            drain_until: the deadline, on Trio's clock, for a plugin that reads its inbox to finish
                the events in it.
            close_until: the deadline for everything.
        """
        self.is_stopping = True
        self._end_pause()
        if self.inbox is not None:
            self.inbox.close()
        if self._task is None:
            self.ended.set()
        self._end_by(drain_until, close_until)

    def _end_by(self, drain_until: float, close_until: float) -> None:
        """End the lifetime, if there is one, by these deadlines."""
        if self._lifetime is not None:
            if self.is_up:
                self._become(Status.STOPPING)
            if self.inbox is None or not self.inbox.is_read:
                drain_until = trio.current_time()
            self._lifetime.stop(drain_until=drain_until, close_until=close_until)

    # A reload's orders.

    @property
    def is_on_trial(self) -> bool:
        """Whether the plugin waits for its turn to follow another one."""
        return self._succession is not None and not self._succession.has_begun

    @property
    def has_initialized(self) -> bool:
        """Whether a plugin on trial could take over now."""
        return self.is_on_trial and self._is_well

    def take_over(self, restarts: int) -> None:
        """Let a plugin on trial run, with the inbox of its predecessor.

        Args:
            restarts: the restarts of its name so far; the replacement is none.
        """
        assert self._succession is not None
        self.inbox, self.restarts = self._own_inbox, restarts
        self.start_failed = False
        if self._is_well:  # Otherwise it has failed since it was looked at, and starts anew.
            if self.inbox is not None:
                self.inbox.reopen()
            self._become(Status.RUNNING)
            if self.trouble is not None:
                self._become(Status.DEGRADED, self.trouble)
        self._succession.begin()

    @property
    def _is_well(self) -> bool:
        """Whether the lifetime has begun, and is not about to end."""
        return self._has_run and self._lifetime is not None and not self._lifetime.is_ending

    def retire(self) -> Retirement:
        """End `run`, for good, and wait for the leave to close; `ended` is set at the end.

        The inbox is no longer this plugin's.
        """
        self._retirement = retirement = Retirement()
        self.is_stopping = True
        self.inbox = None
        self._end_pause()
        if self._lifetime is None:
            retirement.run_ended.set()
        else:
            self._lifetime.end()
        if self._task is None:
            self.ended.set()
        return retirement

    def hurry(self) -> None:
        """End the draining now."""
        if self.is_stopping and self._lifetime is not None:
            self._lifetime.hurry(trio.current_time())

    @property
    def _log(self) -> structlog.typing.FilteringBoundLogger:
        """A logger made on demand: most plugins give no occasion for a line."""
        logger: structlog.typing.FilteringBoundLogger = structlog.get_logger(plugin=self.name)
        return logger

    # The host's own task.

    async def supervise(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Live lifetime after lifetime, until the plugin is stopped or given up.

        Life: one task in the runtime's nursery, from the start of the plugin's tier to its stop.
        Calls `started()` when the plugin runs, when its first start has failed, or when it waits
        for a plugin that it needs.

        Raises:
            CriticalPluginError: the plugin was given up, or needs one that was, and is critical.
        """
        self._task = trio.lowlevel.current_task()
        self._on_start = task_status.started
        del task_status  # It refers to the nursery of the start, which is over soon.
        plugin_of_task.set(self.name)
        try:
            await self._live_on()
        finally:
            if self._retirement is not None:
                self._retirement.run_ended.set()
            if self.inbox is not None:
                self.inbox.abandon()
            if self.status is not Status.FAILED:
                self._become(Status.STOPPED)
            self.ended.set()

    async def _live_on(self) -> None:
        if isinstance(self.failure, DisabledPluginError):
            self._tell_of_safe_mode()
        for lifetimes in count():
            if not await self._until_it_may_start():
                return
            self.restarts += lifetimes > 0
            self._become(Status.STARTING)
            failure = await self._live()
            if self.is_stopping:
                return
            if failure is None:
                self._become(Status.DISABLED if self.is_disabled else Status.STOPPED)
            elif not await self._recover(failure):
                return

    def _tell_of_safe_mode(self) -> None:
        self._log.error("plugin starts disabled", why=self.error)
        self._become(Status.DISABLED, self.error)
        if any(member.critical for member in (self, *self.needs.dependents())):
            self._call_started()
            said = f"plugin {self.name!r} is disabled, and critical or needed by one that is: "
            raise CriticalPluginError(f"{said}{self.error}", plugin=self.name)

    async def _until_it_may_start(self) -> bool:
        """Wait for an operator who enables it, and for its needs; says whether to start then."""
        if self.is_on_trial:  # Its needs are looked at by whoever has it start.
            return not self.is_stopping
        until: Callable[[], Awaitable[object]]
        while not self.is_stopping:
            waits_for = self.waits_for
            if self.is_disabled:
                self._become(Status.DISABLED)
                if self.inbox is not None:
                    self.inbox.abandon()
                until = trio.sleep_forever
            elif waits_for is not None:
                why = f"needs {waits_for.name!r}, which is {waits_for.status}"
                self._become(Status.STOPPED, why)
                if waits_for.status is Status.FAILED:
                    self._give_up(f"it needs {waits_for.name!r}, which gave up: {waits_for.error}")
                until = waits_for.changed
            else:
                break
            self._call_started()
            with trio.CancelScope() as self._pause:
                await until()
        if self.inbox is not None and not self.is_stopping:
            self.inbox.reopen()
        return not self.is_stopping

    async def _live(self) -> BaseException | None:
        begun = trio.current_time()
        self.trouble = self.remedy = None
        self._lifetime = self._new_lifetime(
            start_limit=self.start_limit, close_limit=self.close_limit
        )
        failure: BaseException | None = None
        try:
            failure = await self._lifetime.live(must_not_return=self._must_not_return())
            return failure
        finally:
            self.close_failure = self._lifetime.close_failure or self.close_failure
            self._lifetime = None  # A lifetime that is over takes no orders.
            self._policy.after_lifetime(trio.current_time() - begun)
            if self.inbox is not None and not self.is_stopping:  # At a stop it is abandoned.
                self.inbox.lifetime_ended(crashed=failure is not None)

    def _must_not_return(self) -> str | None:
        if self._own_inbox is not None:
            return "events may still come"
        return "the plugin is permanent" if self._supervision.restart == "permanent" else None

    def began(self) -> None:
        """See `Owner`."""
        self._has_run = True
        if self.is_on_trial:
            self._call_started()
            return
        self._become(Status.RUNNING)
        if self.trouble is not None:
            self._become(Status.DEGRADED, self.trouble)
        self._call_started()

    async def turn(self) -> None:
        """See `Owner`."""
        if self._succession is not None:
            await self._succession.turn()

    async def ending(self) -> None:
        """See `Owner`."""
        if self._retirement is not None:
            await self._retirement.run_is_over()
        if self.is_up:
            self._become(Status.STOPPING)
        await self.needs.end_dependents()

    async def _recover(self, failure: BaseException) -> bool:
        """Wait after a failure, or give up; says whether to start again."""
        self.failure = explained(failure)
        has_one_chance = self._supervision.on_start_failure == "fail"
        if self.is_on_trial or (self._on_start is not None and has_one_chance):
            self.start_failed = True
            self._log.error("plugin did not start", exc_info=failure)
            self._become(Status.FAILED, self.error)
            self._call_started()
            if self._succession is None:
                return False
            await self._wait(self._succession.turn)  # It may have failed too late for its turn.
            return not self.is_stopping
        rules_out = self._policy.reason_against(failure)
        wait = self._policy.after_failure(trio.current_time(), counts=self._has_run)
        if rules_out is not None or wait is None:
            self._become(Status.FAILED, self.error)
            why = rules_out or "it failed too often"
            self._log.error("plugin is given up", why=why, exc_info=failure)
            self._call_started()
            self._give_up(str(self.error))
            await self._wait(trio.sleep_forever)  # Until an operator restarts it.
        else:
            self._log.error("plugin failed", restart_in=round(wait, 3), exc_info=failure)
            self._restart_at = trio.current_time() + wait
            self._become(Status.BACKING_OFF, self.error)
            self._call_started()
            await self._wait(partial(trio.sleep, wait))
        return not self.is_stopping

    def _give_up(self, why: str) -> None:
        if self.inbox is not None:
            self.inbox.abandon()
        if self.critical:
            self._call_started()
            said = f"plugin {self.name!r} gave up: {why}"
            raise CriticalPluginError(said, plugin=self.name)

    async def _wait(self, until: Callable[[], Awaitable[object]]) -> None:
        """Wait after a failure; an operator, a stop or the end of a need cuts it short."""
        if not self.is_stopping and not self.is_disabled:
            with trio.CancelScope() as self._pause:
                await until()

    def end_lifetime(self) -> None:
        """End the lifetime, or the wait between two."""
        if self._lifetime is not None:
            self._lifetime.end()
        self._end_pause()

    def _end_pause(self) -> None:
        if self._pause is not None:
            self._pause.cancel()

    def _report(self, trouble: str | None, remedy: str | None) -> None:
        """Take the plugin's report of a fault, and its remedy; None reports that it is over."""
        trouble, remedy = (
            None if text is None else mask_beginning(text) for text in (trouble, remedy)
        )
        if (trouble, remedy) == (self.trouble, self.remedy):
            return
        self.trouble, self.remedy = trouble, remedy
        if trouble is None:
            self._log.info("plugin has recovered")
        else:
            facts = {} if remedy is None else {"remedy": remedy}
            self._log.warning("plugin is degraded", reason=trouble, **facts)
        if self.is_up:
            self._become(Status.RUNNING if trouble is None else Status.DEGRADED, trouble)

    def _fail(self, fault: BaseException) -> None:
        """Take a failure of the plugin outside of its `run`, from any task."""
        if self._lifetime is None:
            self._log.error("plugin failed after it had stopped", exc_info=explained(fault))
        else:
            self._lifetime.fail(fault)

    def _call_started(self) -> None:
        """Tell the task that starts this plugin, once, that it need not wait any longer."""
        if self._on_start is not None:
            self._on_start()
            self._on_start = None

    def _become(self, status: Status, reason: str | None = None) -> None:
        previous = self.status
        if status is previous:
            return
        if status not in TRANSITIONS[previous]:
            raise RuntimeError(f"plugin {self.name!r}: {previous} does not become {status}")
        if previous is Status.STARTING:
            self._started = perf_counter()  # The machine's clock, which stalls are measured by.
        self.status, self.since = status, datetime.now(UTC)
        if self._changed is not None:
            self._changed.set()
            self._changed = None
        self._on_change(StatusChange(self, previous, status, reason))
