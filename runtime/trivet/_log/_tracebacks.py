"""Tracebacks as a person reads them: an author's lines, and the others folded.

Owns which lines of a traceback are left out.
Never knows where a traceback is written.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from types import TracebackType

from .._faults._frames import is_foreign


class _Folded(traceback.StackSummary):
    """The lines of one traceback, of which runs in libraries and in Trivet are folded.

    An author's lines are shown, the line that calls one, and the innermost line. Where none is an
    author's, all are shown.
    """

    def format(self, **options: object) -> list[str]:
        """The lines as Python writes them, with `… N more` for those that are left out."""
        del options  # Of Python 3.13, about colours.
        mine = [not is_foreign(each.filename) for each in self]
        if True not in mine:
            return super().format()
        return [*self._formatted(mine)]

    def _formatted(self, mine: list[bool]) -> Iterator[str]:
        left_out = 0
        for at, frame in enumerate(self):
            if mine[at] or at + 1 == len(self) or mine[at + 1]:
                if left_out:
                    yield f"  … {left_out} more\n"
                yield from traceback.StackSummary.from_list([frame]).format()
                left_out = 0
            else:
                left_out += 1


def formatted(
    kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
) -> str:
    """An exception with its traceback, its causes, and the members of a group as a tree."""
    if error is None:
        return "".join(traceback.format_exception(kind, error, trace))
    whole = traceback.TracebackException(type(error), error, trace, compact=True)
    _fold(whole, set())
    return "".join(whole.format())


def _fold(part: traceback.TracebackException, seen: set[int]) -> None:
    if id(part) in seen:
        return
    seen.add(id(part))
    part.stack = _Folded(part.stack)
    others = (part.__cause__, part.__context__, *(getattr(part, "exceptions", None) or ()))
    for each in others:
        if each is not None:
            _fold(each, seen)
