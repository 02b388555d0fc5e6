"""The table of how misbehaving plugins end, in `docs/stopping.md`."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parents[2] / "docs" / "stopping.md"


def test_every_misbehaving_plugin_is_in_the_table_once() -> None:
    """A new plugin is in the table, once that is printed anew."""
    plugins = {file.stem for file in (HERE / "misbehaving").glob("*.py")} - {"healthy", "vital"}
    table = PAGE.read_text("utf-8").partition("| plugin | `SIGTERM`")[2].partition("\n\n")[0]
    rows = [line.split("|")[1] for line in table.splitlines()[2:]]
    named = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert sorted(named) == sorted(plugins)
