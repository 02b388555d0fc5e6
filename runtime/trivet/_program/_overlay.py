"""The overlay: settings that were changed while the program ran, over those of the settings' file.

Owns how two tables become one, and the change of a table by a JSON merge patch.
Never knows files, nor the meaning of a setting.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, cast

import attrs

from .._faults._errors import ConfigurationError
from ._values import is_table

Steps = tuple[str | int, ...]
"""The way to a value: keys of tables, and places in arrays."""
SECRET_FORMS = ({"file"}, {"credential"})
"""The keys of a table that stands for a secret; one form takes the place of the other."""
DEEPEST = 32
"""Tables and arrays that may stand within one another in a change."""
ABSENT = object()


@attrs.frozen(repr=False, eq=False)
class Written:
    """The tables from which settings were made, each as it was read."""

    table: Mapping[str, Any] = attrs.field(factory=dict[str, Any])
    """The content of the settings' file; empty without one."""
    overlay: Path | None = None
    """The overlay's file; None where nothing was read at all."""
    overlaid: Mapping[str, Any] = attrs.field(factory=dict[str, Any])
    """The overlay's content; empty where there is no such file."""
    merged: Mapping[str, Any] = attrs.field(factory=dict[str, Any])
    """All of it, with the text of variables and of the command line marked as such."""

    def place(self, key: str, file: Path | None) -> str:
        """A key with the file that has it, for messages: the overlay, or the settings' file."""
        if self.overlay is not None and self._is_overlaid(key):
            file = self.overlay
        return key if file is None else f"{file}: {key}"

    def _is_overlaid(self, key: str) -> bool:
        keys = {*_keys_within(self.overlaid)}
        array, bracket, _ = key.partition("[")  # An array is the overlay's as a whole.
        return key in keys or (bool(bracket) and array in keys)


def within(value: object, path: Iterable[str | int]) -> object:
    """The value at a path within tables and arrays; `ABSENT` where there is none."""
    for step in path:
        if is_table(value) and step in value:
            value = value[str(step)]
        elif isinstance(value, list) and isinstance(step, int):
            array = cast("list[object]", value)
            value = array[step] if step < len(array) else ABSENT
        else:
            return ABSENT
    return value


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Two tables as one: tables are merged, and any other value above takes the place of one below.

    >>> merged({"log": {"level": "info"}, "bind": "a"}, {"log": {"format": "json"}, "bind": "b"})
    {'log': {'level': 'info', 'format': 'json'}, 'bind': 'b'}
    >>> merged({"token": {"file": "a"}}, {"token": {"credential": "b"}})
    {'token': {'credential': 'b'}}
    """
    found: dict[str, Any] = deepcopy({**below})
    for key, value in above.items():
        old = found.get(key)
        if is_table(value) and is_table(old) and not _are_secrets(value, old):
            found[key] = merged(old, value)
        else:
            found[key] = deepcopy(value)
    return found


def _are_secrets(*tables: dict[str, Any]) -> bool:
    return all({*table} in SECRET_FORMS for table in tables)


def patched(table: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """A table after a JSON merge patch, as RFC 7396 has it: null removes a key.

    A table that is left empty goes, too.

    >>> patched({"log": {"level": "info", "format": "json"}}, {"log": {"level": None}})
    {'log': {'format': 'json'}}
    >>> patched({"log": {"level": "info"}}, {"log": {"level": None}, "service": "shop"})
    {'service': 'shop'}
    """
    found = {**table}
    for key, value in patch.items():
        if value is None:
            found.pop(key, None)
        elif is_table(value):
            old = found.get(key)
            new = patched(old if is_table(old) else {}, value)
            if new or not value:
                found[key] = new
            else:
                found.pop(key, None)
        else:
            found[key] = value
    return found


def steps_within(table: Mapping[str, Any], before: Steps = ()) -> Iterator[tuple[Steps, object]]:
    """The way to each value that is no table, or an empty one; arrays of tables are looked into."""
    for key, value in table.items():
        yield from _steps(value, (*before, key))


def _steps(value: object, path: Steps) -> Iterator[tuple[Steps, object]]:
    if is_table(value) and value:
        yield from steps_within(value, path)
        return
    leaf = value
    array = cast("list[object]", value) if isinstance(value, list) else []
    if array and all(is_table(each) for each in array):
        for index, each in enumerate(array):
            yield from _steps(each, (*path, index))
    else:
        yield path, leaf


def key_of(path: Iterable[str | int]) -> str:
    """The way to a value as a key, for people.

    >>> key_of(("tokens", 0, "name"))
    'tokens[0].name'
    """
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return "".join(steps).removeprefix(".")


def _keys_within(table: Mapping[str, Any]) -> Iterator[str]:
    """The key of each value, and of each table and array around it."""
    for path, _ in steps_within(table):
        for length in range(1, len(path) + 1):
            yield key_of(path[:length])


def refuse_impossible(patch: Mapping[str, Any]) -> None:
    """Refuse a patch that no TOML file can have.

    Raises:
        ConfigurationError: a null stands in an array, or it is nested too deeply.
    """
    waiting: list[tuple[Steps, object]] = [((), patch)]
    while waiting:
        path, value = waiting.pop()
        if len(path) > DEEPEST:
            raise ConfigurationError(f"{path[0]}: nested too deeply")
        if value is None and isinstance(path[-1], int):
            raise ConfigurationError(f"{key_of(path)}: an array has no null")
        if is_table(value):
            waiting += [((*path, key), inner) for key, inner in value.items()]
        elif isinstance(value, list):
            array = cast("list[object]", value)
            waiting += [((*path, index), inner) for index, inner in enumerate(array)]
