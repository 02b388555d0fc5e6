"""The sources of the settings: `trivet.toml`, its overlay, `TRIVET_*`, and the command line.

Owns the order of the sources, each of which counts over those before it, and the way from a
variable's name to a key.
Never knows the meaning of a setting.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, cast

import attrs

from .._faults._errors import ConfigurationError
from ._collector import Faults
from ._overlay import Written, merged
from ._settings import (
    ENVIRONMENT,
    FIELDS,
    IN_MEMORY,
    KEYS,
    PROGRAM_KEYS,
    VARIABLES,
    Settings,
    StoreSettings,
    as_variable,
)
from ._structuring import NO_HINTS, faulty_keys, structure_fields
from ._values import EnvText, is_table

DEFAULT_FILE = Path("trivet.toml")
"""The file that is read if it exists and no other is named."""

OVERLAY = "overlay"
"""The key that says where the overlay is."""

LARGEST = 16 * 1024 * 1024
"""Characters of a settings file, at most."""

FILE_VARIABLE = "TRIVET_CONFIG"
"""The variable that names the settings file where no command line does, as under another ASGI
server."""
URL_VARIABLE = "TRIVET_URL"
TOKEN_VARIABLE = "TRIVET_TOKEN"  # noqa: S105 - a name
TOKEN_FILE_VARIABLE = "TRIVET_TOKEN_FILE"  # noqa: S105 - a name
NO_SETTINGS = (FILE_VARIABLE, URL_VARIABLE, TOKEN_VARIABLE, TOKEN_FILE_VARIABLE)
"""The variables that are no settings; the last three are those of commands that ask a program."""


def load_settings(
    config: Path | str | None = None,
    environ: Mapping[str, str] | None = None,
    **overrides: object,
) -> Settings:
    """Read the settings from a file, its overlay, the environment and overrides.

    >>> load_settings(environ={"TRIVET_SHUTDOWN__DRAIN": "30"}).shutdown.drain
    30.0

    Args:
        config: the file; by default the one that `TRIVET_CONFIG` names, or else `./trivet.toml` if
            it exists.
        environ: the environment; that of this process by default.
        overrides: values over the file and the environment, by the settings' names; None counts as
            not given. `left_out` is one, too.

    Raises:
        ConfigurationError: every fault of the file and the variables, a line each.
    """
    faults = Faults()
    file = None if config is None else Path(config)
    reading = read_settings(file, environ, overrides, faults)
    faults.check()
    return reading.settings


@attrs.frozen
class Reading:
    """The settings as far as they have no fault."""

    settings: Settings
    """The settings. A key that has a fault has its default."""
    refused: frozenset[str]
    """The keys that have a fault; all of them if a file cannot be read."""


Change = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""A change of the overlay's content."""


class Read(Protocol):
    """Reads the settings, and collects their faults; `read_settings` with its first arguments."""

    def __call__(
        self, faults: Faults, change: Change | None = None, hints: Mapping[str, str] = NO_HINTS, /
    ) -> Reading: ...


