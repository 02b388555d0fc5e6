"""`trivet serve --reload`: a file that changes has a new program take this one's place.

Owns the choice of the files, and the library that watches them.
Never knows how a new program comes about; a fault in a file leaves this one as it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

import structlog
import trio

from .._faults._errors import ConfigurationError
from .._program._loader import Program
from .._program._settings import absolute
from .._runtime import Runtime
from ._safe_mode import files_of

SETTLE = 400
"""Milliseconds in which changes that follow one another count as one, at most."""
STOPPED_WITHIN = 50
"""Milliseconds in which the watch ends when it is cancelled."""

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger("trivet")


def refuse_without_library() -> None:
    """Raise where the library that watches files is not installed.

    Raises:
        ConfigurationError: it is not.
    """
    if find_spec("watchfiles") is None:
        said = "--reload: needs the library watchfiles: pip install 'trivet[reload]'"
        raise ConfigurationError(said)


def watched_directories(program: Program) -> set[Path]:
    """The directories in which the plugins' code and the settings' file are.

    Not the files: an editor may put a new one in a file's place.
    """
    settings = program.settings
    places = {Path(place) for place in files_of(program)}
    found = {place if place.is_dir() else place.parent for place in places}
    if settings.plugins_directory.is_dir():
        found.add(absolute(settings.plugins_directory))
    if settings.file is not None:
        found.add(absolute(settings.file).parent)
    return found


async def replace_when_changed(runtime: Runtime) -> None:
    """Ask for a new program whenever a file has changed, until this is cancelled."""
    from watchfiles import Change, awatch  # noqa: PLC0415 - as above

    file = runtime.program.settings.file
    settings = None if file is None else absolute(file)

    def counts(_: Change, path: str) -> bool:
        """Whether a change of this file matters."""
        return path.endswith(".py") or Path(path) == settings

    watch = awatch(
        *sorted(watched_directories(runtime.program)),
        watch_filter=counts,
        debounce=SETTLE,
        step=STOPPED_WITHIN,
        rust_timeout=STOPPED_WITHIN,
        yield_on_timeout=False,
    )
    assert runtime.replace is not None
    async for changes in watch:
        _log.info("files have changed", files=_names(path for _, path in changes))
        await runtime.replace()
        await trio.lowlevel.checkpoint()


def _names(paths: Iterable[str]) -> list[str]:
    return sorted({Path(path).name for path in paths})
