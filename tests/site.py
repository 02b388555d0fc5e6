"""A look at the built site: `python -m tests.site HTML LINKS` ends with 1 where it has a fault.

Owns the check of the links within the site, and of what a browser fetches for a page; and the list
of the links that lead outside, which are not followed.
Never knows how the site is built.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

FETCHED = {"src", "srcset", "poster", "data"}
"""The attributes whose address a browser fetches by itself; that of a `<link>` is its `href`."""
IN_STYLES = re.compile(r"""(?:url\(|@import)\s*["']?([^"')\s;]+)""")


class Page(HTMLParser):
    """The anchors and addresses of one page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        """The addresses that a reader may follow."""
        self.fetched: list[str] = []
        """The addresses that a browser fetches."""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what the element names."""
        for name, value in attrs:
            if value is None:
                continue
            if name in {"id", "name"}:
                self.anchors.add(value)
            elif name == "href":
                (self.fetched if tag == "link" else self.links).append(value)
            elif name in FETCHED:
                self.fetched.append(value)
            elif name == "style":
                self.fetched += IN_STYLES.findall(value)


def faults(site: Path) -> Iterator[str]:
    """The faults of a site: links that lead nowhere, and resources that are elsewhere."""
    pages = {file: Page(file.read_text("utf-8")) for file in sorted(site.rglob("*.html"))}
    for file, page in pages.items():
        where = file.relative_to(site)
        for link in page.links:
            if not is_outside(link) and not _leads_somewhere(file, link, pages):
                yield f"{where}: nothing is at {link}"
        for address in page.fetched:
            if not _is_here(file, address):
                yield f"{where}: {address} is not a file of the site"
    for style in sorted(site.rglob("*.css")):
        for address in IN_STYLES.findall(style.read_text("utf-8")):
            if not _is_here(style, address):
                yield f"{style.relative_to(site)}: {address} is not a file of the site"


def outside(site: Path) -> list[str]:
    """The links that lead out of the site, in order."""
    pages = (Page(file.read_text("utf-8")) for file in site.rglob("*.html"))
    return sorted({link for page in pages for link in page.links if is_outside(link)})


def is_outside(address: str) -> bool:
    """Whether an address names another host, or something else than a file."""
    parts = urlsplit(address)
    return bool(parts.scheme or parts.netloc)


def _leads_somewhere(file: Path, link: str, pages: dict[Path, Page]) -> bool:
    parts = urlsplit(link)
    target = _target(file, parts.path)
    if not target.is_file():
        return False
    fragment = unquote(parts.fragment)
    return not fragment or target not in pages or fragment in pages[target].anchors


def _is_here(file: Path, address: str) -> bool:
    if address.startswith(("data:", "#")):
        return True
    return not is_outside(address) and _target(file, urlsplit(address).path).is_file()


def _target(file: Path, path: str) -> Path:
    return (file.parent / unquote(path)).resolve() if path else file


def main(site: Path, links: Path) -> int:
    """Print the faults, and write the links that lead outside into a file, one a line."""
    found = list(faults(site))
    away = outside(site)
    links.write_text("".join(f"{link}\n" for link in away), "utf-8")
    print("".join(f"{fault}\n" for fault in found), end="")  # noqa: T201 - its result
    print(f"{len(found)} faults; {len(away)} links lead outside: {links}")  # noqa: T201
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(*(Path(argument).resolve() for argument in sys.argv[1:])))