def read_settings(
    config: Path | None,
    environ: Mapping[str, str] | None,
    overrides: Mapping[str, object],
    faults: Faults,
    change: Change | None = None,
    hints: Mapping[str, str] = NO_HINTS,
) -> Reading:
    """Read the settings as `load_settings` does, and go on after a fault.

    Args:
        config: see `load_settings`.
        environ: see `load_settings`.
        overrides: see `load_settings`.
        faults: collects the faults.
        change: makes another content of the overlay's, which is read instead; the file stays as it
            is.
        hints: hints for unknown keys at the top, such as those that are a plugin's.
    """
    environ = os.environ if environ is None else environ
    file = _named_file(config, environ)
    written, raw = Written(), dict[str, Any]()
    refused = set(KEYS)
    with faults.collect():
        table = {} if file is None else parsed(file)
        overlay = _overlay_of(table, file, environ, overrides)
        overlaid = _read_overlay(overlay, change)
        raw = merged(table, overlaid)
        written = Written(table, overlay, overlaid, raw)
        refused.clear()
    if file is not None:
        _find_paths(file, raw)
    ours, unknown = _variables(environ)
    for variable in ours:
        with faults.collect():
            _set_by_variable(raw, EnvText(environ[variable], variable))
    given = {name: value for name, value in overrides.items() if value is not None}
    left_out = cast("tuple[str, ...]", given.pop("left_out", ()))
    for name, value in given.items():
        raw[name] = EnvText(value, name) if isinstance(value, str) else value
    for key in GONE:
        with faults.collect():
            _refuse_gone(key, raw, written.place(key, file))
    values: dict[str, Any] | None = None
    while values is None:
        keys = len(raw)
        with faults.collect():
            try:
                values = structure_fields(
                    Settings,
                    FIELDS,
                    raw,
                    file=file,
                    written=written,
                    program_keys=PROGRAM_KEYS,
                    hints=hints,
                )
            except ConfigurationError as error:
                wrong = faulty_keys(error)
                refused.update(wrong)
                raw = {key: value for key, value in raw.items() if key not in wrong}
                raise
        if values is None and len(raw) == keys:
            faults.check()  # The fault is in no key.
    assert values is not None
    if "plugins" in raw:
        values["plugins"] = raw["plugins"]  # As written; text of the environment is marked.
    sources = {key: value.source for key, value in raw.items() if isinstance(value, EnvText)}
    sources |= {key: key for key in given}
    settings = Settings(
        **values,
        file=file,
        unknown_variables=tuple(unknown),
        sources=sources,
        written=written,
        left_out=left_out,
    )
    return Reading(settings, frozenset(refused))


GONE = {
    "admin_token": 'write a token, `[[tokens]]` with `name = "operator"`, `scopes = ["admin"]`, '
    "and this as its `secret`"
}
"""Keys of earlier versions, with what is written instead."""


def _refuse_gone(key: str, raw: dict[str, Any], place: str) -> None:
    if key in raw:
        place = getattr(raw.pop(key), "source", place)
        raise ConfigurationError(f"{place}: there is no such setting any more: {GONE[key]}")


def _named_file(config: Path | None, environ: Mapping[str, str]) -> Path | None:
    if config is not None:
        return config
    if FILE_VARIABLE in environ:
        return Path(environ[FILE_VARIABLE])
    return DEFAULT_FILE if DEFAULT_FILE.exists() else None


def parsed(file: Path) -> dict[str, Any]:
    """The file's content, as it was written.

    Raises:
        ConfigurationError: it cannot be read, or is no TOML.
    """
    try:
        with file.open(encoding="utf-8-sig") as opened:  # Some editors write a byte order mark.
            text = opened.read(LARGEST + 1)  # A device may have no end.
        if len(text) > LARGEST:
            raise ConfigurationError(f"{file}: no settings: more than {LARGEST} characters")
        return tomllib.loads(text)
    except RecursionError as error:
        raise ConfigurationError(f"{file}: nested too deeply") from error
    except ValueError as error:  # No TOML, no UTF-8, or a number of too many digits.
        raise ConfigurationError(f"{file}: {error}") from error
    except OSError as error:
        raise ConfigurationError(f"{file}: cannot be read: {error.strerror}") from error


def _overlay_of(
    table: Mapping[str, Any],
    file: Path | None,
    environ: Mapping[str, str],
    overrides: Mapping[str, object],
) -> Path:
    """The overlay's file, which need not be there."""
    given = overrides.get(OVERLAY)
    given = environ.get(f"{ENVIRONMENT}{OVERLAY.upper()}") if given is None else given
    if isinstance(given, (str, Path)):
        return Path(given)
    if file is None:
        return Settings().overlay
    named = table.get(OVERLAY)
    return file.parent / (named if isinstance(named, str) else _overlay_beside(file))


