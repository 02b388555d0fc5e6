"""Python's own warnings, as lines of the log that name the plugin.

Owns the hook of the `warnings` module while a program runs.
Never knows which warnings there are: Python's filters decide what is shown, and how often.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import TextIO

import structlog

from .._faults._advice import FORGOTTEN
from .._loop._tasks import plugins_of

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger("trivet")


@contextmanager
def warnings_in_the_log(homes: Mapping[str, str]) -> Generator[None]:
    """Log Python's warnings within this block; a forgotten `await` is one.

    Args:
        homes: the module, or the package, of each plugin's code.
    """

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        said = str(message)
        facts = {"warning": f"{category.__name__}: {said}", "at": f"{filename}:{lineno}"}
        # The line tells whose the warning is; the task may be any that a collection interrupts.
        if plugins := plugins_of(_modules_in(filename), homes):
            facts["plugin"] = " or ".join(plugins)
        if said.endswith("was never awaited"):
            facts["hint"] = FORGOTTEN
        _log.warning("Python warns", **facts)

    before = warnings.showwarning
    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = before


def _modules_in(filename: str) -> Iterator[str]:
    """The names of the modules that a file holds."""
    for name, module in list(sys.modules.items()):
        if getattr(module, "__dict__", {}).get("__file__") == filename:
            yield name
