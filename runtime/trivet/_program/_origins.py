"""The settings as they hold, each with its origin.

Owns the keys, and the search for the origin of each.
Never knows how they are printed; a secret value is masked here.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, cast

import attrs

from .._events._delivery_settings import DeliveryPolicy
from .._faults._masking import MASK, mask
from ._inspection import settings_fields
from ._loader import Program
from ._plugin_tables import CheckedPlugin
from ._reading import Reading, parsed
from ._settings import ENVIRONMENT, NOT_READ, PROGRAM_KEYS, Settings
from ._values import EnvText, is_table

Origin = Literal["default", "file", "environment", "command line", "program"]
_NOT_SHOWN = ("plugins", *NOT_READ)


@attrs.frozen
class EffectiveSetting:
    """One setting as it holds."""

    key: str
    """The key, as in `plugins.teapot.delivery.inbox_size`."""
    value: object
    """The value, as JSON has it; `***` for a secret."""
    origin: Origin
    """The origin; `"default"` also for a value of a plugin's class, `"program"` for a value that
    comes from the code around Trivet."""
    source: str | None
    """The file, or the variable; None for another origin."""


class _Origins:
    """The search for origins, in the tables that were read."""

    def __init__(self, reading: Reading, given: Collection[str]) -> None:
        self._settings = reading.settings
        self._raw = reading.raw
        self._given = given
        file = reading.settings.file
        # In the table as it was read, default paths are relative to the file.
        self._written: dict[str, Any] = {} if file is None else parsed(file)

    def of(self, path: tuple[str | int, ...]) -> tuple[Origin, str | None]:
        if path[0] in self._given:
            return "command line", None
        value = _within(self._raw, path)
        source = _variable_within(value)
        if source is not None:
            return "environment", source
        if value is _ABSENT or _within(self._written, path) is _ABSENT:
            return "default", None
        return "file", str(self._settings.file)

    def of_plugin(self, name: str, path: tuple[str, ...]) -> tuple[Origin, str | None]:
        table = self._settings.table(name)
        for section, written in self._settings.plugins.items():
            if written is table:
                return self.of(("plugins", section, *path))
        return "default", None


_ABSENT = object()


def _within(value: object, path: Iterable[str | int]) -> object:
    """The value at a path within tables and arrays."""
    for step in path:
        if is_table(value) and step in value:
            value = value[str(step)]
        elif isinstance(value, list) and isinstance(step, int):
            array = cast("list[object]", value)
            value = array[step] if step < len(array) else _ABSENT
        else:
            return _ABSENT
    return value


def _variable_within(value: object) -> str | None:
    """The variable that gave a value, or the first within a table, such as a secret's."""
    if isinstance(value, EnvText) and value.source.startswith(ENVIRONMENT):
        return value.source
    if is_table(value):
        return next(filter(None, map(_variable_within, value.values())), None)
    return None


def effective_settings(
    reading: Reading, program: Program, given: Collection[str]
) -> Iterator[EffectiveSetting]:
    """Every setting of a program: its own, then those of each plugin.

    Args:
        reading: the settings with their sources.
        program: the program that they make.
        given: the keys that the command line gave.
    """
    origins = _Origins(reading, given)
    own = [each for each in attrs.fields(Settings) if each.name not in _NOT_SHOWN]
    for field in sorted(own, key=lambda each: each.name not in PROGRAM_KEYS):
        for path, value in _leaves((field.name,), getattr(reading.settings, field.name), field):
            yield EffectiveSetting(_key(path), value, *origins.of(path))
    for plugin in program.plugins:
        for path, value in _of_plugin(plugin):
            key = _key(("plugins", plugin.name, *path))
            yield EffectiveSetting(key, value, *origins.of_plugin(plugin.name, path))


def program_settings(settings: Settings) -> Iterator[tuple[str, object]]:
    """The key and the value of each setting of a program's own; those of plugins are not in it."""
    for field in attrs.fields(Settings):
        if field.name not in _NOT_SHOWN:
            for path, value in _leaves((field.name,), getattr(settings, field.name), field):
                yield _key(path), value


def plugin_settings(settings: Settings, plugin: CheckedPlugin) -> Iterator[EffectiveSetting]:
    """Every setting of one plugin of a program that runs.

    Args:
        settings: the program's settings.
        plugin: the plugin.
    """
    table = settings.table(plugin.name)
    for path, value in _of_plugin(plugin):
        origin, source = _origin_in(table, path, settings.file)
        yield EffectiveSetting(_key(("plugins", plugin.name, *path)), value, origin, source)


def _origin_in(
    table: object, path: tuple[str, ...], file: Path | None
) -> tuple[Origin, str | None]:
    """The origin of a value in a plugin's table."""
    value = _within(table, path)
    source = _variable_within(value)
    if source is not None:
        return "environment", source
    if value is _ABSENT:
        return "default", None
    return ("program", None) if file is None else ("file", str(file))


def _of_plugin(plugin: CheckedPlugin) -> Iterator[tuple[tuple[str, ...], object]]:
    for field in settings_fields(plugin.cls):
        name = field.alias or field.name
        yield (name,), _shown(plugin.values.get(name, _default(field)), field)
    if plugin.listens_to:
        events = (event.__delivery__ for event in plugin.listens_to)
        policy = DeliveryPolicy.decide(plugin.delivery, *events)
        yield ("delivery", "events"), [event.__event_name__ for event in plugin.listens_to]
        for field in attrs.fields(DeliveryPolicy):
            yield ("delivery", field.name), _shown(getattr(policy, field.name), field)
    for field in attrs.fields(type(plugin.supervision)):
        yield ("supervision", field.name), _shown(getattr(plugin.supervision, field.name), field)


def _default(field: attrs.Attribute[Any]) -> object:
    """The field's default; None for one that depends on the instance."""
    default: Any = field.default
    if hasattr(default, "takes_self"):
        return None if default.takes_self else default.factory()
    return default


def _leaves(
    path: tuple[str | int, ...], value: object, field: attrs.Attribute[Any]
) -> Iterator[tuple[tuple[str | int, ...], object]]:
    """The settings within a table, or within an array of tables."""
    leaf, cls = value, type(value)
    if attrs.has(cls):
        for inner in attrs.fields(cls):
            yield from _leaves((*path, inner.name), getattr(value, inner.name), inner)
        return
    array = cast("list[object]", value) if isinstance(value, list) else []
    if array and all(attrs.has(type(each)) for each in array):
        for index, each in enumerate(array):
            yield from _leaves((*path, index), each, field)
        return
    yield path, _shown(leaf, field)


def _key(path: Iterable[str | int]) -> str:
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return "".join(steps).removeprefix(".")


def _shown(value: object, field: attrs.Attribute[Any]) -> object:
    return MASK if field.repr is not True and value is not None else as_json(value)


def as_json(value: object) -> object:
    """A value in JSON's types, secrets masked.

    >>> from trivet import Secret
    >>> as_json({"token": Secret("s3cret"), "sizes": (1, 2)})
    {'token': '***', 'sizes': [1, 2]}
    """
    if isinstance(value, dict):
        table = cast("dict[object, object]", value)
        return {mask(str(key)): as_json(inner) for key, inner in table.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [as_json(each) for each in cast("Iterable[object]", value)]
    cls = type(value)
    if attrs.has(cls):
        return {each.name: _shown(getattr(value, each.name), each) for each in attrs.fields(cls)}
    return _scalar_as_json(value)


def _scalar_as_json(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or type(value) in (bool, int, float):
        return value
    return mask(str(getattr(value, "__event_name__", value)))  # A `Secret` is `***` as text.
