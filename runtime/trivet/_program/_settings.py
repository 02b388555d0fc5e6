"""The operator's settings, with their defaults and their bounds.

Owns the program's own keys, table by table.
Never knows where they are read from, nor plugins: a table `[plugins.NAME]` is checked when the
plugin's class is known.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import attrs
from attrs.validators import deep_mapping, ge, gt, le, min_len, optional

from .._access._hosts import is_local
from .._access._tokens import TokenSettings
from .._faults._errors import ConfigurationError
from .._faults._secret import Secret
from .._plugins._supervision_settings import SupervisionSettings
from ._addresses import are_addresses, are_hosts, are_networks, is_of_systemd, is_prefix, split
from ._overlay import Written
from ._values import EnvText, is_table

ENVIRONMENT = "TRIVET_"
"""The prefix of the variables: `TRIVET_SHUTDOWN__DRAIN` is `drain` in `[shutdown]`."""

LONGEST = 1e9
"""Seconds that a limit may have, about 32 years: timers of the kernel and of Python take no
infinity, nor much more than this."""


@attrs.frozen(kw_only=True)
class ShutdownSettings:
    """Limits for each part of a stop, in seconds (`[shutdown]`).

    >>> ShutdownSettings(drain=60.0).budget
    71.0
    """

    requests: float = attrs.field(default=5.0, validator=[ge(0), le(LONGEST)])
    """Seconds for the requests that are being answered."""
    drain: float = attrs.field(default=12.0, validator=[ge(0), le(LONGEST)])
    """Seconds for a plugin that is asked to stop to finish the events in its inbox."""
    close: float = attrs.field(default=6.0, validator=[ge(0), le(LONGEST)])
    """Seconds for `close` and for the resources that a plugin entered."""

    @property
    def budget(self) -> float:
        """Seconds for the whole stop; after them the process is ended by force."""
        return self.requests + self.drain + self.close


@attrs.frozen(kw_only=True)
class StartupSettings:
    """Limits for the start, in seconds (`[startup]`)."""

    warn_after: float = attrs.field(default=10.0, validator=[gt(0), le(LONGEST)])
    """Seconds after which a warning names the plugins that are still starting."""
    limit: float = attrs.field(default=50.0, validator=[gt(0), le(LONGEST)])
    """Seconds after which the start has failed."""


_OF_PLUGINS = SupervisionSettings()
"""The defaults of a plugin's restarts, which are those of a program's too."""


@attrs.frozen(kw_only=True)
class RestartSettings:
    """Restarts of a dead program by its parent process (`[restarts]`)."""

    max_restarts: int = attrs.field(default=_OF_PLUGINS.max_restarts, validator=ge(0))
    """Restarts within `restart_window`; one death more ends the program with its exit code. Five in
    thirty seconds, after the restart intensity of OTP's supervisors."""
    restart_window: float = attrs.field(
        default=_OF_PLUGINS.restart_window, validator=[gt(0), le(LONGEST)]
    )
    """Seconds for which a restart counts."""
    backoff_initial: float = attrs.field(
        default=_OF_PLUGINS.backoff_initial, validator=[ge(0), le(LONGEST)]
    )
    """Seconds before the first restart, at most (full jitter); each further restart doubles
    them."""
    backoff_max: float = attrs.field(
        default=_OF_PLUGINS.backoff_max, validator=[ge(0), le(LONGEST)]
    )
    """Seconds that no wait exceeds."""
    disable_after: int = attrs.field(default=3, validator=ge(0))
    """Deaths of the program that are put down to one plugin, after which it starts disabled; 0 for
    never."""


def _not_below_warn(settings: StallSettings, _: object, error: float) -> None:
    if error < settings.warn:
        raise ValueError(f"expected at least `warn`, which is {settings.warn:g}")


@attrs.frozen(kw_only=True)
class StallSettings:
    """Limits beyond which a plugin that holds the event loop is reported (`[stalls]`)."""

    enabled: bool = True
    """Whether the loop is measured and watched; the cost is some microseconds for each step of a
    task."""
    warn: float = attrs.field(default=0.05, validator=[gt(0), le(LONGEST)])
    """Seconds after which a warning is logged."""
    error: float = attrs.field(default=1.0, validator=[gt(0), le(LONGEST), _not_below_warn])
    """Seconds after which an error is logged, too."""


@attrs.frozen(kw_only=True)
class TraceSettings:
    """Traces by OpenTelemetry (`[traces]`)."""

    enabled: bool = False
    """Whether spans are made; this needs the extra `otel`, and OpenTelemetry's own settings say
    where they go."""
    sample: float = attrs.field(default=1.0, validator=[ge(0), le(1)])
    """The share of the traces that begin here and are made, from 0 to 1. About a trace that began
    elsewhere its `traceparent` decides."""


