"""The first word of a docstring is the thing: editors, indexes and `help()` show it alone."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).parents[1]
BODIES = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
NO_THING = re.compile(
    r"\W*(As|By|Of|It|They|Th(is|at|ese|ose)|Wh(at|atever|en|enever|ere|erever)|Whether its?|Which"
    r"|Who(ever|m|se)?)\b"
)
"""A pronoun, a relative clause or an adverbial in the place of the thing."""


@cache
def tree_of(file: Path) -> ast.Module:
    """The syntax tree of a file."""
    return ast.parse(file.read_text("utf-8"))


def docstrings(file: Path) -> Iterator[tuple[int, str]]:
    """The docstrings of a file with their lines, those under attributes included."""
    for node in ast.walk(tree_of(file)):
        match node:
            case ast.Expr(ast.Constant(str() as text)):
                yield node.lineno, text
            case _:
                pass


def test_a_docstring_begins_with_the_thing() -> None:
    """No docstring begins with a pronoun or a relative clause."""
    files = [
        file for room in ("runtime", "contrib", "plugins", "docs", "tests") for file in rooms(room)
    ]
    found = [
        f"{name}:{line}: {text.splitlines()[0]}"
        for name in files
        for line, text in docstrings(ROOT / name)
        if NO_THING.match(text)
    ]
    assert not found, "\n".join(found)


def test_a_docstring_follows_what_it_describes() -> None:
    """No docstring stands under another one: a line moved between a name and its text."""
    misplaced: list[str] = []
    for name in [name for room in ("runtime", "contrib", "plugins") for name in rooms(room)]:
        bodies = [node.body for node in ast.walk(tree_of(ROOT / name)) if isinstance(node, BODIES)]
        misplaced += [
            f"{name}:{second.lineno}"
            for body in bodies
            for first, second in pairwise(body)
            if is_text(first) and is_text(second)
        ]
    assert not misplaced


def is_text(node: ast.stmt) -> bool:
    """Whether a statement is nothing but a string, as a docstring is."""
    match node:
        case ast.Expr(ast.Constant(str())):
            return True
        case _:
            return False


def rooms(root: str) -> list[str]:
    """The Python files below one of the repository's folders."""
    return sorted(str(file.relative_to(ROOT)) for file in (ROOT / root).rglob("*.py"))
