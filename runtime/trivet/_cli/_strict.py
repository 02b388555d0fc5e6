"""`trivet check --strict`: the rules of flake8-async about the files of plugins.

Owns the choice of the rules, and how the library is asked.
Never knows a rule: the library has them, and their words.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec

from .._faults._errors import ConfigurationError
from .._program._generations import modules

LIBRARY = "flake8_async"
NOT_FOR_PLUGINS = (
    "ASYNC114",  # asks for its own configuration
    "ASYNC124",  # a handler is a coroutine function, whether it waits or not
    "ASYNC127",  # about the choice of a library
    "ASYNC128",  # does not see `started` where a helper calls it
    "ASYNC9",  # about checkpoints everywhere, for authors of libraries
)
"""The rules, or beginnings of their codes, that do not suit a plugin."""
_FINDING = re.compile(r".+:\d+:\d+: ASYNC\d+ ")


def refuse_without_library() -> None:
    """Raise where flake8-async is not installed.

    Raises:
        ConfigurationError: it is not.
    """
    if find_spec(LIBRARY) is None:
        said = "--strict: needs the library flake8-async: pip install 'trivet[strict]'"
        raise ConfigurationError(said)


def findings() -> list[str]:
    """A line for each place in the plugins' directory that a rule is about; `# noqa` is heeded.

    It looks at the files that were imported: those of the active plugins, and what they import
    from the directory.

    Raises:
        ConfigurationError: the library fails.
    """
    files = sorted({str(module.__file__) for module in modules().values() if module.__file__})
    if not files:
        return []
    rules = ["--enable=ASYNC", f"--disable={','.join(NOT_FOR_PLUGINS)}"]
    done = subprocess.run(  # noqa: S603 - the files were imported already
        [sys.executable, "-P", "-m", LIBRARY, *rules, *files],
        env={**os.environ, "PYTHONUTF8": "1"},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    found = [line for line in done.stdout.splitlines() if _FINDING.match(line)]
    if done.returncode and (done.stderr or not found):
        *_, said = ["no reason was given", *done.stderr.splitlines()]
        raise ConfigurationError(f"--strict: flake8-async has failed: {said}")
    return found
