"""What the operator decides: `trivet.toml`, `TRIVET_*` over it, the command line over both.

Owns the settings with their defaults, and where each of them is read from.
Never knows plugins: what is in `[plugins.NAME]` is read when the plugin's class is known.
"""

from __future__ import annotations

import os
import re
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import attrs
from attrs.validators import ge, gt, min_len, optional

from .._faults._errors import ConfigurationError
from ._structuring import EnvText, is_table, structure_fields

DEFAULT_FILE = Path("trivet.toml")
"""Read where it exists and no other file is named."""

ENVIRONMENT = "TRIVET_"
"""What the variables begin with: `TRIVET_SHUTDOWN__DRAIN` is `drain` in `[shutdown]`."""

FILE_VARIABLE = "TRIVET_CONFIG"
"""Names the settings file where no command line does, as behind somebody else's ASGI server."""


@attrs.frozen(kw_only=True)
class ShutdownSettings:
    """How long each part of a stop may take, in seconds (`[shutdown]`)."""

    requests: float = attrs.field(default=5.0, validator=ge(0))
    """For the requests that are under way."""
    drain: float = attrs.field(default=12.0, validator=ge(0))
    """For the plugins of one tier to finish what is in their inboxes."""
    close: float = attrs.field(default=6.0, validator=ge(0))
    """For `close` and for the resources that a plugin entered."""

    @property
    def budget(self) -> float:
        """Seconds for the whole of it, before what is left is ended by force."""
        return self.requests + self.drain + self.close


@attrs.frozen(kw_only=True)
class StartupSettings:
    """How long the start may take, in seconds (`[startup]`)."""

    warn_after: float = attrs.field(default=10.0, validator=gt(0))
    """Then a warning says what is still starting."""
    limit: float = attrs.field(default=50.0, validator=gt(0))
    """Then the start has failed."""


@attrs.frozen(kw_only=True)
class RestartSettings:
    """How a program that died is started again by its parent process (`[restarts]`)."""

    max_restarts: int = attrs.field(default=5, validator=ge(0))
    """Restarts within `restart_window`; one death more ends the program with its code."""
    restart_window: float = attrs.field(default=30.0, validator=gt(0))
    """Seconds."""
    backoff_initial: float = attrs.field(default=0.5, validator=ge(0))
    """Seconds before the first restart, at most; each further one doubles it."""
    backoff_max: float = attrs.field(default=30.0, validator=ge(0))
    """Seconds that a wait is never above."""


def _not_below_warn(settings: StallSettings, _: object, error: float) -> None:
    if error < settings.warn:
        raise ValueError(f"expected at least `warn`, which is {settings.warn:g}")


@attrs.frozen(kw_only=True)
class StallSettings:
    """From when on a plugin that holds the event loop is reported (`[stalls]`)."""

    enabled: bool = True
    """Whether the loop is measured and watched at all; it costs some microseconds for each step of
    a task."""
    warn: float = attrs.field(default=0.05, validator=gt(0))
    """Seconds after which there is a warning."""
    error: float = attrs.field(default=1.0, validator=[gt(0), _not_below_warn])
    """Seconds after which there is an error, too."""


IN_MEMORY = Path(":memory:")
"""A `path` of the store that is no file: what is durable outlives its plugin, not the process."""


@attrs.frozen(kw_only=True)
class StoreSettings:
    """Where durable inboxes and dead letters are kept, and how much (`[store]`)."""

    path: Path = Path("trivet.sqlite3")
    """The file; relative to the settings' file, where there is one. It is made when a plugin is
    durable, and belongs to one program at a time."""
    synchronous: Literal["full", "normal"] = "full"
    """Whether an event is on the disk before it counts as accepted, so that it survives a power
    cut; with `"normal"` it survives the end of the process. The words are SQLite's."""
    max_bytes: int = attrs.field(default=1024**3, validator=gt(0))
    """Bytes of events that may wait in all durable inboxes together; 1 GiB by default."""
    dead_letters_max_age: float = attrs.field(default=30 * 86400.0, validator=gt(0))
    """Seconds for which a dead letter is kept; 30 days by default."""
    dead_letters_max_count: int = attrs.field(default=100_000, validator=gt(0))
    """Dead letters that are kept; beyond it the oldest are thrown away."""
    dead_letters_max_bytes: int = attrs.field(default=256 * 1024**2, validator=gt(0))
    """Bytes of dead letters that are kept; beyond it the oldest are thrown away."""


