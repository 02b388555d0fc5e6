"""An author's lines in a stack or a traceback.

Owns the difference between an author's code, a library's and Trivet's.
Never knows plugins but by the module of their code.
"""

from __future__ import annotations

import sysconfig
import traceback
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from types import FrameType

import attrs
import trio

_LIBRARIES = tuple(
    f"{Path(sysconfig.get_path(name)).resolve()}/"
    for name in ("stdlib", "platlib", "purelib", "scripts")
)
_OURS = f"{Path(__file__).resolve().parents[1]}/"
_RUNTIME = (_OURS, f"{Path(trio.__path__[0]).resolve()}/")
LINES_SHOWN = 1000
"""The innermost lines of a running frame that are looked at."""

Line = tuple[FrameType, int]
"""A frame, and the number of its current line."""


def is_foreign(file: str) -> bool:
    """Whether a file is a library's, Trivet's own, or none."""
    return file.startswith((*_LIBRARIES, _OURS, "<"))


def is_of_runtime(file: str) -> bool:
    """Whether a file is Trivet's own, or belongs to Trio, which runs Trivet."""
    return file.startswith(_RUNTIME)


def home_of(module: str) -> str:
    """The home of a plugin's code: its module, or the package around a private module."""
    package, _, name = module.rpartition(".")
    return package if package and name.startswith("_") else module


@attrs.frozen
class Authors:
    """Tells an author's lines from others.

    An installed plugin is among the libraries; only its module's name tells it apart.
    """

    home: str = ""
    """The module, or the package, of a plugin's code."""

    def has(self, frame: FrameType) -> bool:
        """Whether the line is the plugin's, or in a file of neither a library nor Trivet."""
        return self._is_home(frame) or not is_foreign(frame.f_code.co_filename)

    def _is_home(self, frame: FrameType) -> bool:
        module = str(frame.f_globals.get("__name__", ""))
        return bool(self.home) and f"{module}.".startswith(f"{self.home}.")

    def place(self, lines: Iterable[Line]) -> str:
        """The author's innermost line, `file:line`; else the innermost; empty without any.

        Args:
            lines: the innermost last.
        """
        line = self.line(lines)
        return "" if line is None else f"{line[0].f_code.co_filename}:{line[1]}"

    def function(self, lines: Iterable[Line]) -> str:
        """The name of the function around the same line."""
        line = self.line(lines)
        return "" if line is None else line[0].f_code.co_qualname

    def line(self, lines: Iterable[Line]) -> Line | None:
        """The author's innermost line; else the innermost."""
        found = [*lines]
        mine = [line for line in found if self.has(line[0])]
        return next(reversed(mine or found), None)

    def nearest(self, lines: Iterable[Line]) -> Line | None:
        """The author's innermost line; else the innermost of Trivet's; else the innermost."""
        found = [*lines]
        ours = [line for line in found if line[0].f_code.co_filename.startswith(_OURS)]
        return self.line([line for line in found if self.has(line[0])] or ours or found)

    def first(self, lines: Sequence[Line]) -> int | None:
        """The place among these lines of the plugin's first; else of any author's."""
        for is_wanted in (self._is_home, self.has):
            for at, (frame, _) in enumerate(lines):
                if is_wanted(frame):
                    return at
        return None

    def stack(self, lines: Iterable[Line]) -> str:
        """The stack in a traceback's form, from the plugin's first line on, or any author's.

        Of a library's calls beneath an author's line, the innermost is shown, and the others are
        counted.
        """
        return "".join(self._formatted([*lines]))

    def _formatted(self, lines: list[Line]) -> Iterator[str]:
        mine = [self.has(frame) for frame, _ in lines]
        first = self.first(lines)
        first = max(0, len(lines) - 1) if first is None else first
        left_out = 0
        for at in range(first, len(lines)):
            if mine[at] or at + 1 == len(lines) or mine[at + 1]:
                if left_out:
                    yield f"  … {left_out} more\n"
                yield from traceback.StackSummary.extract([lines[at]]).format()
                left_out = 0
            else:
                left_out += 1


def lines_of(error: BaseException) -> list[Line]:
    """The lines of an error's traceback, the innermost last."""
    return list(traceback.walk_tb(error.__traceback__))


def stack_below(frame: FrameType) -> list[Line]:
    """The lines of a running frame and of its callers, the innermost last."""
    return list(islice(traceback.walk_stack(frame), LINES_SHOWN))[::-1]


def without_trivet(error: BaseException) -> BaseException:
    """The error, with a traceback that does not begin with Trivet's own lines."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_OURS):
        trace = trace.tb_next
    if trace is not None:
        error.__traceback__ = trace
    return error
