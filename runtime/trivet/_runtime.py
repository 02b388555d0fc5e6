"""The program while it runs: every plugin in its host, every inbox on the bus.

Owns the order of start and stop, and is the `app` that plugins see.
Never knows HTTP, signals and files.
"""

from __future__ import annotations

from collections.abc import (
    AsyncGenerator,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, Unpack

import attrs
import structlog
import trio

from ._delivery._backing import MakeBacking
from ._delivery._bounded import BoundedInbox
from ._delivery._bus import Bus, Subscription
from ._delivery._in_memory import InMemory
from ._delivery._publisher import Publisher
from ._events._delivery import Delivery, Envelope
from ._events._delivery_settings import BUFFER_BYTES, DeliveryPolicy
from ._events._event import Event
from ._events._outcome import Outcome
from ._events._types import EventTypes
from ._faults._advice import explained, in_words
from ._faults._containment import summary, unwrapped
from ._faults._errors import (
    PluginNotActiveError,
    StartError,
    WrongSettingError,
    nearest,
)
from ._faults._masking import Secrets, forget, know
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
from ._program._inspection import settings_fields
from ._program._loader import Program, load
from ._program._order import Levels
from ._program._plugin_tables import CheckedPlugin
from ._program._settings import Settings
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


class Runtime(App):
    """A running program. Made by `open_runtime`."""

    def __init__(self, program: Program, *, contains_interrupts: bool = False) -> None:
        """Make the plugins' instances, and start nothing.

        Args:
            program: what is to run.
            contains_interrupts: whether a KeyboardInterrupt is a fault of the plugin that raised
                it. Not so where Python makes one of Ctrl-C.
        """
        self.program = program
        self.contains_interrupts = contains_interrupts
        self._service = program.settings.service
        self.hosts: dict[str, Host] = {}
        """The hosts, by the plugin's name, in the order in which they were named."""
        self.plan: StopPlan | None = None
        """The deadlines of the stop; None before it begins."""
        self.meter: StallMeter | None = None
        """Measures who uses the event loop, while the program runs."""
        self.hurried: trio.Event = trio.Event()
        """Set when the stop is not to wait for anything but the closing of plugins."""
        self._stopping = trio.Event()
        self._inboxes: dict[str, BoundedInbox] = {}
        self._levels_stopped = 0
        self.store: Store | None = None
        """Where durable inboxes keep their events; None where no plugin has one."""
        self._mask_secrets()
        wishes = [wish for checked in program.plugins for wish in self._add(checked)]
        self._mask_secrets()  # What the authors' code has made of the settings, too.
        self._bus = Bus(wishes, program.events.types)
        self._publisher = Publisher(self._bus, self._service, program.events)
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
        """Set when the stop begins."""
        return self._stopping

    @property
    def events(self) -> EventTypes:
        """The event types, by name."""
        return self.program.events

    @property
    def unrouted(self) -> Mapping[str, int]:
        """How many events nobody listened to, by the event's name."""
        return self._bus.unrouted

    def publish(
        self, event: Event, *, wait: bool = False, **envelope: Unpack[Envelope]
    ) -> Coroutine[Any, Any, Outcome]:
        """Hand the event to every subscriber; each decides alone, and none can make this raise.

        Waits until the event is stored for every durable subscriber, and no longer than the
        longest `block_for` of the subscribers whose inbox is full. Where neither makes it wait it
        is a checkpoint once in a while only.

        Args:
            event: an instance of a registered event type.
            wait: wait for the end of it too, however long handlers, and attempts after those that
                fail, take; put a time limit around it.
            envelope: what is known of the event besides: `id`, `source`, `time`, `key`,
                `deadline`, `request_id`, `traceparent`; see `Envelope`.

        Returns:
            One fate per subscriber. No subscriber is an outcome too. A subscriber that can never
            take the event in says why in the outcome's `refusals`: to repeat it is of no use.

        Raises:
            UnknownEventError: it is not an instance of a registered event type.
            DeadlockError: `wait` was asked for by the handler that the event itself would need: by
                a plugin that listens to it and has no other worker, or in a circle of such.
        """
        return self._publisher.publish(event, wait, envelope)

    async def publish_many(
        self, deliveries: Iterable[Delivery[Event]], *, wait: bool = False
    ) -> list[Outcome]:
        """Hand several events, in order, to every subscriber.

        As `publish` with each of them; but what is to be stored is stored in one transaction, and
        who is full makes the publisher wait once.

        Args:
            deliveries: the events with what is known of their envelopes; the rest is as for
                `publish`.
            wait: wait for the end of all of them too.

        Returns:
            An outcome for each.

        Raises:
            UnknownEventError: one is not an instance of a registered event type; none is
                published then.
            DeadlockError: see `publish`; none is published then.
        """
        return await self._publisher.publish_many(deliveries, wait=wait)

    @property
    def durable(self) -> frozenset[str]:
        """The plugins whose inboxes are durable."""
        return self._durable

    def room(self, event: type[Event]) -> float:
        """How many events of this type can be published together, and none has to wait for room."""
        return self._bus.room(event)

    def room_bytes(self, event: type[Event]) -> float:
        """How many bytes of memory events of this type can take, and none has to wait for room."""
        return self._bus.room_bytes(event)

    def buffer_bytes(self, event: type[Event]) -> int:
        """How many bytes of memory an event of this type may take; nobody can have a larger one."""
        return self._bus.buffer_bytes(event)

    @property
    def largest_buffer_bytes(self) -> int:
        """The most that `buffer_bytes` says of any type."""
        return max(map(self._bus.buffer_bytes, self.events.types), default=BUFFER_BYTES)

    def listens(self, event: type[Event]) -> bool:
        """Whether a plugin listens to events of this type."""
        return self._bus.listens(event)

    def get(self, plugin: type[PluginT], name: str | None = None) -> PluginT:
        """The active plugin of this class.

        Args:
            plugin: the class.
            name: which of several; without it the one that has its class's own name, or the only
                one that there is.

        Raises:
            PluginNotActiveError: there is none, or there are several and none has that name.
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
                else f"{name!r} is no active {plugin.__name__}; {nearest(name, same)}"
            )
        asked = name or plugin.name
        raise PluginNotActiveError(f"plugin {asked!r} is not active; {nearest(asked, self.hosts)}")

    def restart(self, plugin: str) -> None:
        """Have a plugin begin a new lifetime, also one that was given up.

        Its failures are forgotten, its inbox is kept, and what needs it restarts after it.

        Args:
            plugin: its name.

        Raises:
            PluginNotActiveError: no plugin has this name.
            RestartRefusedError: the program stops, or the plugin waits for another.
        """
        if plugin not in self.hosts:
            raise PluginNotActiveError(
                f"plugin {plugin!r} is not active; {nearest(plugin, self.hosts)}"
            )
        self.hosts[plugin].restart()

    def statistics(self) -> dict[str, InboxStatistics]:
        """What has become of the events of each plugin that listens to some."""
        return {name: inbox.statistics() for name, inbox in self._inboxes.items()}

    def on_retry(self, told: Callable[[str, Delivery[Event], Exception, float], None]) -> None:
        """Have each failure told that another attempt will follow.

        Args:
            told: called with the plugin's name, the event, what its handler has raised, and the
                seconds that will pass at most; it must neither wait nor raise.
        """
        for name, inbox in self._inboxes.items():
            inbox.on_retry = partial(told, name)

    def usage(self) -> Mapping[str, Usage]:
        """What each plugin has used of the event loop; nothing where `[stalls]` is not enabled."""
        return {} if self.meter is None else self.meter.usage()

    def stall_limit(self, plugin: str, since: float) -> float:
        """Seconds from which on a plugin that holds the event loop is reported.

        Args:
            plugin: its name; any other stands for Trivet itself.
            since: when it began to, by `perf_counter`.
        """
        warn, host = self.program.settings.stalls.warn, self.hosts.get(plugin)
        if host is not None and host.was_starting(since):
            return max(warn, LONG_START)
        return warn

    def begin_stop(self) -> StopPlan:
        """Set `stopping` and fix the deadlines; the first call does, all return the same plan."""
        if self.plan is None:
            levels = sum(len(tier) for tier in self.program.tiers)
            self.plan = StopPlan(trio.current_time(), levels, self.program.settings.shutdown)
            self._stopping.set()
            if self.store is not None:
                self.store.stop_begins()
            _log.info("stopping")
        return self.plan

    def hurry(self) -> None:
        """End what is left of requests and of draining: plugins are closed, and that is all.

        What is not being answered yet gets 503 at once, and what is queued is abandoned.
        """
        _log.warning("requests and draining are cut short")
        self.plan = self.begin_stop().hurried(trio.current_time())
        self.hurried.set()
        for host in self.hosts.values():
            host.hurry()

    def what_is_left(self, root: trio.lowlevel.Task) -> Iterator[str]:
        """Which plugins have not ended although they were asked to, and where they stand."""
        innocent = [name for name, host in self.hosts.items() if host.is_up]
        return describe_unfinished(root, innocent, self.program.homes)

    def _mask_secrets(self) -> None:
        """Have what the settings hold of secrets masked in all that is logged and shown."""
        secrets = Secrets()
        secrets.of_instance(self.program.settings)
        names = [self.service, *self.events]
        for checked in self.program.plugins:
            names.append(checked.name)
            fields = settings_fields(checked.cls)
            given = {
                field.name: checked.values.get(field.alias or field.name, field.default)
                for field in fields
            }
            secrets.of_fields(fields, given)
            if checked.name in self.hosts:
                secrets.of_instance(self.hosts[checked.name].plugin)
        know(self, secrets, names)

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
            raise StartError(f"plugin {name!r}: its __init__ failed: {said}") from error
        self.hosts[name] = Host(
            plugin,
            supervision=checked.supervision,
            inbox=inbox,
            start_limit=self.program.settings.startup.limit,
            close_limit=self.program.settings.shutdown.close,
            contains_interrupts=self.contains_interrupts,
            on_change=self._tell,
        )
        if inbox is not None:
            inbox.admission.wants = filter_of(plugin, policy)
            for event in types:
                policy = DeliveryPolicy.decide(checked.delivery, event.__delivery__)
                yield Subscription(name, event, inbox, policy)

    def _add_inbox(self, checked: CheckedPlugin, policy: DeliveryPolicy) -> BoundedInbox:
        inbox = BoundedInbox(
            checked.name,
            policy,
            backing=self._on_disk() if policy.durable else InMemory,
            in_batches=issubclass(checked.cls, BatchPlugin),
        )
        self._inboxes[checked.name] = inbox
        return inbox

    def _on_disk(self) -> MakeBacking:
        from ._delivery._on_disk import OnDisk  # noqa: PLC0415 - most programs need no
        from ._store._store import Store  # noqa: PLC0415 - store

        if self.store is None:
            self.store = Store(self.program.settings.store)
        return partial(OnDisk, store=self.store, types=self.events)

    def _tell(self, change: StatusChange) -> None:
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
            said = host.failure.at(host.name, self.program.settings.file)
        reason = in_words(host.failure, self.program.homes[host.name], said)
        return StartError(f"plugin {host.name!r} did not start: {reason}")

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
    """Run a program inside one's own: its plugins live as long as this block.

    To leave the block, also by cancellation or an exception, is the stop: inboxes are drained,
    plugins closed and cancelled, within the settings' `[shutdown]` limits.

    Args:
        settings: what `load_settings` returns; the defaults, without any file, when not given.
        plugins: classes to run besides the settings' `active_plugins`.
        event_types: types to register besides those that the plugins bring.

    Raises:
        ConfigurationError: before anything has started.
        StartError: a plugin could not be started; those that were have been stopped.
        CriticalPluginError: a critical plugin gave up; the block has been cancelled.
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
