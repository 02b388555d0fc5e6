"""The program's log: structlog, to standard error, as text or as JSON lines.

Owns the processors. A client's text can neither begin a line of its own nor colour one, and a
wrong call of a logger never raises into the plugin.
Never knows what is logged. An embedder configures structlog at will, and leaves this alone.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from textwrap import indent
from typing import Any, Self, TextIO, cast
from unicodedata import category

import structlog
from structlog.typing import EventDict, ExcInfo, Processor, WrappedLogger

from .._events._delivery import current_request, delivery_of_task, trace_facts
from .._faults._containment import summary
from .._faults._masking import LONGEST, mask, mask_beginning
from .._program._settings import LogSettings
from ._levels import Levels, levels_in_use, use
from ._recent import recent
from ._tracebacks import formatted
from ._writer import open_stderr

_WRITTEN_OUT = {
    number: ascii(chr(number))[1:-1]
    for number in (*range(0xA0), 0x2028, 0x2029)
    if category(chr(number)) in ("Cc", "Zl", "Zp")
}
"""The characters that move the cursor, end a line or command a terminal, as Python spells them."""
LONGEST_LINE = 8 * LONGEST
"""Characters of a line that is written as it is."""
_ALSO_IN_LINES = {number: text for number, text in _WRITTEN_OUT.items() if chr(number) != "\n"}


def never_waiting_stderr() -> TextIO:
    """Standard error as a stream that neither waits nor raises, whatever its reader does.

    Secrets are masked in everything that is written to it: Python's own tracebacks, warnings, and
    the lines of libraries that log by themselves.
    """
    return open_stderr(_tell_loss, masked)


def masked(data: bytes) -> bytes:
    """The data of a stream, with `***` in place of every known secret."""
    return mask(data.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")


def _tell_loss(lines: int) -> None:
    log: structlog.typing.FilteringBoundLogger = structlog.get_logger("trivet")
    log.warning("lines of the log were lost", lines=lines)


def configure_logging(settings: LogSettings, file: TextIO | None = None) -> None:
    """Set structlog up for a program of its own.

    Args:
        settings: the operator's settings.
        file: the stream to write to; `sys.stderr` by default.
    """
    target: TextIO = sys.stderr if file is None else file
    rendering: list[Processor]
    if settings.format == "json":
        # Without locals: they hold secrets.
        tracebacks = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        rendering = [
            structlog.processors.ExceptionRenderer(tracebacks),
            _shorten_exception,
            structlog.processors.JSONRenderer(),
        ]
    else:
        rendering = [
            _write_out,
            structlog.dev.ConsoleRenderer(
                colors=target.isatty(),
                exception_formatter=_write_traceback,
                sort_keys=False,
            ),
        ]
    levels = Levels(settings.level, _guarded, levels_in_use())
    use(levels)
    structlog.configure(
        processors=[
            levels,
            structlog.contextvars.merge_contextvars,
            _add_delivery,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _Rendering(rendering),
        ],
        wrapper_class=levels.logger,
        logger_factory=_Lines(target),
        cache_logger_on_first_use=False,
    )


class _Lines:
    """The logger beneath all of structlog's.

    It has no lock, because a finaliser that logs would wait for the lock in the very thread that
    holds it. The file gets whole lines.

    Args:
        file: the stream to write to.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def __call__(self, *_: object) -> Self:
        """Return itself: the logger is its own factory."""
        return self

    def write(self, line: str) -> None:
        """Write a line."""
        self._file.write(f"{line}\n")

    debug = info = warning = error = critical = write


_METHODS = ("debug", "info", "warning", "warn", "error", "critical", "fatal", "exception", "msg")


def _guarded(logger: type[Any]) -> dict[str, Any]:
    """The methods of a class of loggers, so that they accept wrong calls, too."""
    methods = {name: _forgiving_method(getattr(logger, name)) for name in _METHODS}
    return {**methods, "log": _forgiving_method(logger.log, leading=1)}


def _forgiving_method(method: Callable[..., Any], *, leading: int = 0) -> Callable[..., Any]:
    """Wrap a method so that it logs what it can where it would raise.

    Args:
        method: a logger's method.
        leading: the number of arguments before the message.
    """

    def log(self: object, /, *args: object, **values: object) -> None:
        try:
            method(self, *args, **values)
        except BaseException as error:  # noqa: ASYNC103 - a value's own: nothing awaits
            # The message has no place for the arguments, or a value has a parameter's name.
            message, *rest = args[leading:] or ("",)
            kept = {f"{name}_" if name in _TAKEN else name: values[name] for name in values}
            if rest:
                kept["arguments"] = rest
            method(self, *args[:leading], _plain(message), **kept, log_error=summary(error))

    return log


