"""A release: its version, its licences, and what is in it of others."""

from __future__ import annotations

import hashlib
import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from .release import faults

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
VENDORED = ROOT / "runtime/trivet/_web/_page/static/vendor"
RELEASED = """\
# Changelog

## [Unreleased]

## [0.2.0] - 2027-01-31

### Added

- More.

## [0.1.0] - 2026-12-01
"""


def test_a_release_that_is_complete() -> None:
    """A tag of the version, of which the changelog tells first, is released."""
    assert [*faults("v0.2.0", "0.2.0", RELEASED)] == []


@pytest.mark.parametrize(
    ("tag", "changelog", "said"),
    [
        ("v0.3.0", RELEASED, "the tag v0.3.0 is not v0.2.0, the version in pyproject.toml"),
        ("0.2.0", RELEASED, "the tag 0.2.0 is not v0.2.0"),
        ("v0.2.0", RELEASED.replace("[0.2.0]", "[0.2.1]"), "first: the newest is 0.2.1"),
        ("v0.2.0", "# Changelog\n", "`## [0.2.0] - YYYY-MM-DD` first: there is none"),
        ("v0.2.0", RELEASED.replace("2027-01-31", "soon"), "first: the newest is 0.1.0"),
        ("v0.2.0", RELEASED.replace("[Unreleased]\n", "[Unreleased]\n- A thing.\n"), "belong to"),
    ],
)
def test_a_release_that_is_refused(tag: str, changelog: str, said: str) -> None:
    """Another version's tag, and a changelog that does not tell of the version, are refused."""
    (found,) = faults(tag, "0.2.0", changelog)
    assert said in found


def test_each_licence_in_the_package_is_declared() -> None:
    """The licence of every file of others that the wheel has is among the project's."""
    declared = {path for pattern in PROJECT["license-files"] for path in ROOT.glob(pattern)}
    theirs = {path for room in ("runtime", "contrib", "plugins") for path in licences(ROOT / room)}
    assert theirs
    assert declared == {ROOT / "LICENSE", *theirs}
    assert PROJECT["license"] == "Apache-2.0 AND MIT"


def licences(room: Path) -> set[Path]:
    """The files with a licence in a folder."""
    return {path for path in room.rglob("*") if "LICENSE" in path.name}


def test_what_the_wheel_has_of_others_is_listed() -> None:
    """The list of components in the wheel has each vendored file, with its hash."""
    (listed,) = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["hatch"][
        "build"
    ]["targets"]["wheel"]["sbom-files"]
    document = json.loads((ROOT / listed).read_text("utf-8"))
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    known = {
        file["hashes"][0]["content"]
        for component in document["components"]
        for file in component["components"]
    }
    found = {hashlib.sha256(path.read_bytes()).hexdigest() for path in VENDORED.glob("*.js")}
    assert known == found
