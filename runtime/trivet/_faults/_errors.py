"""Every error that Trivet raises, each with its facts, each saying whose fault it is.

Owns the exception classes and the exit code that belongs to each of them.
Never knows how an error is shown: the command line and the HTTP application decide that.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import ClassVar

import attrs


class TrivetError(Exception):
    """The base of Trivet's own errors."""

    exit_code: ClassVar[int] = 1
    """The exit code of `trivet serve` when this error ends it."""


class ConfigurationError(TrivetError):
    """The operator's or the author's fault, found before anything has started.

    The text is one complete message: the fault, the place (a file and line, or a key), and the
    nearest right spelling if there is one.
    """

    exit_code = 2


class DefinitionError(ConfigurationError, TypeError):
    """A plugin or event class is written wrongly; raised when the class is created.

    Args:
        message: the fault.
        place: the file and line of the method at fault; None for the class as a whole.
    """

    def __init__(self, message: str, place: str | None = None) -> None:
        super().__init__(message)
        self.place = place


class PluginError(TrivetError):
    """The base of errors about one plugin.

    >>> CriticalPluginError("plugin 'billing' gave up: OSError", plugin="billing").plugin
    'billing'

    Args:
        message: the fault.
        plugin: the plugin's name; None where several or none are concerned.
    """

    def __init__(self, message: str, *, plugin: str | None = None) -> None:
        super().__init__(message)
        self.plugin = plugin


class StartError(PluginError):
    """A plugin could not be started, and its `on_start_failure` is `"fail"`.

    Also the address that `trivet serve` is to listen on could not be bound: then `plugin` is None.
    """

    exit_code = 3


class CriticalPluginError(PluginError):
    """A plugin that is `critical` gave up, so the program ends."""

    exit_code = 4


class ProgramEndedError(TrivetError):
    """The program to which a call from outside went has ended."""


class DisabledPluginError(PluginError):
    """A plugin starts disabled, because deaths of the program are put down to it."""


class ListenerLostError(TrivetError):
    """Somebody closed the listening socket, or shut it down, so that nobody can be served.

    A parent process starts the program again, which listens again.
    """


class OrderRefusedError(PluginError):
    """An operator asked for something that is impossible now: the error says what to do instead."""


class ReloadRefusedError(PluginError):
    """An operator asked for a reload that is impossible now; nothing has changed."""


class StaleSettingsError(ReloadRefusedError):
    """An operator asked for a change of settings that are not those any more that were seen."""


class PluginNotActiveError(PluginError, LookupError):
    """`app.get` was asked for a plugin that is not active in this program."""


class UnknownEventError(TrivetError, TypeError):
    """The published object is not an instance of an event type that the program knows."""


class DeadlockError(TrivetError, RuntimeError):
    """A handler wanted to wait for an event that only it could handle.

    >>> str(DeadlockError("billing", "order_paid", ["billing"]))
    "plugin 'billing' would wait for itself: its handler publishes order_paid with wait=True..."

    Args:
        plugin: the plugin of the handler.
        event: the name of the event's type.
        circle: the plugin that `plugin` would wait for, the one that this one waits for, and so on.
    """

    def __init__(self, plugin: str, event: str, circle: Sequence[str]) -> None:
        self.plugin = plugin
        self.event = event
        whom = "itself"
        if list(circle) != [plugin]:
            whom = ", which waits for ".join(map(repr, circle))
        super().__init__(
            f"plugin {plugin!r} would wait for {whom}: its handler publishes {event} with "
            "wait=True, and no worker is left to handle it. Publish it with wait=False, or raise "
            f"[plugins.{plugin}.delivery] concurrency"
        )


class HandlerTimeoutError(TrivetError, TimeoutError):
    """`handle_event` took longer than the `time_limit` of the plugin's delivery."""


class PermanentError(Exception):
    """An error that a plugin raises if another attempt cannot help: refused credentials, say.

    Raised by `initialize` or `run`, also within a group, the error makes Trivet give the plugin up
    at once; raised by a handler, it makes Trivet give the event up. Derive from it, or raise it
    `from` its cause.
    """