_TAKEN = ("event", "method_name", "self", "level", "log_error", "arguments")


class _Rendering:
    """The last processors, which make a line of any values.

    Args:
        processors: the processors that make a line.
    """

    def __init__(self, processors: list[Processor]) -> None:
        self._processors = processors

    def __call__(self, logger: WrappedLogger, method: str, event_dict: EventDict) -> str:
        try:
            line = self._render(logger, method, _shortened(event_dict))
            if len(line) > LONGEST_LINE:
                raise _TooLongError(f"the line has {len(line)} characters")  # noqa: TRY301
        except BaseException as error:  # noqa: ASYNC103 - as above
            kept: dict[str, Any] = {
                str(key): mask_beginning(_plain(event_dict[key])) for key in event_dict
            }
            kept.pop("exc_info", None)
            fault: object = event_dict.get("exc_info")
            if isinstance(fault, BaseException):
                kept["error"] = summary(fault)
            kept["log_error"] = summary(error)
            line = self._render(logger, method, kept)  # noqa: ASYNC104
        line = mask(line).encode("utf-8", "backslashreplace").decode("utf-8")  # noqa: ASYNC104
        recent.keep(event_dict.get("plugin"), event_dict.get("level"), line)
        return line  # noqa: ASYNC104

    def _render(self, logger: WrappedLogger, method: str, event_dict: Any) -> str:
        for processor in self._processors:
            event_dict = processor(logger, method, event_dict)
        return str(event_dict)


class _TooLongError(Exception):
    """The search for secrets in a line would hold the event loop."""


def _shortened(event_dict: EventDict) -> dict[str, Any]:
    """The values, with the beginnings of long texts, which may be a client's, in their place."""
    return {
        key: mask_beginning(value) if isinstance(value, str) and len(value) > LONGEST else value
        for key, value in event_dict.items()
    }


def _shorten_exception(logger: WrappedLogger, method: str, event_dict: EventDict) -> EventDict:
    """Shorten the texts within a rendered exception."""
    if "exception" in event_dict:
        event_dict["exception"] = _shorten_texts(event_dict["exception"])
    return event_dict


def _shorten_texts(value: object) -> object:
    """The same lists and dictionaries, with the beginnings of long texts."""
    if isinstance(value, str):
        return mask_beginning(value) if len(value) > LONGEST else value
    if isinstance(value, list):
        return [_shorten_texts(each) for each in cast("list[object]", value)]
    if isinstance(value, dict):
        members = cast("dict[object, object]", value)
        return {key: _shorten_texts(each) for key, each in members.items()}
    return value


def _plain(value: object) -> str:
    """The value as a plain string, which has no code of the author's."""
    try:
        text = value if isinstance(value, str) else repr(value)
        return str.__str__(text)
    except BaseException as error:  # noqa: ASYNC103 - as above
        why = type(error).__name__
        return f"<{type(value).__name__} whose repr raises {why}>"  # noqa: ASYNC104


def _add_delivery(logger: WrappedLogger, method: str, event_dict: EventDict) -> EventDict:
    """Add the identity of the event in flight, if there is one, and the trace of the request."""
    delivery, request = delivery_of_task.get(), current_request.get()
    if delivery is not None:
        event_dict = {**delivery.identity(), **event_dict}
    if request is not None and request.traceparent is not None:
        event_dict = {**trace_facts(request.traceparent), **event_dict}
    return event_dict


def _write_out(logger: WrappedLogger, method: str, event_dict: EventDict) -> EventDict:
    """Spell out the control characters in keys and values, except in Trivet's own stacks."""
    return {
        key.translate(_WRITTEN_OUT): value.translate(_WRITTEN_OUT)
        if isinstance(value, str) and key != "stack"
        else value
        for key, value in event_dict.items()
    }


def _write_traceback(file: TextIO, exc_info: ExcInfo) -> None:
    """Write a traceback with its lines indented, since an exception's text may have several."""
    written = formatted(*exc_info).rstrip("\n")
    if len(written) > LONGEST:
        written = mask_beginning(written)
    file.write(indent(written.translate(_ALSO_IN_LINES), "    "))
