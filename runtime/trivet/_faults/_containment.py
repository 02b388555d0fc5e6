"""What a plugin may raise without ending more than itself.

Owns the difference between a cancellation and a fault, whatever class the fault is of.
Never knows who called the plugin, nor what is done about the fault.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import cast

import trio

from ._masking import mask

LONGEST_LINE = 500
"""Characters of an error that are kept, sent or logged as its reason."""


def split_cancelled(
    error: BaseException,
) -> tuple[BaseException | None, BaseException | None]:
    """Take apart what a plugin's code has raised; to be called where it was caught.

    A `trio.Cancelled` belongs to a cancelled scope around the caller, and has to go on to it. Where
    no scope around is cancelled, it was made by hand, or kept, and is a fault as any other is.

    Returns:
        The part that has to go on to a scope, and the part that is a fault; None where there is
        none.
    """
    if trio.current_effective_deadline() > -math.inf:
        return None, error
    if isinstance(error, trio.Cancelled):
        return error, None
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        try:
            return group.split(trio.Cancelled)
        except RecursionError:  # It is as deep as nurseries were opened in each other.
            return _split_members(group)
    return None, error


def _split_members(
    group: BaseExceptionGroup[BaseException],
) -> tuple[BaseException | None, BaseException | None]:
    """The same of what is in the group, which loses its nesting."""
    inside = list(members(group))
    faults = [error for error in inside if not isinstance(error, trio.Cancelled)]
    cancelled = next((error for error in inside if isinstance(error, trio.Cancelled)), None)
    return cancelled, BaseExceptionGroup(group.message, faults) if faults else None


def includes(error: BaseException | None, kind: type[BaseException]) -> bool:
    """Whether the error is of this kind, or is a group with one of them in it.

    >>> includes(ExceptionGroup("", [ValueError()]), ValueError)
    True
    """
    return error is not None and any(isinstance(member, kind) for member in members(error))


def members(error: BaseException) -> Iterator[BaseException]:
    """The error, or of a group what is in it, however deep."""
    ahead = [error]
    while ahead:
        error = ahead.pop()
        if isinstance(error, BaseExceptionGroup):
            ahead += reversed(cast("BaseExceptionGroup[BaseException]", error).exceptions)
        else:
            yield error


def summary(error: BaseException) -> str:
    """The error in one line, without secrets, a group by its first member.

    >>> summary(ExceptionGroup("nursery", [ValueError("no broker"), OSError()]))
    'ValueError: no broker (and 1 more)'
    """
    if isinstance(error, BaseExceptionGroup):
        first, *others = members(cast("BaseException", error))
        return summary(first) + (f" (and {len(others)} more)" if others else "")
    try:
        text = str(error)
    except BaseException as unprintable:  # noqa: ASYNC103 - it is the text's own fault
        text = f"its text raises {type(unprintable).__name__}"
    return mask(f"{type(error).__name__}: {text}") if text else type(error).__name__


def one_line(error: BaseException) -> str:
    r"""The error in one line of at most 500 characters, each of which can be written as UTF-8.

    >>> one_line(KeyError("a\ud800"))
    "KeyError: 'a\\ud800'"
    """
    return printable(summary(error))


def printable(text: str) -> str:
    """The text in one line of at most 500 characters, each of which can be written as UTF-8.

    Secrets are masked, before a part of one is cut off.
    """
    line = " ".join(mask(text)[: 2 * LONGEST_LINE].split())
    line = line if len(line) <= LONGEST_LINE else f"{line[:LONGEST_LINE]}…"
    return line.encode(errors="backslashreplace").decode()
