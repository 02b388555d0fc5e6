"""The changeover from a program's plugins to those that follow them.

Owns its order: the new instances initialize beside the old ones, the inboxes come to rest, then all
is exchanged at one instant, from which on the old instances leave.
Never knows where the settings come from, nor why they have changed, nor how an instance leaves.

Until the instant everything can be undone, and is, if anything fails or the program stops.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial

import structlog
import trio

from .._delivery._bounded import BoundedInbox
from .._events._delivery_settings import DeliveryPolicy
from .._faults._errors import ReloadRefusedError, StartError
from .._hosting import policy_of, takes_batches
from .._plugins._status import Status
from .._program._difference import Difference
from .._program._plugin_tables import CheckedPlugin
from .._runtime import Runtime
from .._supervision._handover import Retirement, Succession
from .._supervision._host import Host
from .._supervision._needs import Member
from .._supervision._starts import Starts
from ._cargo import Cargo
from ._departure import LATE, Departure
from ._newcomers import Newcomers

LOOK_EVERY = 0.05
"""Seconds between two looks at handlers that wait for one another, while inboxes come to rest."""

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger("trivet")


class Changeover:
    """One changeover of a running program.

    Args:
        runtime: the program.
        difference: the changes.
        commit: called at the instant at which nothing is undone any more; if it raises, everything
            is.
    """

    def __init__(
        self, runtime: Runtime, difference: Difference, commit: Callable[[], None] | None = None
    ) -> None:
        self._runtime = runtime
        self._commit = commit
        self._difference = difference
        self._checked = {each.name: each for each in difference.new.plugins}
        self._following: dict[str, Host] = {}
        """The new instances' hosts, by name."""
        self._disabled: dict[str, Host] = {}
        """The new hosts of plugins that an operator has disabled."""
        self._new_inboxes: list[str] = []
        self._cargo = Cargo(runtime, difference)
        others = (*difference.replaced, *difference.started)
        durable = [name for name in others if self._becomes_durable(name)]
        self._newcomers = Newcomers(runtime.hosting, durable, difference.new.settings)

    async def run(self) -> Departure:
        """Change over; returns the departure of the old instances, which has begun.

        Raises:
            ReloadRefusedError: a new instance did not start, or stopped before its turn; nothing
                has changed.
            ConfigurationError: `commit` has raised it; nothing has changed.
        """
        self._refuse_what_needs_a_restart()
        await self._cargo.refuse_misfits(in_flight=False)
        is_done = False
        try:
            await self._newcomers.subscribe()
            await self._initialize()
            await self._rest()
            await self._cargo.refuse_misfits(in_flight=True)
            self._refuse_unready()
            if self._commit is not None:
                self._commit()
            is_done = True  # From here on it cannot fail.
        finally:
            if not is_done:
                with trio.CancelScope(shield=True):
                    await self._undo()
        return await self._exchange()

    # Until the instant.

    def _refuse_what_needs_a_restart(self) -> None:
        """Refuse what an inbox cannot become while its events are in it, or in the store."""
        for name in (*self._difference.replaced, *self._difference.started):
            policy = self._policy(self._checked[name])
            inbox = self._runtime.hosting.inboxes.get(name)
            is_durable = inbox is not None and inbox.policy.durable
            if policy is None and inbox is not None:
                raise _needs_restart(name, "it took events, and takes none any more")
            if policy is None:
                continue
            if inbox is None:
                self._refuse_second(name)
            elif policy.durable != is_durable:
                raise _needs_restart(name, "`durable` has changed")
            if inbox is not None and is_durable and _order(policy) != _order(inbox.policy):
                raise _needs_restart(name, "the order of stored events has changed")

    def _refuse_second(self, name: str) -> None:
        """Refuse a second reader of stored events, beside an old instance that does not end."""
        store = self._runtime.store
        if store is not None and store.has_reader(name):
            raise _needs_restart(name, "its old instance has not ended")

    async def _initialize(self) -> None:
        """Start the new instances, those that others need before these."""
        # They may publish events of their new classes, which become some of the present ones.
        self._runtime.supersede(self._cargo.successors.values())
        names = {*self._difference.replaced, *self._difference.started}
        for tier in self._difference.new.tiers:
            for level in tier:
                await self._initialize_level([name for name in level if name in names])

    async def _initialize_level(self, level: list[str]) -> None:
        runtime = self._runtime
        known = runtime.hosts
        disabled = [name for name in level if name in known and known[name].is_disabled]
        for name in disabled:
            self._refuse_critical(name)
            host = self._disabled[name] = self._host(name, None)
            host.is_disabled = True  # It starts when an operator enables it.
            host.failure = known[name].failure
        level = [name for name in level if name not in disabled]
        starts = Starts(len(level))
        for name in level:
            self._refuse_unmet(name)
            host = self._following[name] = self._host(name, Succession())
            runtime.begin(host, starts.of(host), self._following)
        with trio.move_on_after(self._difference.new.settings.startup.limit + LATE):
            await starts.over.wait()
        for host in (self._following[name] for name in level):
            if not starts.over.is_set() and not host.has_initialized:
                said = f"plugin {host.name!r} did not start, and cannot be cancelled:"
                raise ReloadRefusedError(f"{said}\n{host.stack()}", plugin=host.name)
            if host.start_failed:
                error = runtime.start_error(host, self._difference.new)
                raise ReloadRefusedError(str(error), plugin=host.name) from error

    def _host(self, name: str, succession: Succession | None) -> Host:
        checked, settings = self._checked[name], self._difference.new.settings
        try:
            return self._runtime.hosting.host(checked, settings, self._inbox(checked), succession)
        except StartError as error:
            raise ReloadRefusedError(str(error), plugin=name) from error

    def _refuse_critical(self, name: str) -> None:
        """Refuse to have a plugin critical that an operator has disabled, or one that needs it."""
        needs, found = self._difference.new.needs, {name}
        while more := {each for each, needed in needs.items() if {*needed} & found} - found:
            found |= more
        for each in sorted(found):
            if self._checked[each].supervision.critical:
                said = f"plugin {name!r} is disabled, and {each!r} is critical: enable it first"
                raise ReloadRefusedError(said, plugin=name)

    def _refuse_unmet(self, name: str) -> None:
        for need in self._difference.new.needs[name]:
            other = self._runtime.hosts.get(need)
            if need not in self._following and other is not None and not other.is_up:
                raise ReloadRefusedError(
                    f"plugin {name!r} needs {need!r}, which is {other.status}", plugin=name
                )

    def _inbox(self, checked: CheckedPlugin) -> BoundedInbox | None:
        """The inbox of its predecessor, or a new one."""
        hosting = self._runtime.hosting
        known = hosting.inboxes.get(checked.name)
        if known is not None or self._policy(checked) is None:
            return known
        self._new_inboxes.append(checked.name)
        return hosting.inbox(checked, self._difference.new.settings)

    async def _rest(self) -> None:
        """Let the plugins that are replaced finish what they have in flight, within a limit.

        A plugin for which a handler waits goes on as long as that. What is not finished by then is
        handled again, by the new instance.
        """
        inherited = self._inherited()
        with trio.move_on_after(self._runtime.program.settings.shutdown.drain):
            while not self._hold():
                with trio.move_on_after(LOOK_EVERY):
                    for inbox in inherited.values():
                        await inbox.idle()
                    await trio.lowlevel.checkpoint()
        for inbox in inherited.values():
            inbox.gate.hold()

    def _hold(self) -> bool:
        """Hold the inboxes for which no other one's handler waits; says whether all are at rest."""
        inherited = self._inherited()
        is_at_rest, awaited = True, self._runtime.awaited_by(inherited.keys())
        for name, inbox in inherited.items():
            if name in awaited:
                inbox.gate.release()
            else:
                inbox.gate.hold()
            is_at_rest = is_at_rest and name not in awaited and inbox.is_idle
        return is_at_rest

    def _inherited(self) -> Mapping[str, BoundedInbox]:
        """The inboxes that go over to a new instance, by name."""
        inboxes = self._runtime.hosting.inboxes
        return {name: inboxes[name] for name in self._difference.replaced if name in inboxes}

    def _refuse_unready(self) -> None:
        for name, host in self._followers.items():
            old = self._runtime.hosts.get(name)
            if old is not None and old.is_disabled is not host.is_disabled:
                order = "disabled" if old.is_disabled else "enabled"
                raise ReloadRefusedError(f"plugin {name!r} was {order} meanwhile", plugin=name)
        for name, host in self._following.items():
            if not host.has_initialized:
                raise ReloadRefusedError(
                    f"plugin {name!r} did not stay up until its turn: {host.error}", plugin=name
                )

    async def _undo(self) -> None:
        for inbox in self._inherited().values():
            inbox.gate.release()
        now, close = trio.current_time(), self._difference.new.settings.shutdown.close
        for host in reversed(self._following.values()):
            host.stop(drain_until=now, close_until=now + close)
            with trio.move_on_at(now + close + LATE):
                await host.ended.wait()
            if not host.ended.is_set():
                what = "an instance that was given up does not end"
                _log.error(what, plugin=host.name, stack=host.stack())
        for name in self._new_inboxes:
            self._runtime.hosting.inboxes.pop(name, None)
        await self._newcomers.undo()

    def _policy(self, checked: CheckedPlugin) -> DeliveryPolicy | None:
        return policy_of(checked, self._difference.new.settings)

    def _becomes_durable(self, name: str) -> bool:
        """Whether a plugin that has no inbox gets a durable one."""
        policy = self._policy(self._checked[name])
        is_new = name not in self._runtime.hosting.inboxes
        return is_new and policy is not None and policy.durable

    # The instant, and after it.

    @property
    def _followers(self) -> dict[str, Host]:
        return self._following | self._disabled

    async def _exchange(self) -> Departure:
        runtime, difference = self._runtime, self._difference
        replaced = {name: runtime.hosts[name] for name in difference.replaced}
        stopped = {name: runtime.hosts[name] for name in difference.stopped}
        for host in (*replaced.values(), *stopped.values()):
            host.is_leaving = True
        retirements: dict[str, Retirement] = {}
        with trio.CancelScope(shield=True):
            await self._patiently(partial(self._end_dependents, replaced, stopped))
            retirements |= {name: host.retire() for name, host in replaced.items()}
            await self._patiently(partial(_runs_ended, retirements.values()))
        self._exchange_now(replaced)
        departure = Departure(runtime, difference, retirements, replaced | stopped)
        runtime.begin_task(departure.run)
        return departure

    async def _patiently(self, wait: Callable[[], Awaitable[object]]) -> None:
        """Wait within the limit for closing, and no longer when the program stops."""
        with trio.move_on_after(self._runtime.program.settings.shutdown.close):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._cancel_at_stop, nursery.cancel_scope)
                await wait()
                nursery.cancel_scope.cancel()

    async def _cancel_at_stop(self, scope: trio.CancelScope) -> None:
        await self._runtime.stopping.wait()
        scope.cancel()

    async def _end_dependents(self, replaced: dict[str, Host], stopped: dict[str, Host]) -> None:
        """End the lifetimes of plugins that stay and need one that goes; they wait for the new."""
        leaving: list[Member] = [*replaced.values(), *stopped.values()]
        staying: dict[str, Member] = {}
        for name, host in replaced.items():
            for member in self._followers[name].needs.take_place_of(host):
                if member not in leaving:
                    staying[member.name] = member
        for member in staying.values():
            if member.status is not Status.FAILED:  # A failed member waits for an operator.
                member.end_lifetime()
        for member in staying.values():
            while member.is_alive:
                await member.changed()

    def _exchange_now(self, replaced: dict[str, Host]) -> None:
        """Exchange everything at one instant."""
        runtime, difference = self._runtime, self._difference
        for name in replaced:
            self._empty_hands(name)
        hosts = {name: self._followers.get(name) or runtime.hosts[name] for name in self._checked}
        for name, host in self._followers.items():
            for need in difference.new.needs[name]:
                host.needs.add(hosts[need])
        for name in difference.stopped:
            if (inbox := runtime.hosting.inboxes.get(name)) is not None:
                inbox.withdraw()
        runtime.adopt(difference.new, hosts)
        self._newcomers.admit()  # Its events may be of types that are new, too.
        runtime.supersede(self._cargo.successors)
        self._cargo.carry()
        for name, host in self._following.items():
            host.take_over(replaced[name].restarts if name in replaced else 0)
        for name, host in self._disabled.items():
            host.restarts = replaced[name].restarts
            runtime.begin(host)
        for inbox in self._inherited().values():
            inbox.gate.release()
        self._following.clear()  # They are the program's now.

    def _empty_hands(self, plugin: str) -> None:
        """Take back what a plugin still has in flight, and go by its new policy."""
        checked = self._checked[plugin]
        inbox, policy = self._runtime.hosting.inboxes.get(plugin), self._policy(checked)
        if inbox is not None and policy is not None:
            inbox.lifetime_ended(crashed=False)
            if policy != inbox.policy:
                inbox.heed(policy, in_batches=takes_batches(checked))


async def _runs_ended(retirements: Iterable[Retirement]) -> None:
    for retirement in retirements:
        await retirement.run_ended.wait()


def _order(policy: DeliveryPolicy) -> tuple[str | None, bool]:
    """The parts of a policy that decide the order of events."""
    return policy.ordering_key, policy.concurrency > 1


def _needs_restart(plugin: str, why: str) -> ReloadRefusedError:
    return ReloadRefusedError(f"plugin {plugin!r} needs a restart: {why}", plugin=plugin)
