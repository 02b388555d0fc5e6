"""The status of a plugin, and its transitions.

Owns the eight statuses and the one table of transitions, from which the documents' diagram is
drawn.
Never knows the cause of a transition: that is the host's.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from .._events._delivery_settings import DeliverySettings
from .._events._event import Event


class Status(StrEnum):
    """The status of a plugin; the set is nearly that of the OpenTelemetry Collector's components.

    >>> Status.BACKING_OFF == "backing_off"
    True
    """

    STARTING = "starting"
    """`initialize` runs, or is about to run."""
    RUNNING = "running"
    """The plugin works."""
    DEGRADED = "degraded"
    """The plugin works, but has reported a fault by `Plugin.degrade`."""
    BACKING_OFF = "backing_off"
    """The plugin failed, and starts again after a wait."""
    STOPPING = "stopping"
    """The lifetime ends: the inbox is drained, plugins that need this one stop, `close` runs."""
    STOPPED = "stopped"
    """The plugin has ended with the program, or waits for a plugin that it needs."""
    FAILED = "failed"
    """The plugin was given up; an operator may restart it."""
    DISABLED = "disabled"
    """An operator has stopped the plugin alone, and may enable it again."""

    @property
    def is_up(self) -> bool:
        """Whether the plugin works."""
        return self is _RUNNING or self is _DEGRADED

    @property
    def awaits_operator(self) -> bool:
        """Whether the plugin starts again only when an operator asks for it."""
        return self in (Status.FAILED, Status.DISABLED)


_RUNNING, _DEGRADED = Status.RUNNING, Status.DEGRADED  # Looked up for each request.

TRANSITIONS: Mapping[Status, Mapping[Status, str]] = {
    Status.STARTING: {
        Status.RUNNING: "initialize() returned",
        Status.BACKING_OFF: "initialize() failed",
        Status.FAILED: "initialize() failed, and is not to be tried again",
        Status.STOPPED: "stop, or a plugin that it needs is gone",
        Status.DISABLED: "disabled by an operator",
    },
    Status.RUNNING: {
        Status.DEGRADED: "degrade()",
        Status.STOPPING: "crash, stop, restart, or a plugin that it needs is gone",
    },
    Status.DEGRADED: {
        Status.RUNNING: "recover()",
        Status.STOPPING: "crash, stop, restart, or a plugin that it needs is gone",
    },
    Status.STOPPING: {
        Status.BACKING_OFF: "closed after a crash",
        Status.FAILED: "closed after one crash too many",
        Status.STOPPED: "closed",
        Status.DISABLED: "closed, and disabled by an operator",
    },
    Status.BACKING_OFF: {
        Status.STARTING: "the wait is over",
        Status.STOPPED: "stop, or a plugin that it needs is gone",
        Status.DISABLED: "disabled by an operator",
    },
    Status.STOPPED: {
        Status.STARTING: "restart, or what it needs is up again",
        Status.DISABLED: "disabled by an operator",
    },
    Status.FAILED: {
        Status.STARTING: "restarted by an operator",
        Status.STOPPED: "restarted by an operator, and a plugin that it needs is gone",
        Status.DISABLED: "disabled by an operator",
    },
    Status.DISABLED: {
        Status.STARTING: "enabled by an operator",
        Status.STOPPED: "stop, or enabled, and a plugin that it needs is gone",
    },
}
"""The possible next statuses of each status, with the reasons."""


def diagram() -> str:
    """The table as a state diagram, in Mermaid's notation.

    >>> print(diagram().splitlines()[2])
        starting --> running: initialize() returned
    """
    edges = [
        f"    {origin} --> {target}: {reason}"
        for origin, targets in TRANSITIONS.items()
        for target, reason in targets.items()
    ]
    return "\n".join(["stateDiagram-v2", f"    [*] --> {Status.STARTING}", *edges])


class PluginStatusEvent(
    Event,
    name="plugin_status_event",
    delivery=DeliverySettings(overflow="drop_oldest"),
    from_outside=False,
):
    """A plugin's status has changed.

    Publishing it never waits: a full inbox drops its oldest event, and where the operator has
    chosen `block`, `on_full` applies at once. A plugin that listens to `Event` does not receive
    it, since it reports faults inside the program; a plugin has to name it.
    """

    __listen_by_base__ = False

    plugin: str
    """The plugin's name."""
    status: Status
    """The new status."""
    previous: Status
    """The status before."""
    reason: str | None = None
    """The failure, or the plugin's own words in `degrade`, in one line."""
    restarts: int = 0
    """The plugin's restarts since the program started."""
    critical: bool = False
    """Whether the program ends when this plugin is given up."""