IN_MEMORY = Path(":memory:")
"""The `path` of a store without a file: durable events outlive a plugin, but not the process."""


@attrs.frozen(kw_only=True)
class StoreSettings:
    """The file of durable inboxes and dead letters, and its limits (`[store]`)."""

    path: Path = Path("trivet.sqlite3")
    """The file, relative to the settings' file where there is one. It is created when a plugin is
    durable, and belongs to one program at a time."""
    synchronous: Literal["full", "normal"] = "full"
    """Whether an event is on the disk before it counts as accepted, and survives a power cut;
    `"normal"` survives only the end of the process. The words are SQLite's."""
    max_bytes: int = attrs.field(default=1024**3, validator=gt(0))
    """Bytes of events that may wait in all durable inboxes together."""
    dead_letters_max_age: float = attrs.field(default=30 * 86400.0, validator=gt(0))
    """Seconds for which a dead letter is kept."""
    dead_letters_max_count: int = attrs.field(default=100_000, validator=gt(0))
    """Dead letters that are kept; beyond this number the oldest are deleted."""
    dead_letters_max_bytes: int = attrs.field(default=256 * 1024**2, validator=gt(0))
    """Bytes of dead letters that are kept; beyond this number the oldest are deleted."""


@attrs.frozen(kw_only=True)
class LogSettings:
    """The level and the form of the log (`[log]`)."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The lowest level that is logged. With `"debug"` each request is a line."""
    format: Literal["console", "json"] = "console"
    """Text for people, or one JSON document a line."""


def _goes_with_certificate(settings: TlsSettings, _: object, value: Any) -> None:
    if value is not None and settings.certificate is None:
        raise ValueError("it has no effect without `certificate`")


@attrs.frozen(kw_only=True)
class TlsSettings:
    """TLS for the clients of the TCP addresses (`[tls]`); Unix sockets have none."""

    certificate: Path | None = None
    """The file with the certificate and, behind it, those of the authorities in between, as PEM.
    With it, TLS is spoken at every TCP address."""
    key: Path | None = attrs.field(default=None, validator=_goes_with_certificate)
    """The file with the certificate's private key, as PEM; by default it is in `certificate`."""
    key_password: Secret | None = attrs.field(default=None, validator=_goes_with_certificate)
    """The password of an encrypted key."""
    minimum_version: Literal["1.2", "1.3"] = "1.2"
    """The lowest version of TLS that a client may speak."""
    client_ca: Path | None = attrs.field(default=None, validator=_goes_with_certificate)
    """The file with the authorities of clients, as PEM. With it, a client has to show a certificate
    that one of them has signed."""


def _are_others(settings: Settings, _: object, bind: str | list[str] | None) -> None:
    if bind is None:
        return
    are_addresses(settings, _, bind)
    for address in split(bind):
        if address in split(settings.bind) and not address.endswith(":0"):
            raise ValueError(f"{address} is in `bind`, too")


def _is_path(_: object, field: attrs.Attribute[Any], path: object) -> None:
    if not isinstance(path, Path):
        raise TypeError(f"{field.name}: expected a Path, as `load_settings({field.name}=…)` makes")


def _are_tokens(_: object, __: object, tokens: Sequence[object]) -> None:
    if not all(isinstance(token, TokenSettings) for token in tokens):
        raise TypeError("tokens: expected TokenSettings, as `load_settings(tokens=[…])` makes")


def _no_two_alike(_: object, __: object, tokens: list[TokenSettings]) -> None:
    for what, values in (
        ("name", [token.name for token in tokens]),
        ("secret", [token.secret for token in tokens]),
    ):
        if len(set(values)) < len(values):
            raise ValueError(f"two tokens have one {what}")


