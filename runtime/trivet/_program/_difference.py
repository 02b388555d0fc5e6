"""The difference between the program that runs and the one that the settings ask for now.

Owns which keys can change while a program runs, and which of its plugins are to be replaced.
Never knows how anything is applied.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal, cast

import attrs

from .._events._delivery_settings import DeliveryPolicy
from .._faults._secret import Secret
from ._loader import Program
from ._plugin_tables import CheckedPlugin
from ._settings import KEYS, Settings

Result = Literal[
    "changed",
    "started",
    "replaced",
    "stopped",
    "needs a restart",
    "written to the overlay",
    "removed from the overlay",
]
"""The outcome for a key, or a plugin.

`"replaced"` is a new instance under the same name. A key that was written to the overlay, or
removed from it, has the value that it had before.
"""
_NOT_APPLIED = ("needs a restart", "written to the overlay", "removed from the overlay")

_BOUND = "the sockets are bound, and `trivet restart` keeps them: stop the program, and start it"
FIXED = {
    "service": "it is in the source of every event",
    "plugins_directory": "its modules are imported",
    "bind": _BOUND,
    "management_bind": _BOUND,
    "stalls": "the event loop is measured",
    "traces": "each plugin's handler has its spans, or has none",
    "store": "the file is open",
    "buffer_bytes": "the inboxes share them",
}
"""The keys that cannot change while the program runs, each with the reason."""
_OF_PLUGINS = ("plugins", "active_plugins", "event_types")


@attrs.frozen
class Change:
    """One thing that a reload has changed, or cannot change."""

    what: str
    """The key, such as `max_body`, or `plugins.NAME` for a plugin."""
    result: Result
    reason: str | None = None
    """The reason why it needs a restart."""


@attrs.frozen
class Difference:
    """The difference between two programs; `new` is to follow `old`."""

    old: Program
    new: Program
    changes: tuple[Change, ...]
    """All changes: of keys, then of plugins."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing is to be applied."""
        return all(each.result in _NOT_APPLIED for each in self.changes)

    def _named(self, result: Result) -> list[str]:
        prefix = "plugins."
        found = [each.what for each in self.changes if each.result == result]
        return [what.removeprefix(prefix) for what in found if what.startswith(prefix)]

    @property
    def replaced(self) -> list[str]:
        """The names of the plugins that get another instance."""
        return self._named("replaced")

    @property
    def started(self) -> list[str]:
        """The names of the plugins that are new."""
        return self._named("started")

    @property
    def stopped(self) -> list[str]:
        """The names of the plugins that are gone."""
        return self._named("stopped")


def applicable(old: Settings, read: Settings, *, has_store: bool) -> Settings:
    """The settings that were read, with the present values of the keys that cannot change.

    A plugin to which deaths of the program are put down stays disabled, too.

    Args:
        old: the settings that hold.
        read: the settings that were read.
        has_store: whether the store is open; until then its settings can change.
    """
    fixed = [key for key in FIXED if has_store or key != "store"]
    kept = (*fixed, "disabled_files", "disabled_plugins")
    new = attrs.evolve(read, **{key: getattr(old, key) for key in kept})
    return attrs.evolve(new, waiting=_waiting(new, read))


def _waiting(new: Settings, read: Settings) -> tuple[str, ...]:
    """The keys that were read with another value, which needs a restart."""
    return tuple(key for key in FIXED if not _is_same(getattr(new, key), getattr(read, key)))


def difference(old: Program, new: Program, read: Settings) -> Difference:
    """Compare two programs.

    Args:
        old: the program that runs.
        new: the program that was checked, with `applicable` settings.
        read: the settings as they were read.
    """
    changes = [Change(key, "needs a restart", FIXED[key]) for key in _waiting(new.settings, read)]
    changes += [
        Change(key, "changed")
        for key in KEYS
        if key not in _OF_PLUGINS
        if not _is_same(getattr(old.settings, key), getattr(new.settings, key))
        or (key == "tls" and old.tls_files != new.tls_files)
    ]
    before = {each.name: each for each in old.plugins}
    after: dict[str, CheckedPlugin] = {}
    for checked in new.plugins:
        name, known = checked.name, before.get(checked.name)
        if known is None:
            changes.append(Change(f"plugins.{name}", "started"))
        elif _is_other(known, checked, old.settings, new.settings):
            changes.append(Change(f"plugins.{name}", "replaced"))
        else:
            # An object of the author's may be another one now, and so may an event's class.
            checked = attrs.evolve(known, listens_to=checked.listens_to)  # noqa: PLW2901
        after[name] = checked
    gone = [Change(f"plugins.{name}", "stopped") for name in before if name not in after]
    program = attrs.evolve(new, plugins=tuple(after.values()))
    return Difference(old, program, (*changes, *gone))


def _is_other(old: CheckedPlugin, new: CheckedPlugin, before: Settings, after: Settings) -> bool:
    """Whether a plugin has other code, or other settings."""
    facts = ("cls", "delivery", "supervision")
    if any(getattr(old, fact) != getattr(new, fact) for fact in facts):
        return True
    if _policy(old) != _policy(new):
        return True
    if old.values.keys() != new.values.keys():
        return True
    tables = before.table(old.name), after.table(new.name)
    return any(
        not _is_same(value, new.values[key])
        # What an author's converter makes may have no equality.
        and (tables[0].get(key) != tables[1].get(key) or _has_secret(value))
        for key, value in old.values.items()
    )


def _policy(plugin: CheckedPlugin) -> DeliveryPolicy | None:
    """The policy of a plugin that takes events; one that listens to a base may take more types."""
    if not plugin.listens_to:
        return None
    settings = (event.__delivery__ for event in plugin.listens_to)
    return DeliveryPolicy.decide(plugin.delivery, *settings)


def _is_same(old: object, new: object) -> bool:
    try:
        return bool(old == new)
    except Exception:  # An author's class, or an array of numbers.
        return False


def _has_secret(value: object) -> bool:
    return any(isinstance(each, Secret) for each in _within(value))


def _within(value: object) -> Iterator[object]:
    """A value, and all that is in it: in tables, arrays, and instances of attrs classes."""
    yield value
    inner: list[object] = []
    if isinstance(value, Mapping):
        inner = list(cast("Mapping[object, object]", value).values())
    elif isinstance(value, (list, tuple, set, frozenset)):
        inner = list(cast("tuple[object, ...]", value))
    elif attrs.has(type(value)):
        kind: Any = type(value)
        inner = [getattr(value, field.name, None) for field in attrs.fields(kind)]
    for each in inner:
        yield from _within(each)
