"""The event types of one program, and the decoding of a payload into one of them.

Owns the decoders, and the message about a document that does not fit.
Never knows who listens, nor where a document comes from.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterator
from functools import partial
from typing import Any

import msgspec

from .._faults._containment import one_line, printable
from .._faults._errors import (
    ConfigurationError,
    EventDecodeError,
    EventTooLargeError,
)
from ._collisions import SHORT, Collisions
from ._event import Event, EventT, source_of
from ._sizes import estimated_bytes
from ._turns import LARGE, off_loop

# msgspec tells the path in its text only; for a key of a mapping it says "at `key` in `$.path`".
_PATH = re.compile(r"(?P<reason>.*) - at (?:`key` in )?`(?P<path>[^`]+)`", re.DOTALL)


def path_and_reason(text: str) -> tuple[str, str]:
    """The path and the reason in a message of msgspec about a document that does not fit.

    >>> path_and_reason("Expected `int`, got `str` - at `key` in `$.numbered`")
    ('$.numbered', 'Expected `int`, got `str`')
    >>> path_and_reason("an error that is worded otherwise")
    ('$', 'an error that is worded otherwise')
    """
    found = _PATH.fullmatch(text)
    return (found["path"], found["reason"]) if found else ("$", text)


class EventTypes:
    """The event types of one program, by name.

    Args:
        types: the types.
        opened: names of types that may come from outside although their classes say otherwise.

    >>> from trivet import MonitoringEvent, SendingEvent
    >>> types = EventTypes([MonitoringEvent, SendingEvent])
    >>> sorted(types)
    ['monitoring_event', 'sending_event']
    """

    def __init__(self, types: list[type[Event]], opened: Collection[str] = ()) -> None:
        self._types: dict[str, type[Event]] = {}
        self._collisions = Collisions()
        self._decoders: dict[type[Event], msgspec.json.Decoder[Any]] = {}
        for cls in types:
            other = self._types.setdefault(cls.__event_name__, cls)
            if other is not cls:
                raise ConfigurationError(_fault_of_two(other, cls))
            self._decoders[cls] = _decoder(cls)
        self._open = frozenset(
            cls for name, cls in self._types.items() if cls.__from_outside__ or name in opened
        )
        self._below: defaultdict[type, list[type[Event]]] = defaultdict(list)
        for cls in self._types.values():
            for base in cls.__mro__ if cls.__listen_by_base__ else (cls,):
                self._below[base].append(cls)

    def become(self, other: EventTypes) -> None:
        """Be another program's types from now on; whoever has these gets those."""
        vars(self).update(vars(other))

    def __iter__(self) -> Iterator[str]:
        return iter(self._types)

    def __getitem__(self, name: str) -> type[Event]:
        return self._types[name]

    @property
    def types(self) -> Collection[type[Event]]:
        """All event types of the program."""
        return self._types.values()

    def get(self, name: str) -> type[Event] | None:
        """The event type with this name, or None."""
        return self._types.get(name)

    def knows(self, cls: type) -> bool:
        """Whether this very class is an event type of the program."""
        return cls in self._decoders

    def is_open(self, cls: type[Event]) -> bool:
        """Whether events of this type may come from outside: from clients, and from brokers.

        Others are the program's own: from outside they would be forgeries. A source refuses them.

        >>> from trivet import MonitoringEvent
        >>> EventTypes([MonitoringEvent]).is_open(MonitoringEvent)
        False
        """
        return cls in self._open

    def matching(self, cls: type[Event]) -> list[type[Event]]:
        """The event types that a plugin listens to by naming `cls`: itself, and types below it."""
        return list(self._below.get(cls, ()))

    def decode(self, cls: type[EventT], body: bytes) -> EventT:
        """Decode a JSON document into an event of the registered type `cls`.

        Fields that the class does not have are ignored.

        Args:
            cls: a type of this program.
            body: the document.

        Raises:
            EventDecodeError: the document does not fit; it names the path of the first wrong or
                missing field. Any exception of the author's code, in a validator, a factory or
                `__attrs_post_init__`, counts as a misfit.
        """
        if not body:
            raise EventDecodeError(cls.__event_name__, "$", "the document is empty")
        if len(body) > SHORT and self._collisions.are_in(body, cls):
            raise EventDecodeError(cls.__event_name__, "$", "too many numbers of the same hash")
        try:
            event: EventT = self._decoders[cls].decode(body)
        except KeyboardInterrupt:  # Ctrl-C in a program of one's own.
            raise
        except BaseException as error:  # noqa: ASYNC103 - nothing is awaited: no cancellation is Trio's
            raise EventDecodeError(cls.__event_name__, *_why(error)) from None  # noqa: ASYNC104
        return event

    def decode_small(self, cls: type[EventT], body: bytes, limit: int) -> tuple[EventT, int] | None:
        """Decode a document from outside, and estimate its size, if that takes no thread.

        Args:
            cls: a type of this program.
            body: the document.
            limit: bytes of memory that the event may take, by the estimate; a larger one is not
                decoded.

        Returns:
            The event, and the estimated bytes, for `Delivery.size`; None for a document above
            64 KiB, which `decode_within` decodes in a thread.

        Raises:
            EventTooLargeError: the estimate is above the limit.
            EventDecodeError: the document does not fit; see `decode`.
        """
        return None if len(body) > LARGE else self._decode_sized(cls, body, limit)

    async def decode_within(self, cls: type[EventT], body: bytes, limit: int) -> tuple[EventT, int]:
        """Decode a document of any size from outside, and estimate its size; see `decode_small`.

        A document above 64 KiB is decoded in a thread. This is a checkpoint only then.
        """
        if len(body) <= LARGE:
            return self._decode_sized(cls, body, limit)
        return await off_loop(len(body), partial(self._decode_sized, cls, body, limit))

    def _decode_sized(self, cls: type[EventT], body: bytes, limit: int) -> tuple[EventT, int]:
        size = estimated_bytes(body)
        if size > limit:
            raise EventTooLargeError.of(cls.__event_name__, size=size, limit=limit)
        return self.decode(cls, body), size


