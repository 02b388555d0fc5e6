"""The versions of Trivet that the code of a plugin is for, as its author has written them.

Owns where they are written, and their comparison with the version that runs.
Never knows the code: it is not imported before its requirement holds.

A distribution requires them as it does any library's. A file does by Python's own form for that, a
block of comments (https://packaging.python.org/en/latest/specifications/inline-script-metadata/):

    # /// script
    # dependencies = ["trivet>=0.1,<0.3"]
    # ///
"""

from __future__ import annotations

import re
import tokenize
import tomllib
from collections.abc import Iterable
from importlib.metadata import Distribution, version
from pathlib import Path
from typing import cast

from .._faults._errors import ConfigurationError

BEGIN, END = "# /// script", "# ///"
OURS = re.compile(r"\s*trivet\b(?![-.\w])", re.IGNORECASE)
"""The beginning of a requirement of Trivet."""


def requirements_of_file(file: Path) -> tuple[str, ...]:
    """The requirements of Trivet in a file.

    Raises:
        ConfigurationError: the file has a block for them that cannot be read.
    """
    try:
        with tokenize.open(file) as opened:  # In the file's own encoding, as the import reads it.
            text = opened.read().splitlines()
    except (OSError, SyntaxError, UnicodeDecodeError):
        return ()  # It cannot be imported either, and that says why.
    if BEGIN not in text:
        return ()
    if text.count(BEGIN) > 1:
        raise ConfigurationError(f"{file}: it has more than one block `{BEGIN}`")
    at = text.index(BEGIN)
    place = f"{file}:{at + 1}"
    end = next((i for i, line in enumerate(text[at + 1 :], at + 1) if line[:1] != "#"), len(text))
    block = text[at + 1 : end]
    if END not in block:
        raise ConfigurationError(f"{place}: the block `{BEGIN}` has no end: a line `{END}`")
    last = len(block) - 1 - block[::-1].index(END)
    lines = [line.removeprefix("#").removeprefix(" ") for line in block[:last]]
    try:
        listed: object = tomllib.loads("\n".join(lines)).get("dependencies", [])
    except tomllib.TOMLDecodeError as error:
        said = f"{place}: the block `# /// script` is no TOML: {error}"
        raise ConfigurationError(said) from error
    if not isinstance(listed, list):
        raise ConfigurationError(f"{place}: `dependencies`: expected an array of strings")
    return _ours(map(str, cast("list[object]", listed)))


def requirements_of(distribution: Distribution | None) -> tuple[str, ...]:
    """The requirements of Trivet that a distribution has."""
    return () if distribution is None else _ours(distribution.requires or ())


def _ours(requirements: Iterable[str]) -> tuple[str, ...]:
    return tuple(each for each in requirements if OURS.match(each))


def check_requirements(requirements: Iterable[str], place: str) -> None:
    """See that this version of Trivet is one that the code is for.

    Args:
        requirements: the requirements of Trivet.
        place: the file or the entry point, for messages.

    Raises:
        ConfigurationError: it is another version, or a requirement cannot be read.
    """
    for text in requirements:
        _check(text, place)


def _check(text: str, place: str) -> None:
    # Few plugins need it, and its import takes some milliseconds.
    from packaging.markers import UndefinedComparison, UndefinedEnvironmentName  # noqa: PLC0415
    from packaging.requirements import InvalidRequirement, Requirement  # noqa: PLC0415

    try:
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            return
    except (InvalidRequirement, UndefinedComparison, UndefinedEnvironmentName) as error:
        raise ConfigurationError(f"{place}: {text!r} is no requirement of a plugin") from error
    running = version("trivet")
    if not requirement.specifier.contains(running, prereleases=True):
        needed = f"trivet{requirement.specifier}"
        raise ConfigurationError(f"{place}: it is for {needed}, and this is trivet {running}")