@attrs.frozen(kw_only=True)
class Settings:
    """The settings of a program. Made by `load_settings`, or by an embedder.

    >>> Settings(active_plugins=["teapot"], bind="127.0.0.1:0").service
    'trivet'
    """

    service: str = attrs.field(default="trivet", validator=min_len(1))
    """The service's name, in the tags of its monitoring points and as the source of its events."""
    active_plugins: list[str] = attrs.field(factory=list[str])
    """The plugins to run: names of files without `.py`, or of entry points."""
    plugins_directory: Path = attrs.field(default=Path("plugins"), validator=_is_path)
    """The directory of the plugins' files, relative to the settings' file where there is one."""
    overlay: Path = attrs.field(default=Path("trivet.overlay.toml"), validator=_is_path)
    """The file with the settings that were changed while the program ran: it counts over the
    settings' file, and the program writes it. It is relative to that file, and by default has its
    name, with `.overlay` before the ending."""
    bind: str | list[str] = attrs.field(default="127.0.0.1:8080", validator=are_addresses)
    """The address to listen at, or an array of several: `HOST:PORT`, where port 0 means any free
    one; `unix:/PATH`; or `systemd`, for the sockets that systemd hands over, and `systemd:NAME`
    for those with this `FileDescriptorName`."""
    management_bind: str | list[str] | None = attrs.field(default=None, validator=_are_others)
    """The address for the management of the program, or an array of several, in the forms of
    `bind`. With it, `/-/…`, `/plugins` and `/metrics` are served there, and
    not at `bind`."""
    event_types: list[str] = attrs.field(factory=list[str])
    """Modules that define event types: in the plugins' directory, beside the settings' file, or
    importable from anywhere."""
    open_events: list[str] = attrs.field(factory=list[str])
    """Event types that clients and brokers may publish although they are the program's own, such
    as `monitoring_event`."""
    allowed_hosts: list[str] = attrs.field(factory=list[str], validator=are_hosts)
    """Names and addresses of the service besides `bind` and those of loopback, such as
    `trivet.example.org`, or `*.example.org` for all below. A request without a token that names
    another one in its `Host` is refused."""
    insecure: bool = False
    """Whether clients without a token may publish and read although other machines reach `bind`."""
    event_rates: dict[str, float] = attrs.field(
        factory=dict[str, float], validator=deep_mapping(value_validator=gt(0))
    )
    """Events per second of a type, by its name, that all clients together may publish; those of one
    second may come at once. One more is answered with 429, and a stream of lines is slowed down."""
    buffer_bytes: int = attrs.field(default=256 * 1024 * 1024, validator=ge(2))
    """Bytes of memory for the events from outside in all inboxes together, beside the limit of each
    inbox. No inbox takes more of it than it leaves free for the others."""
    max_body: int = attrs.field(default=16 * 1024 * 1024, validator=gt(0))
    """Bytes of a request's body, or of one line in a stream of events, at most."""
    max_connections: int = attrs.field(default=1000, validator=gt(0))
    """Connections of clients that may be open; one more is answered with 503."""
    max_connections_per_address: int | None = attrs.field(default=None, validator=optional(gt(0)))
    """Connections that may be open from one address, or from the first 64 bits of one of IPv6; one
    more is answered with 503. Without it, as many as there may be. A proxy is one address, and a
    Unix socket none."""
    trusted_proxies: list[str] = attrs.field(factory=list[str], validator=are_networks)
    """Addresses and networks of the proxies that are believed about the client, the scheme and the
    host of a request; `"unix"` for those that come to a Unix socket. `["127.0.0.1", "10.0.0.0/8"]`,
    for example."""
    proxy_headers: Literal["x-forwarded", "forwarded"] = "x-forwarded"
    """The headers by which they say it: `X-Forwarded-For`, `-Proto` and `-Host`, or `Forwarded` as
    RFC 7239 has it. The proxies have to set or remove these headers in every request: the other
    ones are never read."""
    root_path: str = attrs.field(default="", validator=is_prefix)
    """The path below which a proxy serves the program, such as `/trivet`. The proxy may take it
    away or leave it; a request without it is answered, too."""
    tokens: list[TokenSettings] = attrs.field(
        factory=list[TokenSettings], validator=[_are_tokens, _no_two_alike]
    )
    """`[[tokens]]`."""
    plugins: dict[str, dict[str, Any]] = attrs.field(factory=dict[str, dict[str, Any]], repr=False)
    """The tables `[plugins.NAME]` as they were written, with values of the environment. They are
    not shown, since only a plugin's class says which of its settings are secret."""
    shutdown: ShutdownSettings = attrs.field(factory=ShutdownSettings)
    """`[shutdown]`."""
    startup: StartupSettings = attrs.field(factory=StartupSettings)
    """`[startup]`."""
    restarts: RestartSettings = attrs.field(factory=RestartSettings)
    """`[restarts]`."""
    hang_limit: float = attrs.field(default=60.0, validator=[ge(0), le(LONGEST)])
    """Seconds for which the event loop, or an import at the start, may be held before the process
    is ended; 0 for no limit."""
    stalls: StallSettings = attrs.field(factory=StallSettings)
    """`[stalls]`."""
    traces: TraceSettings = attrs.field(factory=TraceSettings)
    """`[traces]`."""
    tls: TlsSettings = attrs.field(factory=TlsSettings)
    """`[tls]`."""
    store: StoreSettings = attrs.field(factory=StoreSettings)
    """`[store]`."""
    log: LogSettings = attrs.field(factory=LogSettings)
    """`[log]`."""
    file: Path | None = None
    """The file that was read; None for none."""
    unknown_variables: tuple[str, ...] = ()
    """Variables with the prefix `TRIVET_` that set nothing. A warning names them; they are not
    refused, since Kubernetes sets `TRIVET_PORT` and more where a Service is named trivet."""
    sources: Mapping[str, str] = attrs.field(factory=dict[str, str])
    """The variable, or the argument, that gave a key at the top instead of the file, by the key."""
    written: Written = attrs.field(factory=Written, repr=False, eq=False)
    """The tables from which the settings were made; secrets stand in them."""
    waiting: tuple[str, ...] = ()
    """The keys that have another value by now where they are written, which needs a restart.

    `bind` and `management_bind` need a stop and a start.
    """
    left_out: tuple[str, ...] = ()
    """The active plugins that `--without` leaves out of this run: names of files, or of plugins."""
    disabled_files: Mapping[str, str] = attrs.field(factory=dict[str, str])
    """Active files that are not imported in this run, since their import has ended the program
    again and again, with the reason."""
    disabled_plugins: Mapping[str, str] = attrs.field(factory=dict[str, str])
    """Plugins that start disabled in this run, for such a reason."""

    @property
    def misses_files(self) -> bool:
        """Whether active files are not imported, so that a name may be that of one of theirs."""
        return bool(self.left_out or self.disabled_files)

    @property
    def addresses(self) -> list[str]:
        """The addresses of `bind`, one by one."""
        return split(self.bind)

    @property
    def management_addresses(self) -> list[str]:
        """The addresses of `management_bind`, one by one; none without it."""
        return [] if self.management_bind is None else split(self.management_bind)

    def find_modules(self) -> None:
        """Make the modules beside the file importable; without a file, the working directory's."""
        directory = self.file.parent if self.file else Path()
        sys.path.append(str(absolute(directory)))

    def table(self, plugin: str) -> dict[str, Any]:
        """The table `[plugins.NAME]`, also where the environment spells the name in capitals."""
        for name, table in self.plugins.items():
            if name == plugin or (
                isinstance(name, EnvText) and as_variable(plugin) == name.upper()
            ):
                return table
        return {}


