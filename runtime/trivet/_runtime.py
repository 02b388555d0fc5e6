"""The program while it runs: every plugin in its host, every inbox on the bus.

Owns the order of start and stop, and is the `app` that plugins see.
Never knows HTTP, signals and files.
"""

from __future__ import annotations

from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING

import attrs
import structlog
import trio

from ._delivery._backing import MakeBacking
from ._delivery._bounded import BoundedInbox
from ._delivery._bus import Bus, Subscription
from ._delivery._in_memory import InMemory
from ._delivery._memory import Memory
from ._delivery._publisher import Publisher
from ._events._delivery import Delivery
from ._events._delivery_settings import BUFFER_BYTES, DeliveryPolicy
from ._events._event import Event
from ._events._operator_action import OperatorActionEvent
from ._events._types import EventTypes
from ._faults._advice import explained, in_words
from ._faults._containment import summary, unwrapped
from ._faults._errors import (
    PluginNotActiveError,
    StartError,
    WrongSettingError,
    nearest,
)
from ._faults._masking import forget, know
from ._inbox._counts import InboxStatistics
from ._loop._meter import StallMeter
from ._loop._stall_watch import watching
from ._loop._tasks import describe_unfinished
from ._loop._usage import Usage
from ._plugins._event_plugins import BatchPlugin
from ._plugins._instance import create_plugin, filter_of
from ._plugins._plugin import App, Plugin, PluginT
from ._plugins._status import PluginStatusEvent, Status
from ._program._garbage import garbage_collector_paused
from ._program._loader import Program, load
from ._program._order import Levels
from ._program._plugin_tables import CheckedPlugin
from ._program._settings import Settings
from ._program._versions import CodeVersion, code_versions
from ._supervision import _orders
from ._supervision._host import Host, StatusChange
from ._supervision._starts import Starts
from ._supervision._stop_plan import StopPlan

if TYPE_CHECKING:
    from ._store._store import Store

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger("trivet")
_NO_DELIVERIES = DeliveryPolicy()
"""The policy of a plugin without an inbox."""

LONG_START = 1.0
"""Seconds for which a plugin may hold the event loop while it starts: to read certificates, say."""


