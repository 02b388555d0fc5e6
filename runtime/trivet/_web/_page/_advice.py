"""The faults of a program, and the first thing that an operator does about each of them.

Owns the order of urgency, and the words.
Never knows how the state was found: it reads the document that the page shows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import attrs

from ..._plugins._status import Status

Level = Literal["bad", "warn", "note"]
LEVELS: tuple[Level, ...] = ("bad", "warn", "note")
"""From what cannot wait to what somebody has wanted so."""
NEARLY_FULL = 0.8
"""The share of an inbox's room from which it is named."""
ALWAYS = 0.85
"""The share of the time from which a handler that is handling is named."""
OLD = 60.0
"""Seconds after which an event that still waits is named."""
LOOP = 3
"""Starts within five minutes from which a plugin is in a crash loop."""


@attrs.frozen
class Advice:
    """One thing that is not well."""

    level: Level
    about: str
    """The fault, in one sentence."""
    remedy: str
    """The first thing to do, in one sentence."""
    plugin: str | None = None
    """The plugin that it is about."""
    view: Literal["dead-letters", "stalls"] | None = None
    """The view in which that is done, where it is not the plugin's own."""


def advice(state: Mapping[str, Any]) -> list[Advice]:
    """Everything that is not well, the most urgent first."""
    found = [*_of_service(state)]
    for look in (_of_status, _of_inbox):  # A plugin that does not run, before one that is slow.
        for name, plugin in state["plugins"].items():
            found += look(name, plugin, state)
    # What makes the service not ready comes before what else is as urgent.
    others = {name for name, plugin in state["plugins"].items() if not plugin.get("critical")}
    return sorted(found, key=lambda each: (LEVELS.index(each.level), each.plugin in others))


def _of_service(state: Mapping[str, Any]) -> Iterator[Advice]:
    store, log = state.get("store", {}), state.get("log", {})
    if "trouble" in store:
        said = f"Events cannot be stored: {store['trouble']}."
        yield Advice("bad", said, "Make room on the disk, or mend the file's directory.")
    elif "limit" in store:
        remedy = "Mend the plugins whose inboxes grow, or give the store more room."
        yield Advice("warn", f"The store is {store['limit']}.", remedy)
    if "trouble" in log:
        said = f"The log cannot be written: {log['trouble']}."
        yield Advice("warn", said, "Mend what reads the standard error of this service.")
    if state.get("insecure"):
        said = "This service is insecure: clients without a token may do what no token is for."
        yield Advice("warn", said, "Write [[tokens]] in its settings, and take `insecure` away.")
    if state.get("unrouted"):
        names = ", ".join(state["unrouted"])
        remedy = "Activate a plugin that listens to them, or stop sending them."
        yield Advice("note", f"Events that no plugin listens to have come: {names}.", remedy)


def _of_status(name: str, plugin: Mapping[str, Any], state: Mapping[str, Any]) -> Iterator[Advice]:
    status, error = plugin["status"], plugin.get("error", "an error")
    if status == Status.FAILED:
        said = f"{name} was given up after {error}."
        yield Advice("bad", said, "Read its last error, mend the cause, then restart it.", name)
    elif "error" in plugin and plugin.get("starts", 0) >= LOOP:
        said = f"{name} crashes again and again, {plugin['starts']} times in five minutes: {error}."
        remedy = "Read its last error and mend the cause, or disable it until then."
        yield Advice("bad", said, remedy, name)
    elif status == Status.BACKING_OFF:
        said = f"{name} has crashed with {error}, and starts again by itself."
        yield Advice("warn", said, "Read its last error.", name)
    elif status == Status.STOPPED and "waits_for" in plugin:
        yield _of_waiting(name, plugin["waits_for"], state)
    elif status == Status.DEGRADED:
        said = f"{name} says: {plugin.get('trouble', 'degraded')}."
        remedy = "Mend what it names; it goes on by itself."
        if "remedy" in plugin:
            remedy = f"Its remedy: {plugin['remedy'].rstrip('.')}."
        yield Advice("bad" if plugin.get("critical") else "warn", said, remedy, name)
    elif status == Status.DISABLED:
        yield Advice("note", f"{name} is disabled.", "Enable it when it may work again.", name)


def _of_waiting(name: str, needed: str, state: Mapping[str, Any]) -> Advice:
    plugins = state["plugins"]
    status = plugins[needed]["status"].replace("_", " ") if needed in plugins else "not there"
    said = f"{name} waits for {needed}, which is {status}."
    return Advice("warn", said, f"Mend {needed}: {name} starts after it.", needed)


def _of_inbox(name: str, plugin: Mapping[str, Any], state: Mapping[str, Any]) -> Iterator[Advice]:
    waiting, room = plugin.get("queued", 0), plugin.get("room")
    age = state["at"] - plugin.get("oldest", state["at"])
    if plugin.get("paused"):
        said = f"{name} is paused; {waiting} events wait."
        yield Advice("note", said, "Resume it when it may have them.", name)
    elif "dropping" in plugin:
        said = (
            f"{name} loses events: its inbox is full, and drops {plugin['dropping']:.3g} a second, "
            f"{plugin['dropped']} so far."
        )
        remedy = "See what holds its handler up, then give it more handlers, batches or room."
        yield Advice("bad", said, remedy, name)
    elif room and waiting >= NEARLY_FULL * room:
        said = f"The inbox of {name} is nearly full: {waiting} of {room} events."
        remedy = "See what holds its handler up, in its tasks and its log."
        yield Advice("bad", said, remedy, name)
    elif age > OLD:
        said = f"The oldest event of {name} has waited for {_in_minutes(age)}."
        remedy = "See what holds its handler up: a key that fails, or a call without a time limit."
        yield Advice("warn", said, remedy, name)
    elif plugin.get("handling", 0.0) >= ALWAYS:
        share, each = plugin["handling"], plugin.get("p50", 0.0)
        said = f"The handler of {name} is busy for {share:.0%} of the time, {each:.2g} s an event."
        remedy = "Make it faster, raise its concurrency, or take batches: events will wait soon."
        yield Advice("note", said, remedy, name)
    if "stalled" in plugin:
        said = f"{name} has held the event loop, for {plugin['longest']:.2g} s at the longest."
        remedy = "See which of its calls took the time, and move them to a thread."
        yield Advice("warn", said, remedy, name, view="stalls")
    if plugin.get("dead_lettered"):
        said = f"{name} could not handle {plugin['dead_lettered']} events, which are dead letters."
        remedy = "Read their errors, mend the cause, then replay them."
        yield Advice("warn", said, remedy, name, view="dead-letters")


def _in_minutes(seconds: float) -> str:
    """An age in words.

    >>> _in_minutes(61), _in_minutes(7300)
    ('1 min', '2 h')
    """
    return f"{seconds / 60:.0f} min" if seconds < 3600 else f"{seconds / 3600:.0f} h"