NOT_READ = (
    "file",
    "unknown_variables",
    "sources",
    "written",
    "waiting",
    "left_out",
    "disabled_files",
    "disabled_plugins",
)
"""Fields of `Settings` that are no keys."""
FIELDS = [field for field in attrs.fields(Settings) if field.name not in NOT_READ]
"""The fields that are keys."""
_DEFAULTS: dict[str, object] = {field.name: getattr(Settings(), field.name) for field in FIELDS}
PROGRAM_KEYS = [
    name for name, value in _DEFAULTS.items() if not (attrs.has(type(value)) or is_table(value))
]
"""The keys at the top of the file that are no tables."""
KEYS = [field.name for field in FIELDS]
"""Every key at the top of the file."""
VARIABLES = [f"{ENVIRONMENT}{key.upper()}" for key in KEYS]
"""Every variable, without the part that may follow after `__`."""


TOKENS = 'write [[tokens]] with `name = "…"`, `scopes = ["ingest", "read"]` and `secret = "…"`'
"""The advice to an operator whose doors are open."""


def refuse_open_doors(
    settings: Settings, addresses: Iterable[str], management: Iterable[str]
) -> None:
    """Refuse an address that other machines reach, where no token keeps them out.

    Args:
        settings: the settings.
        addresses: the addresses, `HOST:PORT` or `unix:PATH`; those of systemd are not known before
            their sockets are.
        management: the addresses for management.

    Raises:
        ConfigurationError: one is such an address, and the operator has not written `insecure`.
    """
    reached = [
        (key, each)
        for key, named in (("bind", addresses), ("management_bind", management))
        for each in named
        if not is_of_systemd(each) and not is_local(each)
    ]
    if settings.tokens or settings.insecure or not reached:
        return
    key, address = reached[0]
    place = settings.written.place(key, settings.file)
    raise ConfigurationError(
        f"{place}: other machines reach {address}, and there are no tokens: {TOKENS}; or "
        "bind to 127.0.0.1; or write `insecure = true`, by which anybody may publish and read"
    )


def absolute(path: Path) -> Path:
    """Make a path absolute.

    Raises:
        ConfigurationError: the working directory was deleted.
    """
    try:
        return path.absolute()
    except FileNotFoundError as error:
        raise ConfigurationError(
            f"{path}: relative to the working directory, which does not exist any more"
        ) from error


def as_variable(key: str) -> str:
    """A key as it is spelt in a variable's name."""
    return re.sub(r"\W", "_", key).upper()
