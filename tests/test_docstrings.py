"""The first word of a docstring is the thing: editors, indexes and `help()` show it alone."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
NO_THING = re.compile(
    r"\W*(As|By|Of|It|They|Th(is|at|ese|ose)|Wh(at|atever|en|enever|ere|erever)|Which|Who(ever|m|se)?)\b"
)
"""A pronoun, a relative clause or an adverbial in the place of the thing."""


def docstrings(file: Path) -> Iterator[tuple[int, str]]:
    """The docstrings of a file with their lines, those under attributes included."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        match node:
            case ast.Expr(ast.Constant(str() as text)):
                yield node.lineno, text
            case _:
                pass


def test_a_docstring_begins_with_the_thing() -> None:
    """No docstring begins with a pronoun or a relative clause."""
    files = [file for room in ("runtime", "contrib", "plugins", "tests") for file in rooms(room)]
    found = [
        f"{name}:{line}: {text.splitlines()[0]}"
        for name in files
        for line, text in docstrings(ROOT / name)
        if NO_THING.match(text)
    ]
    assert not found, "\n".join(found)


def rooms(root: str) -> list[str]:
    """The Python files below one of the repository's folders."""
    return sorted(str(file.relative_to(ROOT)) for file in (ROOT / root).rglob("*.py"))
