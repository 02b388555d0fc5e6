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
from contextlib import asynccontextmanager
from contextvars import Context, ContextVar, copy_context
from functools import partial
from typing import TYPE_CHECKING

import attrs
import structlog
import trio

from ._delivery._bus import Bus, Subscription
from ._delivery._memory import Memory
from ._delivery._publisher import Publisher
from ._events._delivery import Delivery
from ._events._delivery_settings import BUFFER_BYTES
from ._events._event import Event
from ._events._operator_action import OperatorActionEvent
from ._events._types import EventTypes
from ._faults._advice import in_words
from ._faults._containment import summary, unwrapped
from ._faults._errors import (
    ConfigurationError,
    PluginNotActiveError,
    StartError,
    WrongSettingError,
    nearest,
)
from ._faults._masking import forget, know
from ._hosting import Hosting
from ._inbox._counts import InboxStatistics
from ._inbox._latencies import LatencyStatistics
from ._loop._meter import StallMeter
from ._loop._stall_watch import watching
from ._loop._tasks import describe_unfinished
from ._loop._usage import Usage
from ._plugins._plugin import App, Plugin, PluginT
from ._plugins._status import PluginStatusEvent, Status
from ._program._garbage import garbage_collector_paused
from ._program._generations import digests
from ._program._loader import Program, load
from ._program._order import BACKGROUND, EVENT, SOURCE
from ._program._plugin_tables import CheckedPlugin
from ._program._reloads import Reloads
from ._program._settings import Settings
from ._program._versions import CodeVersion, code_versions
from ._store._keeper import keeping
from ._supervision import _orders
from ._supervision._history import History, event_of
from ._supervision._host import Host, StatusChange
from ._supervision._starts import Starts
from ._supervision._stop_plan import StopPlan

if TYPE_CHECKING:
    from ._events._tracing import Tracing
    from ._store._store import Store

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger("trivet")

LONG_START = 1.0
"""Seconds for which a plugin may hold the event loop while it starts: to read certificates, say."""


prepared: ContextVar[Mapping[str, Host] | None] = ContextVar("prepared", default=None)
"""The hosts of the instances that start beside those of the program, for these instances."""


def _has_no_doors(_: Settings) -> None:
    """Nothing is listened at."""


def _tracing(settings: Settings) -> Tracing | None:
    """The maker of spans, where traces are enabled; OpenTelemetry is imported only there."""
    if not settings.traces.enabled:
        return None
    try:
        from ._events._tracing import Tracing  # noqa: PLC0415
    except ModuleNotFoundError as error:
        reason = "opentelemetry-api is not installed: pip install 'trivet[otel]'"
        raise ConfigurationError(f"traces.enabled: {reason}") from error
    return Tracing(settings.traces.sample)


