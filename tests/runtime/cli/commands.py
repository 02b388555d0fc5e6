"""The command, called in this process, and a directory with a program for it."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from trivet import _cli


def trivet(*arguments: str, said: str = "", **environ: str) -> Result:
    """Run the command; `said` is its standard input."""
    return CliRunner().invoke(_cli.main, arguments, env=environ, input=said, prog_name="trivet")


def as_json(*arguments: str, **environ: str) -> Any:
    """The JSON document that the command prints."""
    return json.loads(trivet(*arguments, **environ).stdout)


def write(file: Path, text: str) -> Path:
    """Write a file, and the directories above it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(textwrap.dedent(text))
    return file
