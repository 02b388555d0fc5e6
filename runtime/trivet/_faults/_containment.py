"""A plugin's exception ends no more than the plugin.

Owns the difference between a cancellation and a fault, whatever the fault's class, and the way of
an exception through nurseries.
Never knows who called the plugin, nor what is done about the fault.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import TypeVar, cast

import trio

from ._errors import TrivetError
from ._masking import mask_beginning

T = TypeVar("T")

LONGEST_LINE = 500
"""Characters of an error's text that are kept, sent or logged as its reason."""


def split_cancelled(
    error: BaseException,
) -> tuple[BaseException | None, BaseException | None]:
    """Take apart the exception of a plugin's code; to be called where it was caught.

    A `trio.Cancelled` belongs to a cancelled scope around the caller, and has to reach it. If no
    scope around the caller is cancelled, somebody made the `Cancelled` by hand, or kept it, and it
    is a fault like any other.

    Returns:
        The part that has to reach a scope, and the part that is a fault; None for a missing part.
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
    """Split the group's members, which lose their nesting."""
    inside = list(members(group))
    faults = [error for error in inside if not isinstance(error, trio.Cancelled)]
    cancelled = next((error for error in inside if isinstance(error, trio.Cancelled)), None)
    return cancelled, BaseExceptionGroup(group.message, faults) if faults else None


def split_failure(
    error: BaseException, *, contains_interrupts: bool
) -> tuple[BaseException | None, BaseException | None]:
    """Like `split_cancelled`, but let Ctrl-C through, also out of a group.

    Args:
        error: the exception; to be called where it was caught.
        contains_interrupts: whether a KeyboardInterrupt is the plugin's own fault, as in `trivet
            serve`, where signals go to a receiver. Embedded, Python makes one of Ctrl-C, and the
            whole program has to end.

    Raises:
        KeyboardInterrupt: there is one in the error, and it is the operator's. It comes alone,
            with the group as its cause, because Quart and hypercorn contain any group.
    """
    cancelled, fault = split_cancelled(error)
    if not contains_interrupts and includes(fault, KeyboardInterrupt):
        if isinstance(error, KeyboardInterrupt):
            raise error
        raise KeyboardInterrupt from error
    return cancelled, fault


@contextmanager
def unwrapped() -> Generator[None]:
    """Raise the only error of a group alone, and several of Trivet's as the first one with notes.

    A cancellation next to an error is dropped: the error ends the block as well. Other groups are
    raised as they are.
    """
    try:
        yield
    except BaseExceptionGroup as group:
        errors = [error for error in members(group) if not isinstance(error, trio.Cancelled)]
        if not errors:
            raise
        first, *others = errors
        if others and not all(isinstance(error, TrivetError) for error in errors):
            raise
        for other in others:  # Two critical plugins may give up, one while the other ends all.
            first.add_note(f"and: {other}")
        cause, context = first.__cause__, first.__context__
        try:
            raise first
        finally:
            first.__cause__, first.__context__ = cause, context


@asynccontextmanager
async def transparent(
    manager: AbstractAsyncContextManager[T], at_end: Callable[[T], object] | None = None
) -> AsyncGenerator[T]:
    """Enter a manager with a nursery inside; an exception of the block comes out as it is.

    The nursery would wrap it in a group. The manager sees a block that ended well. Cancellations do
    go through the manager, whose scopes they may belong to.

    Args:
        manager: the manager with the nursery.
        at_end: called with the manager's value when the block has ended, also by an exception.

    Raises:
        BaseExceptionGroup: the block and a task of the nursery failed, or several tasks; or the
            block failed while a scope around it was cancelled.
    """
    faults: list[BaseException] = []
    try:
        with unwrapped():
            async with manager as value:
                cancelled: BaseException | None = None
                try:
                    yield value
                except BaseException as error:  # noqa: ASYNC103 - a cancellation is raised below
                    cancelled, fault = split_cancelled(error)
                    faults += [] if fault is None else [fault]
                if at_end is not None:
                    at_end(value)
                if cancelled is not None:
                    raise cancelled  # noqa: TRY301 - into the nursery
    except BaseException as error:  # noqa: ASYNC103 - it is in the group
        if not faults:
            raise
        faults.append(error)
    if len(faults) > 1:
        raise BaseExceptionGroup("a block and its nursery failed", faults)
    if faults:
        raise faults[0]


def open_transparent_nursery() -> AbstractAsyncContextManager[trio.Nursery]:
    """Open a nursery whose tasks are cancelled when the block ends.

    An exception of the block, or of the only task that fails, is raised without a group.
    """
    return transparent(trio.open_nursery(), lambda nursery: nursery.cancel_scope.cancel())


def includes(error: BaseException | None, kind: type[BaseException]) -> bool:
    """Whether the error is of this kind, or is a group with such an error in it.

    >>> includes(ExceptionGroup("", [ValueError()]), ValueError)
    True
    """
    return error is not None and any(isinstance(member, kind) for member in members(error))


def members(error: BaseException) -> Iterator[BaseException]:
    """The error itself, or the errors in a group, however deep."""
    ahead = [error]
    while ahead:
        error = ahead.pop()
        if isinstance(error, BaseExceptionGroup):
            ahead += reversed(cast("BaseExceptionGroup[BaseException]", error).exceptions)
        else:
            yield error


def summary(error: BaseException) -> str:
    """The error in one line, without secrets; a group is named by its first member.

    A text of more than 64 KiB is cut: it may be a client's.

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
    return mask_beginning(f"{type(error).__name__}: {text}") if text else type(error).__name__


def one_line(error: BaseException) -> str:
    r"""The error in one line of at most 500 characters, each of which can be written as UTF-8.

    >>> one_line(KeyError("a\ud800"))
    "KeyError: 'a\\ud800'"
    """
    return printable(summary(error))


def printable(text: str) -> str:
    """The text in one line of at most 500 characters, each of which can be written as UTF-8.

    Secrets are masked before the text is cut, so no part of one is left.
    """
    line = " ".join(mask_beginning(text, 2 * LONGEST_LINE).split())
    line = line if len(line) <= LONGEST_LINE else f"{line[:LONGEST_LINE]}…"
    return line.encode(errors="backslashreplace").decode()
