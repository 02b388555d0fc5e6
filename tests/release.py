"""The rules of a release: `python -m tests.release v0.1.0`.

Owns the comparison of a tag, the version and the changelog.
Never knows how a distribution is built, nor where it is published.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
RELEASED = re.compile(r"^## \[([^]]+)\] - (\d{4}-\d{2}-\d{2})$", re.MULTILINE)
"""The headline of a release in the changelog, in the form of Keep a Changelog."""
UNRELEASED = re.compile(r"^## \[Unreleased\]\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)


def faults(tag: str, version: str, changelog: str) -> Iterator[str]:
    """The faults that speak against the release of a tag, a line each.

    Args:
        tag: such as `v0.1.0`.
        version: that of `pyproject.toml`, the only place that has it.
        changelog: its text.
    """
    if tag != f"v{version}":
        yield f"the tag {tag} is not v{version}, the version in pyproject.toml"
    releases = [name for name, _ in RELEASED.findall(changelog)]
    if releases[:1] != [version]:
        newest = f"the newest is {releases[0]}" if releases else "there is none"
        yield f"CHANGELOG.md needs the release `## [{version}] - YYYY-MM-DD` first: {newest}"
    if any(text.strip() for text in UNRELEASED.findall(changelog)):
        yield f"CHANGELOG.md has changes under [Unreleased]: they belong to {version}"


def main() -> None:
    """Print the faults of a release, and exit with 1 if anything does."""
    (tag,) = sys.argv[1:]
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    found = [*faults(tag, version, (ROOT / "CHANGELOG.md").read_text("utf-8"))]
    for fault in found:
        sys.stderr.write(f"{fault}\n")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
