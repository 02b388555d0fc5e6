"""How a plugin is, and how that may change.

Owns the seven statuses and the one table of transitions; the documents' diagram is drawn from it.
Never knows what brings a transition about: that is the host's.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from .._events._delivery_settings import DeliverySettings
from .._events._event import Event


class Status(StrEnum):
    """How a plugin is. The set is that of the OpenTelemetry Collector's components, more or less.

    >>> Status.BACKING_OFF == "backing_off"
    True
    """

    STARTING = "starting"
    """`initialize` runs, or is about to."""
    RUNNING = "running"
    """It works."""
    DEGRADED = "degraded"
    """It works, and has said that something is amiss: `Plugin.degrade`."""
    BACKING_OFF = "backing_off"
    """It failed, and is started again after a wait."""
    STOPPING = "stopping"
    """Its lifetime ends: its inbox is drained, what needs it stops, `close` runs."""
    STOPPED = "stopped"
    """It has ended, with the program; or it waits for a plugin that it needs."""
    FAILED = "failed"
    """It was given up; an operator may restart it."""

    @property
    def is_up(self) -> bool:
        """Whether the plugin works."""
        return self in (Status.RUNNING, Status.DEGRADED)


TRANSITIONS: Mapping[Status, Mapping[Status, str]] = {
    Status.STARTING: {
        Status.RUNNING: "initialize() returned",
        Status.BACKING_OFF: "initialize() failed",
        Status.FAILED: "initialize() failed, and is not to be tried again",
        Status.STOPPED: "stop, or a plugin that it needs is gone",
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
    },
    Status.BACKING_OFF: {
        Status.STARTING: "the wait is over",
        Status.STOPPED: "stop, or a plugin that it needs is gone",
    },
    Status.STOPPED: {
        Status.STARTING: "restart, or what it needs is up again",
    },
    Status.FAILED: {
        Status.STARTING: "restarted by an operator",
        Status.STOPPED: "restarted by an operator, and a plugin that it needs is gone",
    },
}
"""From each status, where it may go, and why."""


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
    Event, name="plugin_status_event", delivery=DeliverySettings(overflow="drop_oldest")
):
    """A plugin's status has changed.

    It is never waited for: a subscriber's full inbox drops its oldest, and where the operator has
    chosen `block`, what its `on_full` says happens at once. Who listens to `Event` does not listen
    to this one, which tells of what goes wrong inside: it has to be named.
    """

    __listen_by_base__ = False

    plugin: str
    """The plugin's name."""
    status: Status
    """How it is."""
    previous: Status
    """How it was."""
    reason: str | None = None
    """The failure, or what the plugin has said itself; one line."""
    restarts: int = 0
    """Its restarts since the program started."""
    critical: bool = False
    """Whether the program ends when it gives up."""
