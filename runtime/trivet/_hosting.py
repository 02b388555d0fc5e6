"""The making of what a plugin of a program needs to live: its inbox, its instance, its host.

Owns which of these are made of a checked plugin's settings, and with which limits.
Never knows when a plugin starts, nor how one takes another's place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING

import attrs
import structlog

from ._delivery._backing import MakeBacking
from ._delivery._bounded import BoundedInbox
from ._delivery._bus import Subscription
from ._delivery._in_memory import InMemory
from ._delivery._memory import Memory
from ._events._delivery_settings import DeliveryPolicy
from ._events._types import EventTypes
from ._faults._advice import explained, in_words
from ._faults._errors import StartError
from ._log._failures import Failures
from ._plugins._event_plugins import BatchPlugin
from ._plugins._instance import create_plugin, filter_of
from ._plugins._plugin import App, Plugin
from ._program._plugin_tables import CheckedPlugin
from ._program._settings import Settings
from ._supervision._handover import Succession
from ._supervision._host import Host, StatusChange

if TYPE_CHECKING:
    from ._events._tracing import Tracing
    from ._store._keeper import Keeper
    from ._store._store import Store

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger("trivet")
_NO_DELIVERIES = DeliveryPolicy()
"""The policy of a plugin without an inbox."""


@attrs.define(eq=False)
class Hosting:
    """Makes the inboxes and the hosts of one program."""

    app: App
    """The program, as plugins see it."""
    events: EventTypes
    """Its event types."""
    on_change: Callable[[StatusChange], None]
    """Called for each transition of a plugin's status."""
    contains_interrupts: bool
    """Whether a KeyboardInterrupt is a fault of the plugin that raised it."""
    runs: bool
    """Whether plugins run, and events are delivered to them."""
    memory: Memory
    """The memory that all inboxes share."""
    disabled: Mapping[str, str]
    """The plugins that start disabled, with the reasons."""
    inboxes: dict[str, BoundedInbox] = attrs.field(factory=dict[str, BoundedInbox])
    """The inboxes, by the plugin's name."""
    failures: Failures = attrs.field(factory=Failures)
    """The failures of the plugins with their events, and with their pages."""
    tracing: Tracing | None = None
    """Makes spans; None where traces are off."""
    store: Store | None = None
    """The store of the durable inboxes; None where no inbox is durable."""
    keeper: Keeper = attrs.field(init=False)
    """Keeps the store open; there while the program runs."""

    def inbox(self, checked: CheckedPlugin, settings: Settings) -> BoundedInbox | None:
        """Make the inbox of a plugin; None for a plugin without one."""
        policy = policy_of(checked, settings)
        if policy is None:
            return None
        inbox = self.inboxes[checked.name] = BoundedInbox(
            checked.name,
            policy,
            backing=self._on_disk(settings) if policy.durable and self.runs else InMemory,
            in_batches=takes_batches(checked),
            memory=self.memory,
            failures=self.failures,
        )
        inbox.tracing = self.tracing
        return inbox

    def _on_disk(self, settings: Settings) -> MakeBacking:
        from ._delivery._on_disk import OnDisk  # noqa: PLC0415 - most programs need no store

        return partial(OnDisk, store=self.store or self.new_store(settings), types=self.events)

    def new_store(self, settings: Settings) -> Store:
        """Make the store, which is not open."""
        from ._store._store import Store  # noqa: PLC0415 - as above

        self.store = Store(settings.store, self.events)
        return self.store

    def host(
        self,
        checked: CheckedPlugin,
        settings: Settings,
        inbox: BoundedInbox | None,
        succession: Succession | None = None,
    ) -> Host:
        """Make a plugin's instance, and the host that is to run it.

        Args:
            checked: the plugin.
            settings: the program's settings.
            inbox: the plugin's inbox.
            succession: the turn of a plugin that starts beside another one.

        Raises:
            StartError: the author's `__init__` has failed.
        """
        host = Host(
            self._plugin(checked, settings, inbox),
            supervision=checked.supervision,
            inbox=inbox,
            start_limit=settings.startup.limit,
            close_limit=settings.shutdown.close,
            contains_interrupts=self.contains_interrupts,
            on_change=self.on_change,
            runs=self.runs,
            succession=succession,
        )
        why = self.disabled.get(checked.name)
        if why is not None and self.runs and succession is None:
            host.disable_from_start(why)
        return host

    def _plugin(
        self, checked: CheckedPlugin, settings: Settings, inbox: BoundedInbox | None
    ) -> Plugin:
        name, policy = checked.name, policy_of(checked, settings) or _NO_DELIVERIES
        try:
            return create_plugin(name, checked.cls, self.app, checked.values, inbox, policy)
        except (Exception, SystemExit) as error:
            _log.error("plugin did not start", plugin=name, exc_info=explained(error))
            said = in_words(error, checked.home)
            message = f"plugin {name!r}: its __init__ failed: {said}"
            raise StartError(message, plugin=name) from error

    def subscriptions(self, checked: CheckedPlugin, plugin: Plugin) -> Iterator[Subscription]:
        """The subscriptions of a plugin; its filter holds from now on."""
        inbox = self.inboxes.get(checked.name)
        if inbox is None or not self.runs:
            return
        inbox.admission.wants = filter_of(plugin, inbox.policy)
        for event in checked.listens_to:
            policy = DeliveryPolicy.decide(checked.delivery, event.__delivery__)
            yield Subscription(checked.name, event, inbox, policy)


def policy_of(checked: CheckedPlugin, settings: Settings) -> DeliveryPolicy | None:
    """The policy of the deliveries to a plugin; None for a plugin without an inbox.

    No inbox may take more than half of the memory that all of them share.
    """
    if not checked.listens_to:
        return None
    policy = DeliveryPolicy.decide(
        checked.delivery, *(event.__delivery__ for event in checked.listens_to)
    )
    limit = min(policy.buffer_bytes, settings.buffer_bytes // 2)
    return attrs.evolve(policy, buffer_bytes=limit)


def takes_batches(checked: CheckedPlugin) -> bool:
    """Whether a plugin takes its events in batches."""
    return issubclass(checked.cls, BatchPlugin)
