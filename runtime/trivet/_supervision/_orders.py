"""An operator's orders to a plugin: restart, disable, enable, pause, resume.

Owns which order is refused, and what the refusal says.
Never knows who gives an order, nor how a host carries it out. No order outlives the program: that
is what settings are for.
"""

from __future__ import annotations

import trio

from .._faults._errors import OrderRefusedError
from .._inbox._gate import Gate
from .._plugins._status import Status
from .._program._settings import ShutdownSettings
from ._host import Host
from ._needs import Member


def restart(host: Host) -> None:
    """Begin a new lifetime of a plugin; plugins that need it restart too.

    Raises:
        OrderRefusedError: the program stops, a reload replaces or removes the plugin, the
            plugin is disabled, or it waits for another.
    """
    _refuse_at_the_end(host)
    if host.is_disabled:
        raise _refused(host, "is disabled; enable it")
    waits_for = host.waits_for
    if waits_for is not None:
        raise _refused(host, f"needs {waits_for.name!r}, which is {waits_for.status}")
    host.restart()


def disable(host: Host, limits: ShutdownSettings) -> bool:
    """Stop a plugin alone, within the limits of a stop; says whether it was not disabled before.

    Plugins that need it end before it, and wait. An inbox in memory refuses further events,
    and is drained; events of a durable one wait in the store, where more come in.

    Raises:
        OrderRefusedError: the program stops, a reload replaces or removes the plugin, or the
            plugin, or one that needs it, is critical.
    """
    _refuse_at_the_end(host)
    critical = _critical_one(host)
    if critical is not None:
        needed = "" if critical is host else f"is needed by {critical.name!r}, which "
        advice = "stop the program" if host.inbox is None else "pause the delivery to it instead"
        raise _refused(host, f"{needed}is critical: the service would not be ready; {advice}")
    if host.is_disabled:
        return False
    now = trio.current_time()
    drain_until = now + limits.drain
    host.disable(drain_until=drain_until, close_until=drain_until + limits.close)
    return True


def enable(host: Host) -> bool:
    """Start a plugin that was disabled; says whether it was.

    Raises:
        OrderRefusedError: the program stops, or a reload replaces or removes the plugin.
    """
    _refuse_at_the_end(host)
    if not host.is_disabled:
        return False
    host.enable()
    return True


def heading_for(host: Host) -> Status:
    """The status that an order to restart, disable or enable leads to, in the host's next step.

    A plugin that runs stops first; one that waits ends its wait at once.
    """
    if host.is_alive:
        return Status.STOPPING if host.is_up else host.status
    if host.is_stopping or host.ended.is_set():
        return host.status
    if host.is_disabled:
        return Status.DISABLED
    return Status.STARTING if host.waits_for is None else Status.STOPPED


def pause(host: Host) -> bool:
    """Hand no event to a plugin until `resume`; says whether it was not paused before.

    Events go on coming in, until the inbox is full: then its policy decides. Events that the
    plugin has already are finished. The pause outlives restarts of the plugin.

    Raises:
        OrderRefusedError: the program stops, a reload replaces or removes the plugin, or the
            plugin takes no events.
    """
    gate = _gate_of(host)
    if gate.is_paused:
        return False
    gate.pause()
    return True


def resume(host: Host) -> bool:
    """Hand events to a plugin again; says whether it was paused.

    Raises:
        OrderRefusedError: the program stops, a reload replaces or removes the plugin, or the
            plugin takes no events.
    """
    gate = _gate_of(host)
    if not gate.is_paused:
        return False
    gate.resume()
    return True


def _critical_one(host: Host) -> Member | None:
    """The plugin, or the first one that needs it, without which the service is not ready."""
    members = (host, *host.needs.dependents())
    return next((member for member in members if member.critical), None)


def _gate_of(host: Host) -> Gate:
    _refuse_at_the_end(host)
    if host.inbox is None:
        advice = "" if _critical_one(host) is not None else "; disable it instead"
        raise _refused(host, f"takes no events, so that nothing is to be paused{advice}")
    return host.inbox.gate


def _refuse_at_the_end(host: Host) -> None:
    if host.is_leaving:
        raise _refused(host, "is being replaced or removed by a reload; try again after it")
    if host.is_stopping:
        raise _refused(host, "is stopping with the program")


def _refused(host: Host, why: str) -> OrderRefusedError:
    return OrderRefusedError(f"plugin {host.name!r} {why}", plugin=host.name)
