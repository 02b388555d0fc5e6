"""A program as a command reads it that does not serve: checked, with its log on standard error.

Owns the order of reading, logging and checking.
Never knows which command reads it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path

import attrs

from .._faults._masking import know
from .._log._logging import configure_logging
from .._program._collector import Faults
from .._program._loader import Program, check
from .._program._reading import Reading, read_settings
from .._program._settings import LogSettings, refuse_open_doors

_WHICH_PLUGINS = {"active_plugins", "plugins_directory", "event_types", "plugins"}
"""Keys without which nothing can be said about plugins."""


def _warnings_of(log: LogSettings) -> LogSettings:
    return attrs.evolve(log, level="warning")


def read_program(
    config: Path | None, overrides: Mapping[str, object], faults: Faults
) -> tuple[Reading, Program | None]:
    """Read the settings and the plugins that they name, and mask their secrets from now on.

    Args:
        config: the settings' file, if the command line names one.
        overrides: the settings that the command line gives.
        faults: collects the faults.

    Returns:
        The settings, and the program; None for a program that has a fault.
    """
    reading = read_settings(config, None, overrides, faults)
    settings = reading.settings
    quiet = settings.log if settings.log.level == "error" else _warnings_of(settings.log)
    configure_logging(quiet, sys.stderr)
    if reading.refused & _WHICH_PLUGINS:
        return reading, None
    with faults.collect():
        refuse_open_doors(settings, settings.addresses, settings.management_addresses)
    settings.find_modules()
    with redirect_stdout(sys.stderr):  # Standard output is the command's.
        program = check(settings, faults)
    if program is not None:
        know(program, program.secrets())
    return reading, program
