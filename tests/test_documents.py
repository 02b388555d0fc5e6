"""The documents: their examples run, their links resolve, and what the code says stands there."""

from __future__ import annotations

import inspect
import os
import re
import tomllib
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from sybil import Example, Sybil
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser
from trio.testing import MockClock

import trivet
from trivet import TrivetError
from trivet._process._escalation import ESCALATION
from trivet.testing import open_plugins

from . import public_api
from .generated import PARTS, pages, regenerated
from .servers import found_program, serving

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    path.relative_to(ROOT)
    for pattern in ("*.md", "docs/**/*.md", "plugins/*.md", "contrib/trivet_contrib/*/*.md")
    for path in sorted(ROOT.glob(pattern))
]
PAGES = sorted([*(ROOT / "docs").glob("*.md"), *(ROOT / "docs" / "howto").glob("*.md")])
FENCED = re.compile(r"^(```+).*?^\1$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def parse_toml(example: Example) -> None:
    """Evaluate a TOML block."""
    tomllib.loads(example.parsed)


SYBIL = Sybil(parsers=[PythonCodeBlockParser(), CodeBlockParser("toml", parse_toml)])


SERVERS = {
    "postgresql_url": ("postgres", "postgresql://postgres@127.0.0.1:{}/postgres"),
    "redis_url": ("redis-server", "redis://127.0.0.1:{}"),
}
"""The fixtures that are a server's URL: the program, and the form of the URL."""


def with_servers(path: Path) -> Any:
    """A document as a parameter; one whose tests need a server is skipped where there is none."""
    text = (ROOT / path).read_text("utf-8")
    programs = [program for name, (program, _) in SERVERS.items() if f"({name}: str" in text]
    missing = [program for program in programs if found_program(program) is None]
    reason = f"not on the PATH: {', '.join(missing)}"
    marks = [pytest.mark.skipif(bool(missing) and os.environ.get("CI") != "true", reason=reason)]
    return pytest.param(path, marks=[*marks, pytest.mark.broker] if programs else [], id=str(path))


@pytest.mark.parametrize("path", [with_servers(path) for path in DOCUMENTS])
def test_the_examples_of_documents_work(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every Python block of a document runs, in order, then every test that it defines, as with
    pytest-trio; and every TOML block is valid."""
    monkeypatch.chdir(ROOT)
    document = SYBIL.parse(ROOT / path)
    for example in document.examples():
        example.evaluate()
    for name, test in document.namespace.items():
        if name.startswith("test_"):
            run(test)


def run(test: Callable[..., Coroutine[Any, Any, None]]) -> None:
    """Run a test as pytest-trio does, with the fixtures that documents use."""
    asked = inspect.signature(test).parameters
    clock = MockClock(autojump_threshold=0) if "autojump_clock" in asked else None
    fixtures: dict[str, Any] = {
        "autojump_clock": clock,
        "open_service": partial(open_plugins, raise_errors=True),
    }
    with ExitStack() as stack:
        for name in asked:
            if name in SERVERS:
                server, url = SERVERS[name]
                fixtures[name] = url.format(stack.enter_context(serving(server)))
        trio.run(partial(test, **{name: fixtures[name] for name in asked}), clock=clock)


@pytest.mark.parametrize("path", pages(), ids=lambda path: path.name)
def test_the_generated_parts_are_up_to_date(path: Path) -> None:
    """`python -m tests.generated` would change nothing."""
    assert path.read_text("utf-8") == regenerated(path.read_text("utf-8")), (
        "run `python -m tests.generated`, and read what has changed"
    )


def test_every_public_name_is_on_the_page_of_names() -> None:
    """Each name of `trivet` stands on the page, those of values in its prose."""
    page = (ROOT / "docs" / "api.md").read_text("utf-8")
    names = [name for name, thing in vars(trivet).items() if not inspect.ismodule(thing)]
    assert [name for name in names if name[0] != "_" and f"`{name}`" not in page] == []


def test_the_public_interface_is_the_committed_one() -> None:
    """A name, a parameter, a type or a default that changes is a difference of the file."""
    assert public_api.FILE.read_text("utf-8") == public_api.interface(), (
        "the public interface has changed: run `python -m tests.generated`, read the difference, "
        "and say in CHANGELOG.md what breaks"
    )


def test_every_generated_part_has_one_place() -> None:
    """Each generated part stands once in one page, and a page has no other generated part."""
    marks = re.compile(r"<!-- generated: (\w+) -->\n\n.*?\n\n<!-- end -->", re.DOTALL)
    found = [name for page in PAGES for name in marks.findall(page.read_text("utf-8"))]
    assert sorted(found) == sorted(PARTS)


@pytest.mark.parametrize("path", DOCUMENTS, ids=str)
def test_every_relative_link_resolves(path: Path) -> None:
    """A relative link leads to a file that exists, and to one of its headings."""
    text = FENCED.sub("", (ROOT / path).read_text("utf-8"))
    targets = [target for target in LINK.findall(text) if "://" not in target]
    assert [target for target in targets if not resolves(ROOT / path, target)] == []


def resolves(page: Path, target: str) -> bool:
    """Whether a link on this page leads anywhere."""
    name, _, heading = target.partition("#")
    file = page.parent / name if name else page
    return file.exists() and (not heading or heading in anchors(file))


def anchors(page: Path) -> set[str]:
    """The names that GitHub gives a page's headings."""
    text = FENCED.sub("", page.read_text("utf-8"))
    headings = re.findall(r"^#+ +(.*?) *$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", DOCUMENTS, ids=str)
def test_every_module_that_a_document_names_exists(path: Path) -> None:
    """A document that says `_room/_module` is right about both."""
    named = re.findall(r"`(_[a-z_]+/_[a-z_]+)(?:\.py)?`", (ROOT / path).read_text("utf-8"))
    roots = (ROOT / "runtime" / "trivet", ROOT / "contrib" / "trivet_contrib")
    assert [name for name in named if not any(is_module(root / name) for root in roots)] == []


def is_module(path: Path) -> bool:
    """Whether this is a package's folder, or a module's file without its suffix."""
    return path.is_dir() or path.with_suffix(".py").exists()


def test_the_readme_names_every_room() -> None:
    """The README's map has each folder of the library, and no other."""
    lines = re.findall(
        r"^    (?:\w+, )*(\w+)/", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE
    )
    rooms = {file.parent.name for file in (ROOT / "runtime" / "trivet").glob("*/__init__.py")}
    assert sorted(lines) == sorted(rooms)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_a_page_says_first_whom_it_serves(path: Path) -> None:
    """A page says below its title whom it is for, and is in the table of contents."""
    assert re.match(r"# \S.*\n\nFor [^\n]+", path.read_text("utf-8"))
    contents = LINK.findall((ROOT / "docs" / "README.md").read_text("utf-8"))
    assert str(path.relative_to(ROOT / "docs")) in {*contents, "README.md"}


def test_the_readme_is_short() -> None:
    """The README has at most 150 lines."""
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 150


def descendants(cls: type[TrivetError]) -> Iterator[type[TrivetError]]:
    """The classes that derive from a class, at any distance."""
    for derived in cls.__subclasses__():
        yield derived
        yield from descendants(derived)


def test_every_exit_code_is_documented() -> None:
    """The table of exit codes has each error that ends a program, and each escalation step."""
    page = (ROOT / "docs" / "stopping.md").read_text("utf-8")
    rows = re.findall(r"^\| ([\d, ]+) \|", page.partition("## Exit codes\n")[2], re.MULTILINE)
    documented = {int(code) for row in rows for code in row.split(", ")}
    errors = {error.exit_code for error in descendants(TrivetError)} - {TrivetError.exit_code}
    assert documented == {0} | errors | {step.exit_code for step in ESCALATION}