def _overlay_beside(file: Path) -> str:
    return f"{file.stem}.overlay{file.suffix}"


def _read_overlay(file: Path, change: Change | None) -> Mapping[str, Any]:
    """The content of the overlay; empty where there is no such file."""
    table: Mapping[str, Any] = parsed(file) if file.exists() else {}
    if change is not None:
        table = change(table)
    if OVERLAY in table:
        said = f"it says where this file is, and stands in the settings' file, or in {ENVIRONMENT}"
        raise ConfigurationError(f"{file}: {OVERLAY}: {said}{OVERLAY.upper()}")
    return table


def is_overlay_changed(settings: Settings) -> bool:
    """Whether the overlay has another content than when the settings were read."""
    file, faults = settings.written.overlay, Faults()
    if file is None:
        return False
    found: Mapping[str, Any] = {}
    with faults.collect():
        found = _read_overlay(file, None)
    return bool(faults) or found != settings.written.overlaid


def _find_paths(file: Path, raw: dict[str, Any]) -> None:
    """Make the paths that are relative to the settings' file complete, also those by default."""
    store = raw.setdefault("store", {})
    raw.setdefault("plugins_directory", str(Settings().plugins_directory))
    raw.setdefault(OVERLAY, _overlay_beside(file))
    _relative_to_file(file, raw, "plugins_directory", OVERLAY)
    if is_table(store):
        store.setdefault("path", str(StoreSettings().path))
        _relative_to_file(file, store, "path")
    if is_table(tls := raw.get("tls")):
        _relative_to_file(file, tls, "certificate", "key", "client_ca")


def _relative_to_file(file: Path, table: dict[str, Any], *keys: str) -> None:
    """Make paths in the file relative to the file."""
    for key in keys:
        path = table.get(key)
        if isinstance(path, str) and Path(path) != IN_MEMORY:
            table[key] = file.parent / path


def _variables(environ: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """The variables that set something, and the variables with the prefix that do not."""
    ours: list[str] = []
    unknown: list[str] = []
    for variable in sorted(environ):
        if variable.startswith(ENVIRONMENT) and variable not in NO_SETTINGS:
            name = variable.split("__")[0]
            known = name in VARIABLES or name.removeprefix(ENVIRONMENT).lower() in GONE
            (ours if known else unknown).append(variable)
    return ours, unknown


def _set_by_variable(table: dict[str, Any], text: EnvText) -> None:
    *outer, last = text.source.removeprefix(ENVIRONMENT).split("__")
    if outer == ["TOKENS"]:
        raise ConfigurationError(
            f"{text.source}: a token is a table: write {text.source}__SECRET, and also "
            f"{text.source}__SCOPES where the settings' file has no such token"
        )
    if outer[:1] == ["TOKENS"] and len(outer) > 1:
        table, outer = _token_in(table, outer[1], text), outer[2:]
    for part in outer:
        inner: object = table.setdefault(_key_in(table, part, text), {})
        if not is_table(inner):
            raise ConfigurationError(f"{text.source}: {part.lower()} is set, and not a table")
        table = inner
    table[_key_in(table, last, text)] = text


def _token_in(raw: dict[str, Any], name: str, text: EnvText) -> dict[str, Any]:
    """The table of the token with this name, which a variable may also be the first to name."""
    tokens: object = raw.setdefault("tokens", [])
    if not isinstance(tokens, list):
        raise ConfigurationError(f"{text.source}: tokens is set, and not an array of tables")
    array = cast("list[object]", tokens)
    for table in filter(is_table, array):
        if as_variable(str(table.get("name"))) == name.upper():
            return table
    new: dict[str, Any] = {"name": EnvText(name.lower(), text.source)}
    array.append(new)
    return new


def _key_in(table: Mapping[str, object], part: str, text: EnvText) -> str:
    """The table's key for a part of a variable's name, or that part in lower case."""
    keys = (key for key in table if as_variable(key) == part.upper())
    return next(keys, EnvText(part.lower(), text.source))
