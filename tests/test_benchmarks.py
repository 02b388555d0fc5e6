"""The page of benchmarks: each table stands under its command, and one command renews them all."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
BENCH = ROOT / "tests/bench"
ROW = {
    "what": "to 1 plugin",
    "figure": 620_000.4,
    "unit": "events/s",
    "beside": "a queue",
    "aim": "≥ 1",
    "ratio": {"low": 1.1, "median": 1.25, "high": 1.5, "count": 7},
    "is_rough": False,
}
PAGE = """# Page

<!-- measured: a table -->

| old |
| --- |

<!-- end -->

<!-- measured: another -->
old
<!-- end -->
"""


def made(script: Path) -> list[str]:
    """The titles of the tables that a benchmark makes."""
    return re.findall(r"\b\w*Table\(\s*\"([^\"]+)\"", script.read_text("utf-8"))


def test_each_table_stands_under_its_command() -> None:
    """Every table of the page is one that the benchmark makes whose command stands above it."""
    page = (ROOT / "docs/benchmarks.md").read_text("utf-8")
    found: list[tuple[str, str]] = []
    script = ""
    for command, title in re.findall(
        r"^`python tests/bench/(\w+)\.py`|<!-- measured: ([^>]+) -->", page, re.MULTILINE
    ):
        script = command or script
        if title:
            found.append((script, title))
    expected = {(each.stem, title) for each in BENCH.glob("bench_*.py") for title in made(each)}
    assert set(found) <= expected
    assert len(set(found)) == len(found) > 30


def report(tmp_path: Path, **changes: Any) -> tuple[str, str]:
    """The page after the report of one table's run, and what the report says."""
    results = tmp_path / "build/bench"
    results.mkdir(parents=True)
    for name in ("a-table", "a-third"):
        (results / f"{name}.json").write_text(json.dumps([{**ROW, **changes}]), "utf-8")
    page = tmp_path / "page.md"
    page.write_text(PAGE, "utf-8")
    command = [sys.executable, str(BENCH / "report.py"), str(page)]
    said = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    return page.read_text("utf-8"), said.stdout


def test_a_table_is_renewed(tmp_path: Path) -> None:
    """The figures of the last run take the place of the old ones; other tables stay."""
    page, said = report(tmp_path)
    assert "| to 1 plugin | 620,000 | a queue | 1.25 (1.10 to 1.50; 7) | ≥ 1 |\n" in page
    assert "| a table | events/s | beside | ratio (quartiles; pairs) | aim |\n" in page
    assert page.count("old") == 1
    assert said == "not measured: another\nno place for: a-third.json\n"


def test_rough_figures_are_not_reported(tmp_path: Path) -> None:
    """A quick run leaves the page as it was."""
    page, said = report(tmp_path, is_rough=True)
    assert page == PAGE
    assert said.startswith("not measured: a table\nnot measured: another\n")
