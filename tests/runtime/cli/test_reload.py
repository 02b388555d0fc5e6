"""`trivet reload`, which asks a running program."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from structlog.testing import capture_logs

from trivet.testing import serving

from ..reload.programs import COUNTING, Files
from .test_running import TOKEN, Shell

SETTINGS = f"""
active_plugins = ["counting"]
tokens = [{{ name = "operator", scopes = ["admin"], secret = "{TOKEN}" }}]
"""


@asynccontextmanager
async def opened(files: Files) -> AsyncGenerator[Shell]:
    """A program that can be reloaded, and a shell to ask it in."""
    files.plugin("counting", COUNTING)
    files.settings(SETTINGS)
    with capture_logs():
        async with files.running() as (runtime, _), serving(runtime) as url:
            yield Shell(runtime, {"TRIVET_URL": url, "TRIVET_TOKEN": TOKEN, "TRIVET_CONFIG": None})


async def test_what_has_changed_is_told(here: Path) -> None:
    """Each thing that has changed has a line, and what needs a restart has the reason."""
    files = Files(here)
    async with opened(files) as shell:
        assert await shell.done("reload") == "nothing has changed\n"
        files.settings(f'max_body = 2000\nservice = "shop"\n{SETTINGS}[plugins.counting]\nstep = 5')
        assert (await shell.done("reload", "--reason", "more")).splitlines() == [
            "service: needs a restart, since it is in the source of every event",
            "max_body: changed",
            "plugins.counting: replaced",
        ]
        document = json.loads(await shell.done("reload", "counting", "--json"))
        assert [each["what"] for each in document["changes"]][-1] == "plugins.counting"


async def test_all_faults_are_told(here: Path) -> None:
    """A reload that is refused ends with code 1, and each fault has a line of its own."""
    files = Files(here)
    async with opened(files) as shell:
        files.settings(f'max_body = "much"\nmax_connections = -1\n{SETTINGS}')
        result = await shell.run("reload")
    assert result.exit_code == 1
    lines = result.stderr.splitlines()
    assert any("max_body" in line for line in lines)
    assert any("max_connections" in line for line in lines)
    assert all(line.startswith("trivet: ") for line in lines)
