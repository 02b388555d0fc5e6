from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from sybil import Example, Sybil
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    path.relative_to(ROOT)
    for pattern in ("*.md", "plugins/*.md", "contrib/trivet_contrib/*/*.md")
    for path in sorted(ROOT.glob(pattern))
]


def parse_toml(example: Example) -> None:
    """Evaluate a TOML block."""
    tomllib.loads(example.parsed)


SYBIL = Sybil(parsers=[PythonCodeBlockParser(), CodeBlockParser("toml", parse_toml)])


@pytest.mark.parametrize("path", DOCUMENTS, ids=str)
def test_the_examples_of_documents_work(path: Path) -> None:
    """Every Python block of a document runs, in order, and every TOML block is valid."""
    for example in SYBIL.parse(ROOT / path).examples():
        example.evaluate()