@attrs.frozen(kw_only=True)
class LogSettings:
    """What is logged, and how (`[log]`)."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least that is logged."""
    format: Literal["console", "json"] = "console"
    """For people, or one JSON document a line."""


def _host_and_port(_: object, __: object, bind: str) -> None:
    match = re.fullmatch(r"(?:\[[0-9A-Fa-f:.]+\]|[^\s\0:\[\]]+):(\d{1,5})", bind)
    if match is None or int(match[1]) > 65535:
        raise ValueError("expected HOST:PORT, such as 127.0.0.1:8080 or [::1]:0")


@attrs.frozen(kw_only=True)
class Settings:
    """Everything that is set, outside of the plugins' own tables."""

    service: str = attrs.field(default="trivet", validator=min_len(1))
    """The service's name, in the tags of its monitoring points and as the source of its events."""
    active_plugins: list[str] = attrs.field(factory=list[str])
    """The plugins to run, by file name without `.py`, or by entry point."""
    plugins_directory: Path = Path("plugins")
    """Where the plugins' files are; relative to the settings' file, where there is one."""
    bind: str = attrs.field(default="127.0.0.1:8080", validator=_host_and_port)
    """`HOST:PORT` to listen at; port 0 is any that is free."""
    event_types: list[str] = attrs.field(factory=list[str])
    """Modules that define event types: of the plugins' directory, or importable."""
    max_body: int = attrs.field(default=16 * 1024 * 1024, validator=gt(0))
    """Bytes that a request's body may have, or one line of a stream of events."""
    max_connections: int = attrs.field(default=1000, validator=gt(0))
    """Connections of clients that may be open; one more is answered with 503."""
    admin_token: str | None = attrs.field(default=None, repr=False, validator=optional(min_len(16)))
    """What an operator sends as `Authorization: Bearer …` to restart plugins, at least 16
    characters; without it nobody can."""
    plugins: dict[str, dict[str, Any]] = attrs.field(factory=dict[str, dict[str, Any]])
    """The tables `[plugins.NAME]` as they were written, the environment's part included."""
    shutdown: ShutdownSettings = attrs.field(factory=ShutdownSettings)
    """`[shutdown]`."""
    startup: StartupSettings = attrs.field(factory=StartupSettings)
    """`[startup]`."""
    restarts: RestartSettings = attrs.field(factory=RestartSettings)
    """`[restarts]`."""
    hang_limit: float = attrs.field(default=60.0, validator=ge(0))
    """Seconds that the event loop, or an import at the start, may be held before the process is
    ended; 0 for never."""
    stalls: StallSettings = attrs.field(factory=StallSettings)
    """`[stalls]`."""
    store: StoreSettings = attrs.field(factory=StoreSettings)
    """`[store]`."""
    log: LogSettings = attrs.field(factory=LogSettings)
    """`[log]`."""
    file: Path | None = None
    """The file that was read, if one was."""
    unknown_variables: tuple[str, ...] = ()
    """Variables that begin as ours do and set nothing. They are warned of, not refused: Kubernetes
    sets `TRIVET_PORT` and more where a Service is named trivet."""

    def find_modules(self) -> None:
        """Make importable what lies beside the file, or in the working directory without one."""
        beside = self.file.parent if self.file else Path()
        sys.path.append(str(beside.absolute()))

    def table(self, plugin: str) -> dict[str, Any]:
        """What `[plugins.NAME]` says, or the environment in its spelling of that name."""
        for name, table in self.plugins.items():
            if name == plugin or (isinstance(name, EnvText) and _variable(plugin) == name.upper()):
                return table
        return {}