class Runtime(Publisher, App):
    """A running program. Made by `open_runtime`."""

    earlier_deaths: Sequence[Mapping[str, object]] = ()
    """The accounts of the program's earlier deaths by the parent process, the oldest first."""

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
        self.program: Program = program
        """The checked program."""
        self.contains_interrupts = contains_interrupts
        self._service = program.settings.service
        self.hosts: dict[str, Host] = {}
        """The hosts, by the plugin's name, in the order of activation."""
        self.history: History = History()
        """The last statuses of each plugin."""
        self.code: dict[type, CodeVersion] = code_versions(
            [checked.cls for checked in program.plugins]
        )
        """The version of each plugin's code, by its class."""
        self.digests: Mapping[str, str | None] = digests()
        """The SHA-256 of each imported file of the plugins' directory, by its module."""
        self.homes: dict[str, str] = program.homes
        """The module, or the package, of each plugin's code."""
        self.nursery: trio.Nursery
        """The nursery of the plugins' tasks; there while the program runs."""
        self.context: Context
        """The context in which the program was started."""
        self.check_doors: Callable[[Settings], None] = _has_no_doors
        """Refuses settings by which an address that is listened at would be open to anybody."""
        self.reloads: Reloads | None = None
        """Reads settings and code anew. None where the code around Trivet has made the settings."""
        self.on_adopt: list[Callable[[], None]] = []
        """Called at the instant of a reload, when `program` and `hosts` are the new ones."""
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
        self._stopping = trio.Event()
        self.memory: Memory = Memory(program.settings.buffer_bytes)
        """The memory that all inboxes share."""
        self._levels_stopped = 0
        self.hosting: Hosting = Hosting(
            self,
            program.events,
            self._publish_status,
            contains_interrupts,
            runs,
            self.memory,
            {**settings.disabled_plugins, **settings.disabled_files},
            tracing=_tracing(settings),
        )
        """The making of inboxes and hosts."""
        self._inboxes = self.hosting.inboxes
        self.mask_secrets()
        subscriptions = [each for checked in program.plugins for each in self._add(checked)]
        self.mask_secrets()  # Converters and `__init__` may have made secrets of their own.
        bus = Bus(subscriptions, program.events.types)
        Publisher.__init__(self, bus, program.settings.service, program.events)
        self._trace_publishing()
        for name, needs in program.needs.items():
            for need in needs:
                self.hosts[name].needs.add(self.hosts[need])

    def _trace_publishing(self) -> None:
        if self.tracing is None:
            return
        from ._delivery._traced import TracedPublishing  # noqa: PLC0415 - see `_tracing`

        traced = TracedPublishing(self, self.tracing)
        # In the place of the methods, which are not to look whether there are traces.
        vars(self).update(publish=traced.publish, publish_many=traced.publish_many)

    @property
    def service(self) -> str:
        """The service's name."""
        return self._service

    @property
    def stopping(self) -> trio.Event:
        """An event that is set when the stop begins."""
        return self._stopping

    @property
    def tracing(self) -> Tracing | None:
        """Makes spans; None where traces are off."""
        return self.hosting.tracing

    @property
    def store(self) -> Store | None:
        """The store of the durable inboxes; None where no inbox is durable."""
        return self.hosting.store

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
        return frozenset(name for name, inbox in self._inboxes.items() if inbox.policy.durable)

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
        following = prepared.get()
        hosts = {**self.hosts, **following} if following else self.hosts
        host = hosts.get(name or plugin.name)
        if host is not None and isinstance(host.plugin, plugin):
            return host.plugin
        same = {
            name: host.plugin for name, host in hosts.items() if isinstance(host.plugin, plugin)
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
        said = f"plugin {asked!r} is not active; {nearest(asked, hosts)}"
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

    def latencies(self) -> dict[str, LatencyStatistics]:
        """How long events wait in each inbox, and attempts take, by the plugin's name.

        The numbers only grow: the latencies of some minutes are the `Distribution.since` of two
        instants.
        """
        inboxes = self._inboxes.items()
        return {name: inbox.fast_path.latencies.statistics() for name, inbox in inboxes}

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
        return describe_unfinished(root, innocent, self.homes)

    def mask_secrets(self) -> None:
        """Mask the secrets of the settings in everything that is logged and shown."""
        secrets = self.program.secrets()
        secrets.names |= {self.service, *self.events}
        for host in self.hosts.values():
            secrets.of_instance(host.plugin)
        know(self, secrets)

    def _add(self, checked: CheckedPlugin) -> Iterator[Subscription]:
        settings = self.program.settings
        inbox = self.hosting.inbox(checked, settings)
        host = self.hosts[checked.name] = self.hosting.host(checked, settings, inbox)
        return self.hosting.subscriptions(checked, host.plugin)

    def begin(
        self,
        host: Host,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
        others: Mapping[str, Host] | None = None,
    ) -> None:
        """Begin the task of a host that a reload has made.

        Args:
            host: the host.
            task_status: see `Host.supervise`.
            others: the hosts that its plugin sees before those of the program.
        """
        self.begin_task(partial(host.supervise, task_status=task_status), others)

    def begin_task(
        self, task: Callable[[], Awaitable[object]], others: Mapping[str, Host] | None = None
    ) -> None:
        """Begin a task that outlives the request for a reload, and so is not in its context."""
        context = self.context.copy()
        context.run(prepared.set, others)
        context.run(self.nursery.start_soon, task)

    def adopt(self, program: Program, hosts: Mapping[str, Host]) -> None:
        """Go over to another program, at one instant; see `Changeover`.

        Args:
            program: the program.
            hosts: its hosts, which have begun.
        """
        events = self.program.events
        events.become(program.events)
        self.program = attrs.evolve(program, events=events)
        self.hosts.clear()
        self.hosts.update(hosts)
        self.homes.clear()
        self.homes.update(program.homes)
        known, classes = dict(self.code), {type(host.plugin) for host in hosts.values()}
        self.code.clear()
        self.code.update({cls: known[cls] for cls in classes & known.keys()})
        self.code.update(code_versions(classes - known.keys()))
        subscriptions: list[Subscription] = []
        for checked in program.plugins:
            subscriptions += self.hosting.subscriptions(checked, hosts[checked.name].plugin)
            hosts[checked.name].start_limit = program.settings.startup.limit
            hosts[checked.name].close_limit = program.settings.shutdown.close
        self._bus.connect(subscriptions, events.types)
        self.mask_secrets()
        for call in self.on_adopt:
            call()

    def _publish_status(self, change: StatusChange) -> None:
        if self.hosts.get(change.host.name) is not change.host:
            return  # It is on trial, or another instance has taken its place.
        self.history.note(change)
        if change.previous is Status.STARTING and self.meter is not None:
            self.meter.split()  # What follows in this step has no longer the limit of a start.
        if not self._bus.listens(PluginStatusEvent):
            return
        self._bus.publish_nowait(Delivery[Event](event_of(change), self.service))

    @asynccontextmanager
    async def tier(self, nursery: trio.Nursery, number: int) -> AsyncGenerator[None]:
        """Start a tier's plugins, level by level; stop them in reverse when the block is left.

        A reload may have brought others by then.
        """
        try:
            for level in self._levels(number):
                await self._start(nursery, level)
            yield
        finally:
            with trio.CancelScope(shield=True):
                for level in reversed(self._levels(number)):
                    await self._stop(level)

    def _levels(self, tier: int) -> list[list[Host]]:
        return [[self.hosts[name] for name in level] for level in self.program.tiers[tier]]

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
                raise self.start_error(host, self.program) from host.failure

    def start_error(self, host: Host, program: Program) -> StartError:
        """The error of a plugin of a program that did not start, with the place of the fault."""
        assert host.failure is not None
        said = summary(host.failure)
        if isinstance(host.failure, WrongSettingError):
            settings = program.settings
            value = settings.table(host.name).get(host.failure.setting or "")
            variable = getattr(value, "source", "")  # Of the environment, if one gave the value.
            said = host.failure.at(host.name, settings.file)
            if variable:
                said = f"{variable}: {host.failure.reason}"
        reason = in_words(host.failure, program.homes[host.name], said)
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
    stalls = runtime.program.settings.stalls
    watched = watching(stalls, runtime.homes, runtime.stall_limit)
    with watched as runtime.meter, unwrapped():
        async with (
            keeping(runtime.store) as runtime.hosting.keeper,
            runtime.hosting.failures.told(),
            trio.open_nursery() as nursery,
        ):
            runtime.nursery, runtime.context = nursery, copy_context()
            tier = partial(runtime.tier, nursery)
            async with tier(BACKGROUND):  # Last to stop: others may still hand them work.
                async with tier(EVENT):  # Their inboxes are closed and drained.
                    async with tier(SOURCE):  # They stop fetching.
                        yield runtime  # HTTP lives in here: first to stop.