class Runtime(Publisher, App):
    """A running program. Made by `open_runtime`."""

    def __init__(
        self, program: Program, *, contains_interrupts: bool = False, runs: bool = True
    ) -> None:
        """Make the plugins' instances, and start nothing.

        Args:
            program: the checked program.
            contains_interrupts: whether a KeyboardInterrupt is a fault of the plugin that raised
                it. It is not where Python makes one of Ctrl-C.
            runs: whether plugins run. Otherwise they are started and stopped, and no event is
                delivered to them.
        """
        self._runs = runs
        self.program = program
        self.contains_interrupts = contains_interrupts
        self._service = program.settings.service
        self.hosts: dict[str, Host] = {}
        """The hosts, by the plugin's name, in the order of activation."""
        classes = [checked.cls for checked in program.plugins]
        self.code: Mapping[type, CodeVersion] = code_versions(classes)
        """The version of each plugin's code, by its class."""
        self.plan: StopPlan | None = None
        """The deadlines of the stop; None before it begins."""
        self.meter: StallMeter | None = None
        """The meter of the event loop; None before the start, and without `[stalls]`."""
        self.hurried: trio.Event = trio.Event()
        """An event that is set when the stop waits for nothing but the closing of plugins."""
        self.leaving: trio.Event = trio.Event()
        """An event that is set when connections are not to be used for another request."""
        self.replace: Callable[[], Awaitable[bool]] | None = None
        """Asks for a new program in the place of this one, and says whether it takes over, once it
        is checked; None where nobody would start it."""
        settings = program.settings
        self._disabled = {**settings.disabled_plugins, **settings.disabled_files}
        self._stopping = trio.Event()
        self._inboxes: dict[str, BoundedInbox] = {}
        self.memory: Memory = Memory(program.settings.buffer_bytes)
        """The memory that all inboxes share."""
        self._levels_stopped = 0
        self.store: Store | None = None
        """The store of the durable inboxes; None where no inbox is durable."""
        self._mask_secrets()
        subscriptions = [each for checked in program.plugins for each in self._add(checked)]
        self._mask_secrets()  # Converters and `__init__` may have made secrets of their own.
        bus = Bus(subscriptions, program.events.types)
        Publisher.__init__(self, bus, program.settings.service, program.events)
        self._durable = frozenset(
            name for name, inbox in self._inboxes.items() if inbox.policy.durable
        )
        for name, needs in program.needs.items():
            for need in needs:
                self.hosts[name].needs.add(self.hosts[need])

    @property
    def service(self) -> str:
        """The service's name."""
        return self._service

    @property
    def stopping(self) -> trio.Event:
        """An event that is set when the stop begins."""
        return self._stopping

    @property
    def events(self) -> EventTypes:
        """The event types, by name."""
        return self.program.events

    @property
    def unrouted(self) -> Mapping[str, int]:
        """The number of events that no plugin listened to, by the event type's name."""
        return self._bus.unrouted

    @property
    def durable(self) -> frozenset[str]:
        """The names of the plugins whose inboxes are durable."""
        return self._durable

    def room(self, event: type[Event]) -> float:
        """The number of events of this type that fit into all their inboxes; see `App.room`."""
        return self._bus.room(event)

    def room_bytes(self, event: type[Event]) -> float:
        """The bytes of memory that events of this type may take at once; see `App.room`."""
        return self._bus.room_bytes(event)

    def buffer_bytes(self, event: type[Event]) -> int:
        """The bytes of memory that one event of this type may take; see `App.buffer_bytes`."""
        return self._bus.buffer_bytes(event)

    @property
    def largest_buffer_bytes(self) -> int:
        """The largest `buffer_bytes` of any event type."""
        return max(map(self._bus.buffer_bytes, self.events.types), default=BUFFER_BYTES)

    def listens(self, event: type[Event]) -> bool:
        """Whether a plugin listens to events of this type."""
        return self._bus.listens(event)

    def get(self, plugin: type[PluginT], name: str | None = None) -> PluginT:
        """The active plugin of this class.

        Args:
            plugin: the class.
            name: the plugin's name; by default the class's own name, or else that of the only
                plugin of the class.

        Raises:
            PluginNotActiveError: no plugin of the class, or none with the name, is active; or
                several are, and `name` is not given.
        """
        host = self.hosts.get(name or plugin.name)
        if host is not None and isinstance(host.plugin, plugin):
            return host.plugin
        same = {
            name: host.plugin
            for name, host in self.hosts.items()
            if isinstance(host.plugin, plugin)
        }
        if name is None and len(same) == 1:
            return next(iter(same.values()))
        if same:
            raise PluginNotActiveError(
                f"which {plugin.__name__}? Ask for one by its name: {', '.join(same)}"
                if name is None
                else f"{name!r} is no active {plugin.__name__}; {nearest(name, same)}",
                plugin=name,
            )
        asked = name or plugin.name
        said = f"plugin {asked!r} is not active; {nearest(asked, self.hosts)}"
        raise PluginNotActiveError(said, plugin=asked)

    def restart(self, plugin: str) -> None:
        """Begin a new lifetime of a plugin, even of one that was given up.

        The plugin's failures are forgotten, its inbox is kept, and plugins that need it restart
        after it.

        Args:
            plugin: the plugin's name.

        Raises:
            PluginNotActiveError: no plugin has this name.
            OrderRefusedError: the program stops, the plugin is disabled, or it waits for another.
        """
        _orders.restart(self.host(plugin))

    def host(self, plugin: str) -> Host:
        """The host of a plugin.

        Args:
            plugin: the plugin's name.

        Raises:
            PluginNotActiveError: no plugin has this name.
        """
        if plugin not in self.hosts:
            said = f"plugin {plugin!r} is not active; {nearest(plugin, self.hosts)}"
            raise PluginNotActiveError(said, plugin=plugin)
        return self.hosts[plugin]

    def operator_acted(self, event: OperatorActionEvent) -> None:
        """Log an action of an operator, which is done, and publish it."""
        _log.info("an operator has acted", **attrs.asdict(event))
        if self._bus.listens(OperatorActionEvent):
            self._bus.publish_nowait(Delivery[Event](event, self.service))

    def statistics(self) -> dict[str, InboxStatistics]:
        """The statistics of each plugin's inbox, by the plugin's name."""
        return {name: inbox.statistics() for name, inbox in self._inboxes.items()}

    def oldest_events(self) -> dict[str, float]:
        """The moment at which each inbox's oldest event in memory was published, by plugin.

        Seconds since 1970. Inboxes without an event in memory are left out.
        """
        oldest = {name: inbox.oldest for name, inbox in self._inboxes.items()}
        return {name: moment for name, moment in oldest.items() if moment is not None}

    def on_retry(self, callback: Callable[[str, Delivery[Event], Exception, float], None]) -> None:
        """Report each failed attempt that another attempt will follow.

        Args:
            callback: called with the plugin's name, the event, the handler's exception, and the
                seconds before the next attempt, at most. It must neither wait nor raise.
        """
        for name, inbox in self._inboxes.items():
            inbox.on_retry = partial(callback, name)

    def usage(self) -> Mapping[str, Usage]:
        """Each plugin's use of the event loop; empty where `[stalls]` is not enabled."""
        return {} if self.meter is None else self.meter.usage()

    def stall_limit(self, plugin: str, since: float) -> float:
        """Seconds from which a plugin that holds the event loop is reported.

        Args:
            plugin: the plugin's name; any other name stands for Trivet itself.
            since: the moment at which it began to hold the loop, by `perf_counter`.
        """
        warn, host = self.program.settings.stalls.warn, self.hosts.get(plugin)
        if host is not None and host.was_starting(since):
            return max(warn, LONG_START)
        return warn

    def begin_stop(self) -> StopPlan:
        """Set `stopping`, and fix the deadlines; later calls only return the same plan."""
        if self.plan is None:
            levels = sum(len(tier) for tier in self.program.tiers)
            self.plan = StopPlan(trio.current_time(), levels, self.program.settings.shutdown)
            self._stopping.set()
            self.leaving.set()
            if self.store is not None:
                self.store.stop_begins()
            _log.info("stopping")
        return self.plan

    def hurry(self) -> None:
        """Cut requests and draining short: from now on the stop only closes plugins.

        Requests without a response get 503 at once. Queued events are abandoned, or stay on disk.
        """
        _log.warning("requests and draining are cut short")
        self.plan = self.begin_stop().hurried(trio.current_time())
        self.hurried.set()
        for host in self.hosts.values():
            host.hurry()

    def what_is_left(self, root: trio.lowlevel.Task) -> Iterator[str]:
        """The plugins that have not ended although they were asked to, and where they stand."""
        innocent = [name for name, host in self.hosts.items() if host.is_up]
        return describe_unfinished(root, innocent, self.program.homes)

    def _mask_secrets(self) -> None:
        """Mask the secrets of the settings in everything that is logged and shown."""
        secrets = self.program.secrets()
        secrets.names |= {self.service, *self.events}
        for host in self.hosts.values():
            secrets.of_instance(host.plugin)
        know(self, secrets)

    def _add(self, checked: CheckedPlugin) -> Iterator[Subscription]:
        name, types = checked.name, checked.listens_to
        policy, inbox = _NO_DELIVERIES, None
        if types:
            policy = DeliveryPolicy.decide(
                checked.delivery, *(event.__delivery__ for event in types)
            )
            inbox = self._add_inbox(checked, policy)
        try:
            plugin = create_plugin(name, checked.cls, self, checked.values, inbox, policy)
        except Exception as error:
            _log.error("plugin did not start", plugin=name, exc_info=explained(error))
            said = in_words(error, checked.home)
            message = f"plugin {name!r}: its __init__ failed: {said}"
            raise StartError(message, plugin=name) from error
        self.hosts[name] = Host(
            plugin,
            supervision=checked.supervision,
            inbox=inbox,
            start_limit=self.program.settings.startup.limit,
            close_limit=self.program.settings.shutdown.close,
            contains_interrupts=self.contains_interrupts,
            on_change=self._publish_status,
            runs=self._runs,
        )
        why = self._disabled.get(name)
        if why is not None and self._runs:
            self.hosts[name].disable_from_start(why)
        if inbox is not None and self._runs:
            inbox.admission.wants = filter_of(plugin, policy)
            for event in types:
                policy = DeliveryPolicy.decide(checked.delivery, event.__delivery__)
                yield Subscription(name, event, inbox, policy)

    def _add_inbox(self, checked: CheckedPlugin, policy: DeliveryPolicy) -> BoundedInbox:
        limit = min(policy.buffer_bytes, self.program.settings.buffer_bytes // 2)
        inbox = BoundedInbox(
            checked.name,
            attrs.evolve(policy, buffer_bytes=limit),
            backing=self._on_disk() if policy.durable and self._runs else InMemory,
            in_batches=issubclass(checked.cls, BatchPlugin),
            memory=self.memory,
        )
        self._inboxes[checked.name] = inbox
        return inbox

    def _on_disk(self) -> MakeBacking:
        from ._delivery._on_disk import OnDisk  # noqa: PLC0415 - most programs need no
        from ._store._store import Store  # noqa: PLC0415 - store

        if self.store is None:
            self.store = Store(self.program.settings.store, self.events)
        return partial(OnDisk, store=self.store, types=self.events)

    def _publish_status(self, change: StatusChange) -> None:
        if change.previous is Status.STARTING and self.meter is not None:
            self.meter.split()  # What follows in this step has no longer the limit of a start.
        if not self._bus.listens(PluginStatusEvent):
            return
        host = change.host
        event = PluginStatusEvent(
            plugin=host.name,
            status=change.status,
            previous=change.previous,
            reason=change.reason,
            restarts=host.restarts,
            critical=host.critical,
        )
        self._bus.publish_nowait(Delivery[Event](event, self.service))

    @asynccontextmanager
    async def tier(self, nursery: trio.Nursery, names: Levels) -> AsyncGenerator[None]:
        """Start a tier's plugins, level by level; stop them in reverse when the block is left."""
        levels = [[self.hosts[name] for name in level] for level in names]
        try:
            for level in levels:
                await self._start(nursery, level)
            yield
        finally:
            with trio.CancelScope(shield=True):
                for level in reversed(levels):
                    await self._stop(level)

    async def _start(self, nursery: trio.Nursery, level: Sequence[Host]) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()  # A stop that comes first begins nothing.
        starts = Starts(len(level))
        async with trio.open_nursery() as watching:
            watching.start_soon(self._warn_of_slow_start, level)
            for host in level:
                nursery.start_soon(partial(host.supervise, task_status=starts.of(host)))
            await starts.over.wait()
            watching.cancel_scope.cancel()
        for host in level:
            if host.start_failed:
                raise self._start_error(host) from host.failure

    def _start_error(self, host: Host) -> StartError:
        assert host.failure is not None
        said = summary(host.failure)
        if isinstance(host.failure, WrongSettingError):
            settings = self.program.settings
            value = settings.table(host.name).get(host.failure.setting or "")
            variable = getattr(value, "source", "")  # Of the environment, if one gave the value.
            said = host.failure.at(host.name, settings.file)
            if variable:
                said = f"{variable}: {host.failure.reason}"
        reason = in_words(host.failure, self.program.homes[host.name], said)
        return StartError(f"plugin {host.name!r} did not start: {reason}", plugin=host.name)

    async def _warn_of_slow_start(self, level: Sequence[Host]) -> None:
        await trio.sleep(self.program.settings.startup.warn_after)
        for host in level:
            if host.status is Status.STARTING:
                _log.warning("plugin is slow to start", plugin=host.name, stack=host.stack())

    async def _stop(self, level: Sequence[Host]) -> None:
        plan = self.begin_stop()
        close_until = plan.close_until(self._levels_stopped)
        self._levels_stopped += 1
        drain_until = min(plan.drain_until, trio.current_time() + plan.settings.drain)
        for host in level:
            host.stop(drain_until=drain_until, close_until=close_until)
        for host in level:
            await host.ended.wait()
            inbox = self._inboxes.get(host.name)
            counts = {} if inbox is None else attrs.asdict(inbox.statistics())
            _log.info("plugin ended", plugin=host.name, status=host.status, **counts)


@asynccontextmanager
async def open_runtime(
    settings: Settings | None = None,
    *,
    plugins: Iterable[type[Plugin]] = (),
    event_types: Iterable[type[Event]] = (),
) -> AsyncGenerator[Runtime]:
    """Run a program within this block: its plugins live as long as the block.

    Leaving the block, also by a cancellation or an exception, stops the program: inboxes are
    drained, and plugins are closed, within the limits of `[shutdown]`.

    Args:
        settings: the settings, from `load_settings` for example; by default all defaults, without
            a file.
        plugins: classes to run besides the settings' `active_plugins`.
        event_types: types to register besides the types that the plugins bring.

    Yields:
        The running program.

    Raises:
        ConfigurationError: the settings or the classes have faults; nothing has started.
        StartError: a plugin did not start; the plugins that had started were stopped.
        CriticalPluginError: a critical plugin was given up; the block was cancelled.
    """
    with garbage_collector_paused():
        program = load(settings or Settings(), plugins=plugins, event_types=event_types)
        runtime = Runtime(program)
    try:
        async with running(runtime):
            yield runtime
    finally:
        forget(runtime)


@asynccontextmanager
async def running(runtime: Runtime) -> AsyncGenerator[Runtime]:
    """Start the plugins; stop them when the block is left."""
    background, event, source = runtime.program.tiers
    store = nullcontext() if runtime.store is None else runtime.store.opened()
    stalls = runtime.program.settings.stalls
    watched = watching(stalls, runtime.program.homes, runtime.stall_limit)
    with watched as runtime.meter, unwrapped():
        async with store, trio.open_nursery() as nursery:
            tier = partial(runtime.tier, nursery)
            async with tier(background):  # Last to stop: others may still hand them work.
                async with tier(event):  # Their inboxes are closed and drained.
                    async with tier(source):  # They stop fetching.
                        yield runtime  # HTTP lives in here: first to stop.