def loaded_twice(cls: type[Event], known: type[Event]) -> str | None:
    """The fault of two classes that one file has made; None where they come from two places.

    Args:
        cls: a class that the program does not know.
        known: the program's event type of the same name.
    """
    place = source_of(cls)
    if cls.__module__ == known.__module__ or place != source_of(known):
        return None
    return (
        f"{place}: the file was loaded twice, as {known.__module__!r} and as {cls.__module__!r}, "
        "and made another class each time"
    )


def _fault_of_two(known: type[Event], cls: type[Event]) -> str:
    twice = loaded_twice(cls, known)
    if twice is not None:
        return (
            f"{twice}: leave out `event_types`, and import no file of the plugins' directory. "
            "In a test, pass the plugin's class to open_plugins, or take the event's class from "
            f"`runtime.events[{cls.__event_name__!r}]`"
        )
    return (
        f"two event types are named {cls.__event_name__!r}: {source_of(known)} and "
        f"{source_of(cls)}; give one another by `class {cls.__name__}(Event, name=…)`"
    )


def _why(error: BaseException) -> tuple[str, str]:
    """The path in the document, and the reason."""
    if isinstance(error, RecursionError):
        return "$", "nested too deeply"
    if isinstance(error, msgspec.ValidationError):
        path, reason = path_and_reason(str(error))
        return printable(path), printable(reason)
    if isinstance(error, (msgspec.DecodeError, UnicodeDecodeError)):
        return "$", printable(str(error))
    return "$", one_line(error)


def _decoder(cls: type[Event]) -> msgspec.json.Decoder[Any]:
    try:
        return msgspec.json.Decoder(cls)
    except (TypeError, NameError) as error:
        raise ConfigurationError(
            f"{source_of(cls)} cannot be decoded from JSON: {error}"
        ) from error
