"""The changeover from a program's plugins to those that follow them.

Owns its order: the new instances initialize beside the old ones, the inboxes come to rest, then all
is exchanged at one instant, and the old instances close.
Never knows where the settings come from, nor why they have changed.

Until the instant everything can be undone, and is, if anything fails or the program stops.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import structlog
import trio

from .._delivery._bounded import BoundedInbox
from .._events._delivery import Delivery
from .._events._delivery_settings import DeliveryPolicy
from .._events._event import Event
from .._events._successors import UNCARRIABLE, carried, misfit, successors
from .._faults._errors import ReloadRefusedError
from .._hosting import policy_of, takes_batches
from .._plugins._status import Status
from .._program._difference import Difference
from .._program._plugin_tables import CheckedPlugin
from .._runtime import Runtime
from .._supervision._handover import Retirement, Succession
from .._supervision._host import Host
from .._supervision._needs import Member
from .._supervision._starts import Starts

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
        self._successors = successors(difference.old.events, difference.new.events)
        """The new classes of event types, by the old ones."""

    async def run(self) -> None:
        """Change over.

        Raises:
            ReloadRefusedError: a new instance did not start, or stopped before its turn; nothing
                has changed.
            ConfigurationError: `commit` has raised it; nothing has changed.
        """
        self._refuse_what_needs_a_restart()
        self._refuse_misfits()
        is_done = False
        try:
            await self._initialize()
            await self._rest()
            self._refuse_unready()
            self._refuse_misfits()
            if self._commit is not None:
                self._commit()
            is_done = True  # From here on it cannot fail.
        finally:
            if not is_done:
                with trio.CancelScope(shield=True):
                    await self._undo()
        with trio.CancelScope(shield=True):
            await self._exchange()

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
            if policy.durable != is_durable:
                raise _needs_restart(name, "`durable` has changed")
            if inbox is not None and is_durable and _order(policy) != _order(inbox.policy):
                raise _needs_restart(name, "the order of stored events has changed")

    async def _initialize(self) -> None:
        """Start the new instances, those that others need before these."""
        names = {*self._difference.replaced, *self._difference.started}
        for tier in self._difference.new.tiers:
            for level in tier:
                await self._initialize_level([name for name in level if name in names])

    async def _initialize_level(self, level: list[str]) -> None:
        runtime = self._runtime
        known = runtime.hosts
        disabled = [name for name in level if name in known and known[name].is_disabled]
        for name in disabled:
            host = self._host(name, None)
            host.is_disabled = True  # It starts when an operator enables it.
            self._disabled[name] = host
        level = [name for name in level if name not in disabled]
        starts = Starts(len(level))
        for name in level:
            self._refuse_unmet(name)
            host = self._following[name] = self._host(name, Succession())
            runtime.begin(host, starts.of(host), self._following)
        await starts.over.wait()
        for host in (self._following[name] for name in level):
            if host.start_failed:
                error = runtime.start_error(host, self._difference.new)
                raise ReloadRefusedError(str(error), plugin=host.name) from error

    def _host(self, name: str, succession: Succession | None) -> Host:
        checked, settings = self._checked[name], self._difference.new.settings
        return self._runtime.hosting.host(checked, settings, self._inbox(checked), succession)

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

        What is not finished by then is handled again, by the new instance.
        """
        for inbox in self._inherited():
            inbox.gate.hold()
        with trio.move_on_after(self._runtime.program.settings.shutdown.drain):
            for inbox in self._inherited():
                await inbox.idle()

    def _inherited(self) -> Iterator[BoundedInbox]:
        """The inboxes that go over to a new instance."""
        inboxes = self._runtime.hosting.inboxes
        return (inboxes[name] for name in self._difference.replaced if name in inboxes)

    def _refuse_unready(self) -> None:
        for name, host in self._following.items():
            old = self._runtime.hosts.get(name)
            if old is not None and old.is_disabled:
                raise ReloadRefusedError(f"plugin {name!r} was disabled meanwhile", plugin=name)
            if not host.has_initialized:
                raise ReloadRefusedError(
                    f"plugin {name!r} did not stay up until its turn: {host.error}", plugin=name
                )

    async def _undo(self) -> None:
        for inbox in self._inherited():
            inbox.gate.release()
        now, close = trio.current_time(), self._difference.new.settings.shutdown.close
        for host in reversed(self._following.values()):
            host.stop(drain_until=now, close_until=now + close)
            await host.ended.wait()
        for name in self._new_inboxes:
            self._runtime.hosting.inboxes.pop(name, None)

    def _refuse_misfits(self) -> None:
        """Refuse a new class of an event type whose events, where there are any, do not fit it."""
        types = self._difference.new.events
        for plugin, delivery, cls in self._to_carry():
            try:
                carried(delivery.event, cls, types)
            except UNCARRIABLE as error:
                said = f"event {delivery.id}, which waits for {plugin!r}, does not fit: {error}"
                raise ReloadRefusedError(said) from error
        for old, new in self._successors.items():
            why = misfit(old, new)
            for plugin in () if why is None else self._holders(old):
                said = f"{old.__event_name__!r} needs a restart: {why}, and {plugin}"
                raise ReloadRefusedError(said)

    def _holders(self, old: type[Event]) -> Iterator[str]:
        """Why a class that does not fit the old one cannot follow it, for each plugin."""
        replaced, inboxes = self._difference.replaced, self._runtime.hosting.inboxes
        for checked in self._difference.old.plugins:
            if old not in checked.listens_to:
                continue
            if checked.name not in (*replaced, *self._difference.stopped):
                yield f"{checked.name!r} listens to it"
            elif (inbox := inboxes[checked.name]).policy.durable and inbox.statistics().queued:
                yield f"the store has events for {checked.name!r}"

    def _to_carry(self) -> Iterator[tuple[str, Delivery[Event], type[Event]]]:
        """Each event in memory that is of an old class, with its plugin and the new class."""
        if self._successors:
            for plugin, inbox in self._runtime.hosting.inboxes.items():
                for delivery in list(inbox.queued()):
                    cls = self._successors.get(type(delivery.event))
                    if cls is not None:
                        yield plugin, delivery, cls

    def _policy(self, checked: CheckedPlugin) -> DeliveryPolicy | None:
        return policy_of(checked, self._difference.new.settings)

    # The instant, and after it.

    @property
    def _followers(self) -> dict[str, Host]:
        return self._following | self._disabled

    async def _exchange(self) -> None:
        runtime, difference = self._runtime, self._difference
        replaced = {name: runtime.hosts[name] for name in difference.replaced}
        stopped = {name: runtime.hosts[name] for name in difference.stopped}
        limit = runtime.program.settings.shutdown.close
        with trio.move_on_after(limit):
            await self._end_dependents(replaced, stopped)
        retirements = {name: host.retire() for name, host in replaced.items()}
        with trio.move_on_after(limit):
            for retirement in retirements.values():
                await retirement.run_ended.wait()
        self._exchange_now(replaced)
        await self._close(stopped, replaced, retirements)

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
        for name, host in replaced.items():
            host.needs.leave()
            self._empty_hands(name)
        for name in difference.stopped:
            runtime.hosts[name].needs.leave()
        hosts = {name: self._followers.get(name) or runtime.hosts[name] for name in self._checked}
        for name, host in self._followers.items():
            for need in difference.new.needs[name]:
                host.needs.add(hosts[need])
        runtime.adopt(difference.new, hosts)
        runtime.supersede(self._successors)
        self._carry()
        for name, host in self._following.items():
            host.take_over(replaced[name].restarts + 1 if name in replaced else 0)
        for name, host in self._disabled.items():
            host.restarts = replaced[name].restarts
            runtime.begin(host)
        for inbox in self._inherited():
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

    def _carry(self) -> None:
        """Have the events in memory be of the new classes."""
        for plugin, delivery, cls in self._to_carry():
            try:
                delivery.event = carried(delivery.event, cls, self._runtime.events)
            except UNCARRIABLE as error:  # It came since the others were looked at.
                _log.error("event stays of its old class", plugin=plugin, error=str(error))

    async def _close(
        self,
        stopped: dict[str, Host],
        replaced: dict[str, Host],
        retirements: dict[str, Retirement],
    ) -> None:
        """Let the old instances close, and drain those that are gone, in the order of a stop."""
        settings = self._difference.new.settings.shutdown
        for tier in reversed(self._difference.old.tiers):
            for level in reversed(tier):
                leaving = [name for name in level if name in stopped or name in replaced]
                drain_until = trio.current_time() + settings.drain
                for name in leaving:
                    if name in replaced:
                        retirements[name].may_close.set()
                    else:
                        stopped[name].stop(
                            drain_until=drain_until, close_until=drain_until + settings.close
                        )
                for name in leaving:
                    await (stopped.get(name) or replaced[name]).ended.wait()
                    if name in stopped:
                        self._runtime.hosting.inboxes.pop(name, None)
        self._carry()  # Those that were being stored at the instant.


def _order(policy: DeliveryPolicy) -> tuple[str | None, bool]:
    """The parts of a policy that decide the order of events."""
    return policy.ordering_key, policy.concurrency > 1


def _needs_restart(plugin: str, why: str) -> ReloadRefusedError:
    return ReloadRefusedError(f"plugin {plugin!r} needs a restart: {why}", plugin=plugin)