_ORIGIN = ("file", "unknown_variables")
_FIELDS = [field for field in attrs.fields(Settings) if field.name not in _ORIGIN]
VARIABLES = [f"{ENVIRONMENT}{field.name.upper()}" for field in _FIELDS]
"""Every variable, without what may follow after `__`."""


def load_settings(
    config: Path | None = None, environ: Mapping[str, str] | None = None, **overrides: object
) -> Settings:
    """Read the settings.

    Args:
        config: the file; otherwise the one that `TRIVET_CONFIG` names; otherwise `./trivet.toml`
            where it exists.
        environ: the environment; that of this process by default.
        overrides: what goes over both, by the settings' names. None is as not given.

    Raises:
        ConfigurationError: every fault of the file and the variables, a line each.
    """
    environ = os.environ if environ is None else environ
    file = _named_file(config, environ)
    raw: dict[str, Any] = {} if file is None else _read(file)
    ours, unknown = _variables(environ)
    for variable in ours:
        _put(raw, EnvText(environ[variable], variable))
    for name, value in overrides.items():
        if value is not None:
            raw[name] = EnvText(value, name) if isinstance(value, str) else value
    values = structure_fields(Settings, _FIELDS, raw, file=file)
    if "plugins" in raw:
        values["plugins"] = raw["plugins"]  # As written; what is text to be converted is marked.
    return Settings(**values, file=file, unknown_variables=tuple(unknown))


def _named_file(config: Path | None, environ: Mapping[str, str]) -> Path | None:
    if config is not None:
        return config
    if FILE_VARIABLE in environ:
        return Path(environ[FILE_VARIABLE])
    return DEFAULT_FILE if DEFAULT_FILE.exists() else None


def _read(file: Path) -> dict[str, Any]:
    try:
        raw = tomllib.loads(file.read_text("utf-8-sig"))  # Some editors begin with a mark.
    except RecursionError as error:
        raise ConfigurationError(f"{file}: nested too deeply") from error
    except ValueError as error:  # No TOML, no UTF-8, or a number of too many digits.
        raise ConfigurationError(f"{file}: {error}") from error
    except OSError as error:
        raise ConfigurationError(f"{file}: cannot be read: {error.strerror}") from error
    store = raw.setdefault("store", {})
    _beside(file, raw, "plugins_directory", Settings().plugins_directory)
    if is_table(store):
        _beside(file, store, "path", StoreSettings().path)
    return raw


def _beside(file: Path, table: dict[str, Any], key: str, default: Path) -> None:
    """Understand a path in the file, or its default, as relative to the file."""
    path = table.setdefault(key, str(default))
    if isinstance(path, str) and Path(path) != IN_MEMORY:
        table[key] = file.parent / path


def _variables(environ: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """The variables that set something, and those that only begin as if they did."""
    ours: list[str] = []
    unknown: list[str] = []
    for variable in sorted(environ):
        if variable.startswith(ENVIRONMENT) and variable != FILE_VARIABLE:
            known = variable.split("__")[0] in VARIABLES
            (ours if known else unknown).append(variable)
    return ours, unknown


def _put(table: dict[str, Any], text: EnvText) -> None:
    *outer, last = text.source.removeprefix(ENVIRONMENT).split("__")
    for part in outer:
        inner: object = table.setdefault(_spelt_in(table, part, text), {})
        if not is_table(inner):
            raise ConfigurationError(f"{text.source}: {part.lower()} is set, and not a table")
        table = inner
    table[_spelt_in(table, last, text)] = text


def _spelt_in(table: Mapping[str, object], part: str, text: EnvText) -> str:
    """The table's key for this part of a variable's name, or a new one in lower case."""
    keys = (key for key in table if _variable(key) == part.upper())
    return next(keys, EnvText(part.lower(), text.source))


def _variable(key: str) -> str:
    return re.sub(r"\W", "_", key).upper()
