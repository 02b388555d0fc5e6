"""The settings as they hold, each with its origin.

Owns the keys, and the search for the origin of each.
Never knows how they are printed; a secret value is masked here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any, Literal, cast

import attrs

from .._events._delivery_settings import DeliveryPolicy
from .._faults._masking import MASK, mask
from ._inspection import settings_fields
from ._loader import Program
from ._overlay import ABSENT, Steps, key_of, within
from ._plugin_tables import CheckedPlugin
from ._settings import ENVIRONMENT, NOT_READ, PROGRAM_KEYS, Settings
from ._values import EnvText, is_table

Origin = Literal["default", "file", "overlay", "environment", "command line", "program"]
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
    """The file, the overlay or the variable; None for another origin."""


class _Origins:
    """The search for origins, in the tables that were read."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._written = settings.written

    def of(self, path: Steps) -> tuple[Origin, str | None]:
        top = str(path[0])
        if self._settings.sources.get(top) == top:
            return "command line", None
        value = within(self._written.merged, path)
        source = variable_within(value)
        if source is not None:
            return "environment", source
        if value is ABSENT:
            return "default", None
        if within(self._written.overlaid, path) is not ABSENT:
            return "overlay", str(self._written.overlay)
        # Paths by default are in the merged table, relative to the file.
        if within(self._written.table, path) is ABSENT:
            return "default", None
        return "file", str(self._settings.file)

    def of_program(self, path: Steps, value: object) -> tuple[Origin, str | None]:
        """The origin of a setting that may come from the code around Trivet."""
        if not self._was_read and value != _DEFAULTS.get(key_of(path)):
            return "program", None
        return self.of(path)

    def of_plugin(self, name: str, path: tuple[str, ...]) -> tuple[Origin, str | None]:
        table = self._settings.table(name)
        if not self._was_read:
            return ("default" if within(table, path) is ABSENT else "program"), None
        for section, written in self._settings.plugins.items():
            if written is table:
                return self.of(("plugins", section, *path))
        return "default", None

    @property
    def _was_read(self) -> bool:
        return self._written.overlay is not None


def variable_within(value: object) -> str | None:
    """The variable that gave a value, or the first within a table, such as a secret's."""
    if isinstance(value, EnvText) and value.source.startswith(ENVIRONMENT):
        return value.source
    if is_table(value):
        return next(filter(None, map(variable_within, value.values())), None)
    return None


def effective_settings(settings: Settings, program: Program) -> Iterator[EffectiveSetting]:
    """Every setting of a program: its own, then those of each plugin.

    Args:
        settings: the settings as they were read.
        program: the program that they make.
    """
    origins = _Origins(settings)
    for path, value in _of_program(settings):
        yield EffectiveSetting(key_of(path), value, *origins.of_program(path, value))
    for plugin in program.plugins:
        yield from plugin_settings(settings, plugin)


def _of_program(settings: Settings) -> Iterator[tuple[Steps, object]]:
    """The program's own settings, first those that are in no table."""
    own = [each for each in attrs.fields(Settings) if each.name not in _NOT_SHOWN]
    for field in sorted(own, key=lambda each: each.name not in PROGRAM_KEYS):
        yield from _leaves((field.name,), getattr(settings, field.name), field)


def program_settings(settings: Settings) -> Iterator[tuple[str, object]]:
    """The key and the value of each setting of a program's own; those of plugins are not in it."""
    return ((key_of(path), value) for path, value in _of_program(settings))


def plugin_settings(settings: Settings, plugin: CheckedPlugin) -> Iterator[EffectiveSetting]:
    """Every setting of one plugin.

    Args:
        settings: the settings as they were read.
        plugin: the plugin.
    """
    origins = _Origins(settings)
    for path, value in _of_plugin(plugin):
        key = key_of(("plugins", plugin.name, *path))
        yield EffectiveSetting(key, value, *origins.of_plugin(plugin.name, path))


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
    path: Steps, value: object, field: attrs.Attribute[Any]
) -> Iterator[tuple[Steps, object]]:
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


_DEFAULTS: dict[str, object] = dict(program_settings(Settings()))
"""The values of the program's own settings by default."""
