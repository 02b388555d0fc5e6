"""The look of `trivet top`: a table in a terminal, by rich.

Owns colours and widths; texts of the program are text, and no markup.
Never knows what the texts say.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ._printing import plain
from ._top_facts import HEAD, MARKS, advice_of, rows_of, summary_of

COLOURS: Mapping[str, str] = {
    "bad": "bold red",
    "warn": "yellow",
    "note": "dim",
    "quiet": "dim",
    "good": "green",
}
LINES = 6
"""Lines of advice that are shown."""


@contextmanager
def shown() -> Generator[Callable[[Mapping[str, Any]], None]]:
    """Take the whole terminal; yields a function that shows a state there."""
    with Live(console=Console(), screen=True, auto_refresh=False) as live:
        yield lambda state: live.update(view(state, *live.console.size), refresh=True)


def view(state: Mapping[str, Any], width: int, height: int) -> Group:
    """The overview, as rich prints it, in so many columns and lines."""
    advice = advice_of(state)
    lines = [Text(f"{MARKS[level]} {plain(said)}", COLOURS[level]) for level, said in advice]
    if len(lines) > LINES:
        lines[LINES - 1 :] = [Text(f"  and {len(lines) - LINES + 1} more", "dim")]
    if not lines:
        lines = [Text("All is well.", "green")]
    room = max(1, height - sum(1 + line.cell_len // width for line in lines) - 6)
    head = Text(plain(summary_of(state)), "bold")
    return Group(head, Text(), *lines, Text(), _table(state, room), Text("q ends", "dim"))


def _table(state: Mapping[str, Any], room: int) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", expand=False)
    for name in HEAD:
        is_text = name in HEAD[:2]
        table.add_column(name, justify="left" if is_text else "right", no_wrap=True)
    rows = rows_of(state)
    for row in rows[:room]:
        name, status, *numbers = row.cells
        table.add_row(Text(plain(name)), Text(plain(status), COLOURS[row.tone]), *numbers)
    if len(rows) > room:
        table.caption = f"{len(rows) - room} more"
    return table