class WrongSettingError(PermanentError):
    """An error that `initialize` raises if only the use of a setting shows that it is wrong.

    The operator's message has the setting's key, and the file.

    >>> str(WrongSettingError("url", "there is no such database"))
    'url: there is no such database'

    Args:
        setting: the setting's name; None if it is unknown.
        reason: the fault.
    """

    def __init__(self, setting: str | None, reason: str) -> None:
        super().__init__(reason if setting is None else f"{setting}: {reason}")
        self.setting = setting
        self.reason = reason

    def at(self, plugin: str, file: Path | None) -> str:
        """The message with the setting's key and file.

        >>> WrongSettingError("url", "no").at("orders", Path("trivet.toml"))
        'trivet.toml: plugins.orders.url: no'
        """
        key = f"plugins.{plugin}" if self.setting is None else f"plugins.{plugin}.{self.setting}"
        return f"{key}: {self.reason}" if file is None else f"{file}: {key}: {self.reason}"


class RetryAfter(Exception):  # noqa: N818 - the name of HTTP's header
    """An error that a handler raises if it knows when to try again, as from HTTP's `Retry-After`.

    The next attempt waits at least `seconds` seconds. In an inbox without retries the event has
    failed.

    >>> str(RetryAfter(30))
    'try again after 30 s'

    Args:
        seconds: the least wait, in seconds from now.
        reason: the failure in words.
    """

    def __init__(self, seconds: float, reason: str = "") -> None:
        if not seconds >= 0:
            raise ValueError("seconds must not be negative")
        when = f"try again after {seconds:g} s"
        super().__init__(f"{reason}; {when}" if reason else when)
        self.seconds = seconds


@attrs.define(eq=False)
class EventDecodeError(TrivetError, ValueError):
    """The JSON does not fit the event type.

    >>> str(EventDecodeError("sending_event", "$.handler_id", "Expected `str`, got `int`"))
    'sending_event: Expected `str`, got `int` at $.handler_id'
    """

    event: str
    """The event type's name."""
    path: str
    """The place in the document, whose root is `$`: `$.points[0].time`."""
    reason: str
    """The fault."""

    def __str__(self) -> str:
        return f"{self.event}: {self.reason} at {self.path}"


class EventTooLargeError(EventDecodeError):
    """The event would take more memory than any listener to its type has for it.

    >>> str(EventTooLargeError.of("sending_event", size=80_000_000, limit=67_108_864))
    'sending_event: it takes about 80000000 bytes in memory, and 67108864 are the limit at $'
    """

    @classmethod
    def of(cls, event: str, *, size: int, limit: int) -> EventTooLargeError:
        """Make the error from the name of an event's type and its estimated size."""
        reason = f"it takes about {size} bytes in memory, and {limit} are the limit"
        return cls(event, "$", reason)


@attrs.define(eq=False)
class EventEncodeError(TrivetError, ValueError):
    """JSON cannot express the event, or would decode to another one.

    >>> str(EventEncodeError("measured", "$.value", "JSON has no such number: nan"))
    'measured: JSON has no such number: nan at $.value'
    """

    event: str
    """The event type's name."""
    path: str
    """The place in the payload, whose root is `$`."""
    reason: str
    """The fault."""

    def __str__(self) -> str:
        return f"{self.event}: {self.reason} at {self.path}"


def refuse_shared_default(owner: str, name: str, default: object) -> None:
    """Raise for a mutable default value, which all instances would share."""
    kind = type(default).__name__
    if kind in ("list", "dict", "set"):
        raise DefinitionError(
            f"{owner}.{name}: all instances would share this {kind}; "
            f"write `attrs.field(factory={kind})`"
        )


NAMED_AT_MOST = 200
"""Characters of a misspelt word that are compared: a client may send any number."""


def nearest(word: str, known: Iterable[str]) -> str:
    """A clause that helps with a misspelt `word`: the nearest known spelling, or all of them.

    >>> nearest("teapto", ["teapot", "batching"])
    "did you mean 'teapot'?"
    >>> nearest("coffee", ["teapot", "batching"])
    'known: batching, teapot'
    >>> nearest("coffee", [])
    'there is none'
    """
    names = sorted(known)
    close = get_close_matches(word[:NAMED_AT_MOST], names, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"known: {', '.join(names)}" if names else "there is none"
