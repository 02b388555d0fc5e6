"""The tables of `docs/benchmarks.md`, written anew from the last run of each benchmark.

    python tests/bench/report.py [PAGE]

A table stands between `<!-- measured: TITLE -->` and `<!-- end -->`, and its figures are those that
the benchmark has left in `build/bench/`. A table whose benchmark has not run since, or only
roughly, with `--quick`, stays as it is; the last words say which, and which results have no place.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import msgspec
from pairs import RESULTS, Row, file_of, head, line

PAGE = Path(__file__).parents[2] / "docs/benchmarks.md"
PART = re.compile(r"(?<=<!-- measured: )([^>]+)( -->\n).*?(?=<!-- end -->)", re.DOTALL)


def table(title: str) -> str | None:
    """The table with this title; None where no careful run has left one."""
    file = file_of(title)
    rows = msgspec.json.decode(file.read_bytes(), type=list[Row]) if file.exists() else []
    if not rows or any(row.is_rough for row in rows):
        return None
    return "".join([*head(title, rows[0].unit), *(line(*row.cells) for row in rows)])


def renewed(page: str, left: list[str]) -> str:
    """The page with new tables; `left` receives the titles of those that stay."""

    def part(found: re.Match[str]) -> str:
        new = table(found[1])
        if new is None:
            left.append(found[1])
            return found[0]
        return f"{found[1]}{found[2]}\n{new}\n"

    return PART.sub(part, page)


def main() -> None:
    """Write the page, and say which tables stay as they are, and which results it does not show."""
    left: list[str] = []
    page = Path(sys.argv[1]) if len(sys.argv) > 1 else PAGE
    page.write_text(renewed(page.read_text("utf-8"), left), "utf-8")
    sys.stdout.writelines(f"not measured: {title}\n" for title in left)
    known = {file_of(found[1]) for found in PART.finditer(page.read_text("utf-8"))}
    others = sorted(set(RESULTS.glob("*.json")) - known)
    sys.stdout.writelines(f"no place for: {file.name}\n" for file in others)


if __name__ == "__main__":
    main()
