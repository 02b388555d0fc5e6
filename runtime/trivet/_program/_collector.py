"""Several faults of a configuration, collected and raised as one error.

Owns the collecting.
Never knows what is checked.
"""

from __future__ import annotations

import re
from types import TracebackType
from typing import Self

from .._faults._errors import ConfigurationError


def lines_of(text: str) -> list[str]:
    r"""The faults in the text of an error, each once; a further line of one is indented.

    >>> lines_of("bind: wrong" + chr(10) + "  expected HOST:PORT" + chr(10) + "service: empty")
    ['bind: wrong\n  expected HOST:PORT', 'service: empty']
    """
    return list(dict.fromkeys(re.split(r"\n(?! )", text))) if text else []


class Faults:
    """The faults found so far.

    >>> faults = Faults()
    >>> with faults.collect():
    ...     raise ConfigurationError("bind: expected HOST:PORT")
    >>> faults.check()
    Traceback (most recent call last):
    trivet._faults._errors.ConfigurationError: bind: expected HOST:PORT
    """

    def __init__(self) -> None:
        self._errors: list[ConfigurationError] = []

    def __bool__(self) -> bool:
        return bool(self._errors)

    @property
    def lines(self) -> list[str]:
        """The faults in the order in which they were found; a further line of one is indented."""
        return lines_of("\n".join(map(str, self._errors)))

    def add(self, others: Faults) -> None:
        """Add the faults that others have collected."""
        self._errors += others._errors

    def collect(self) -> Self:
        """Enter a block whose `ConfigurationError` is kept; the program goes on after the block."""
        return self

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        if isinstance(error, ConfigurationError):
            self._errors.append(error)
            return True
        return False

    def check(self) -> None:
        """Raise one error with a line for each fault; do nothing where there is none.

        Raises:
            ConfigurationError: a fault was collected.
        """
        if len(self._errors) == 1:
            raise self._errors[0]
        if self._errors:
            text = "\n".join(dict.fromkeys(map(str, self._errors)))
            raise ConfigurationError(text) from ExceptionGroup("faults", self._errors)
