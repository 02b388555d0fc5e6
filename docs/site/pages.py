"""Pages for Sphinx, made of the Markdown files that a forge shows.

Owns what the site adds to these files: the contents at its side, which are the tables of
`docs/README.md`; signatures and docstrings, below the tables of `docs/api.md`; a table in the place
of a diagram that needs a script; the page at `/`.
Never knows what a page says.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from posixpath import join, normpath
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

import trivet

CONTENTS = "docs/README"
API = "docs/api"
SECTION = re.compile(r"^(?P<level>##+) (?P<title>.+)\n(?P<text>(?:(?!##).*\n)*)", re.MULTILINE)
PAGE = re.compile(r"\]\(([^)#:\s]+)\.md\)")
NAME = re.compile(r"^\| `(\w+)` \|", re.MULTILINE)
DIAGRAM = re.compile(r"^```mermaid\nstateDiagram-v2\n(.*?)^```\n", re.MULTILINE | re.DOTALL)
ARROW = re.compile(r"^ +(\w+) --> (\w+): (.*)$", re.MULTILINE)


def complete(app: Sphinx, page: str, source: list[str]) -> None:
    """Add to a page what only the site has."""
    if page == app.config.root_doc:
        text = (Path(app.srcdir) / f"{CONTENTS}.md").read_text("utf-8")
        source[0] += "".join(toctrees(text))
    elif page == API:
        source[0] = with_docstrings(source[0])
    source[0] = DIAGRAM.sub(_transitions, source[0])


def toctrees(contents: str) -> Iterator[str]:
    """The contents at the side: a part for each section of the table of contents."""
    yield _toctree("Contents", [CONTENTS])
    for section in SECTION.finditer(contents):
        pages = [normpath(join("docs", page)) for page in PAGE.findall(section["text"])]
        yield _toctree(section["title"], pages)


def _toctree(caption: str, pages: list[str]) -> str:
    lines = ["", "```{toctree}", ":hidden:", f":caption: {caption}", "", *pages, "```", ""]
    return "\n".join(lines)


def with_docstrings(text: str) -> str:
    """The page of the names, with a link from each name to its docstring, below the table."""
    module = ""

    def section(found: re.Match[str]) -> str:
        nonlocal module
        if found["level"] == "##":
            module = found["title"]
        names = NAME.findall(found["text"])
        linked = NAME.sub(rf"| {{py:obj}}`~{module}.\1` |", found[0])
        return linked + "".join(_documented(module, name) for name in names) + "\n"

    return SECTION.sub(section, text)


def _documented(module: str, name: str) -> str:
    thing: object = getattr(__import__(module, fromlist=[name]), name)
    kind = "function"
    if isinstance(thing, type):
        kind = "exception" if issubclass(thing, BaseException) else "class"
    options = "" if kind == "function" else "\n   :members:\n   :show-inheritance:"
    return f"\n```{{eval-rst}}\n.. auto{kind}:: {module}.{name}{options}\n```\n"


def _transitions(diagram: re.Match[str]) -> str:
    rows = "".join(f"| {a} | {b} | {why} |\n" for a, b, why in ARROW.findall(diagram[1]))
    return f"| status | next | reason |\n|---|---|---|\n{rows}"


def to_public_name(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, text: nodes.TextElement
) -> nodes.Node | None:
    """Lead a reference to a private module's name to the public name, where there is one."""
    name = str(node.get("reftarget", "")).rpartition(".")[2]
    if node.get("refdomain") != "py" or not hasattr(trivet, name):
        return None
    domain = env.get_domain("py")
    return domain.resolve_xref(
        env, node["refdoc"], app.builder, "obj", f"trivet.{name}", node, text
    )


def prepare(
    app: Sphinx, what: str, name: str, thing: object, options: object, lines: list[str]
) -> None:
    """Prepare a docstring for napoleon, and show the part that says when a thing is called."""
    if what == "attribute" and lines:  # The text before the first colon would be its type.
        lines[0] = f": {lines[0]}"
    lines[:] = [re.sub(r"^Life: ", "**Life:** ", line) for line in lines]


def lead_to_first_page(app: Sphinx, error: Exception | None) -> None:
    """Write the page at `/`, which leads to the first one."""
    if error is None:
        first = f"{app.config.root_doc}.html"
        text = f'<!doctype html>\n<meta http-equiv="refresh" content="0; url={first}">\n'
        (Path(app.outdir) / "index.html").write_text(
            f'{text}<title>Trivet</title>\n<a href="{first}">Trivet</a>\n', "utf-8"
        )


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect all of this; Sphinx calls it."""
    app.connect("source-read", complete)
    app.connect("missing-reference", to_public_name)
    app.connect("autodoc-process-docstring", prepare, priority=400)  # Before napoleon.
    app.connect("build-finished", lead_to_first_page)
    return {"parallel_read_safe": True}
