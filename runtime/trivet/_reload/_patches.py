"""A change of the overlay, as an operator asks for it: what is refused, and what it has done.

Owns the refusals that name a key of the patch, the hints at plugins' keys, and the account of the
keys that kept their values.
Never knows how a setting is checked, nor how it is applied.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from .._faults._errors import ConfigurationError, nearest
from .._program._difference import Change
from .._program._inspection import settings_fields
from .._program._loader import Program
from .._program._origins import effective_settings, variable_within
from .._program._overlay import ABSENT, key_of, steps_within, within
from .._program._settings import KEYS, Settings
from .._program._values import EnvText, is_table

PLUGINS_NAMED_AT_MOST = 2
"""Plugins of which a hint names a setting; of more it would be a list."""


def refuse_overridden(patch: Mapping[str, Any], settings: Settings) -> None:
    """Refuse a change that would not count, since a later source sets its key.

    Args:
        patch: a JSON merge patch; a key that it removes may be overridden.
        settings: the settings after it.

    Raises:
        ConfigurationError: with a line for each such key.
    """
    merged, faults = settings.written.merged, list[str]()
    for path, value in steps_within(patch):
        if value is None:
            continue
        key, top = key_of(path), str(path[0])
        variable = _variable_on(path, merged)
        if settings.sources.get(top) == top:
            faults.append(f"{key}: the command line sets it")
        elif variable is not None:
            faults.append(f"{key}: the environment sets it, by {variable}")
    if faults:
        raise ConfigurationError("\n".join(faults))


def _variable_on(path: tuple[str | int, ...], merged: Mapping[str, Any]) -> str | None:
    """The variable that has set the value at a path, or a table on the way to it."""
    for length in range(1, len(path)):
        around = within(merged, path[:length])
        if isinstance(around, EnvText):
            return around.source
    return variable_within(within(merged, path))


def refuse_unknown(
    patch: Mapping[str, Any], overlaid: Mapping[str, Any], settings: Settings, program: Program
) -> None:
    """Refuse to remove a key that is neither in the overlay nor a setting.

    Args:
        patch: a JSON merge patch.
        overlaid: the overlay's content before it.
        settings: the settings after it.
        program: the program that runs.

    Raises:
        ConfigurationError: with a line for each such key, and the nearest one.
    """
    removed = [path for path, value in steps_within(patch) if value is None]
    absent = [path for path in removed if within(overlaid, path) is ABSENT]
    unwritten = [path for path in absent if within(settings.written.table, path) is ABSENT]
    if not unwritten:
        return
    found = [*effective_settings(settings, program)]
    known = {*KEYS, *(around for each in found for around in _around(each.key))}
    free = {each.key for each in found if is_table(each.value)}  # Their keys are the operator's.
    faults, hints = list[str](), hints_of_plugins(program)
    for path in unwritten:
        keys = [key_of(path[:length]) for length in range(1, len(path) + 1)]
        unknown = next((key for key in keys if key not in known), None)
        if unknown is None or not free.isdisjoint(keys):
            continue
        table = unknown.rpartition(".")[0]
        beside = [each for each in known if each.rpartition(".")[0] == table]
        hint = hints.get(unknown) or nearest(unknown, beside)
        faults.append(f"{key_of(path)}: unknown key {unknown!r}; {hint}")
    if faults:
        raise ConfigurationError("\n".join(faults))


def hints_of_plugins(program: Program) -> dict[str, str]:
    """A hint for each name that is a setting of one or two plugins: its whole key.

    For an operator who has written the setting without `plugins.NAME`. Where more plugins have it,
    the name says nothing about which of them is meant.
    """
    keys: dict[str, list[str]] = {}
    for plugin in program.plugins:
        for field in settings_fields(plugin.cls):
            name = field.alias or field.name
            keys.setdefault(name, []).append(key_of(("plugins", plugin.name, name)))
    return {
        name: f"did you mean {' or '.join(map(repr, found))}?"
        for name, found in keys.items()
        if len(found) <= PLUGINS_NAMED_AT_MOST
    }


def _around(key: str) -> Iterator[str]:
    """A key, and those of the tables around it; of an array's item, the array's."""
    key = key.partition("[")[0]
    while key:
        yield key
        key = key.rpartition(".")[0]


def moved(
    patch: Mapping[str, Any],
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    told: Iterable[Change],
) -> Iterator[Change]:
    """The keys that the overlay has now, or has no more, and whose values hold as before.

    Args:
        patch: a JSON merge patch.
        before: the overlay's content before it.
        after: the overlay's content after it.
        told: the changes of values, which are told already.
    """
    known = {each.what for each in told}
    for path, _ in steps_within(patch):
        old, new = within(before, path), within(after, path)
        keys = (key_of(path[:length]) for length in range(1, len(path) + 1))
        if not known.isdisjoint(keys):
            continue
        if new is ABSENT and old is not ABSENT:
            yield Change(key_of(path), "removed from the overlay")
        elif new is not ABSENT and (old is ABSENT or old != new):
            yield Change(key_of(path), "written to the overlay")
