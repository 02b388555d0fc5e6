"""The profile of one stall: the stack of the loop's thread, again and again while the loop is held.

Owns the samples, their bounds, and the document of them in speedscope's file format.
Never knows threads, nor when a sample is taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.metadata import version

import msgspec

from .._faults._frames import Authors, Line, is_of_runtime

SAMPLES = 512
"""Samples of one profile; at so many, every second one stands for its neighbour, too."""
CALLS = 64
"""The innermost calls of a stack that are kept; the others are counted."""
LARGEST = 128 * 1024
"""Bytes of a document."""
LONGEST_NAME = 100
LONGEST_FILE = 200
SCHEMA = "https://www.speedscope.app/file-format-schema.json"

Call = tuple[str, str, int]
"""A function, its file, and the line in it; a line alone stands for calls that are left out."""


class Profile:
    """The samples of one stall.

    Args:
        authors: tell the plugin's lines from others.
        every: seconds that the first sample stands for; another one stands for the time since the
            one before.
    """

    def __init__(self, authors: Authors, every: float) -> None:
        self._authors = authors
        self._every = every
        self._stacks: list[tuple[Call, ...]] = []
        self._seconds: list[float] = []
        self._last: float | None = None

    def add(self, lines: Sequence[Line], at: float) -> None:
        """Add a sample.

        Args:
            lines: the calls, the innermost last.
            at: the moment of the sample, on any clock.
        """
        stack = tuple(self._folded(lines))
        seconds = self._every if self._last is None else at - self._last
        self._last = at
        if self._stacks and self._stacks[-1] == stack:
            self._seconds[-1] += seconds
            return
        if len(self._stacks) >= SAMPLES:
            self._halve()
        self._stacks.append(stack)
        self._seconds.append(seconds)

    def _halve(self) -> None:
        seconds, self._stacks = self._seconds, self._stacks[::2]
        self._seconds = [sum(seconds[at : at + 2]) for at in range(0, len(seconds), 2)]

    def _folded(self, lines: Sequence[Line]) -> Iterator[Call]:
        """The calls from the plugin's first line on, or any author's, the outermost first.

        Calls of Trivet and of Trio in between are counted. Without an author's line all are there.
        """
        mine = self._authors.first(lines)
        first = max(mine or 0, len(lines) - CALLS)
        left_out = first - (mine or 0)
        for frame, line in lines[first:]:
            code = frame.f_code
            if mine is not None and is_of_runtime(code.co_filename):
                left_out += 1
                continue
            if left_out:
                yield "", "", left_out
                left_out = 0
            yield code.co_qualname, code.co_filename, line
        if left_out:
            yield "", "", left_out

    def document(self, name: str) -> bytes:
        """The profile in speedscope's file format.

        Args:
            name: the title of the profile.
        """
        document = self._encoded(name)
        while len(document) > LARGEST and len(self._stacks) > 1:
            self._halve()
            document = self._encoded(name)
        return document

    def _encoded(self, name: str) -> bytes:
        numbers: dict[Call, int] = {}
        samples = [
            [numbers.setdefault(call, len(numbers)) for call in stack] for stack in self._stacks
        ]
        sampled = {
            "type": "sampled",
            "name": name,
            "unit": "seconds",
            "startValue": 0,
            "endValue": round(sum(self._seconds), 6),
            "samples": samples,
            "weights": [round(seconds, 6) for seconds in self._seconds],
        }
        return msgspec.json.encode(
            {
                "$schema": SCHEMA,
                "exporter": f"trivet@{version('trivet')}",
                "name": name,
                "activeProfileIndex": 0,
                "shared": {"frames": [_described(call) for call in numbers]},
                "profiles": [sampled],
            }
        )


def _described(call: Call) -> dict[str, object]:
    """A frame of the document.

    >>> _described(("Till.count", "/shop/till.py", 12)), _described(("", "", 3))
    ({'name': 'Till.count', 'file': '/shop/till.py', 'line': 12}, {'name': '… 3 more'})
    """
    name, file, line = call
    if not name:
        return {"name": f"… {line} more"}
    return {"name": _plain(name[:LONGEST_NAME]), "file": _plain(file[-LONGEST_FILE:]), "line": line}


def _plain(text: str) -> str:
    """A text that can be written as UTF-8, as the name of a file need not."""
    return text.encode(errors="backslashreplace").decode()
