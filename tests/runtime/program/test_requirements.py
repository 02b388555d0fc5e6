"""The versions of Trivet that a plugin says it is for, in its file or in its distribution."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from .directories import HEADER, TEAPOT, Directory, names

RUNNING = version("trivet")
NEXT = "999"
BLOCK = """
# /// script
# dependencies = [{}]
# ///
raise AssertionError("this code ran")
"""


@pytest.mark.parametrize(
    "listed",
    [
        "",
        "'httpx>=1'",
        "'trivet'",
        f"'trivet>={RUNNING}'",
        f"'trivet[redis]>={RUNNING},<{NEXT}'",
        f"'trivet-billing>={NEXT}'",
        f"'trivet>={NEXT}; python_version < \"3\"'",
    ],
)
def test_code_for_this_version_is_run(directory: Directory, listed: str) -> None:
    """A file that says nothing of Trivet, or names this version, is imported."""
    block = BLOCK.format(listed).partition("raise")[0]
    directory.write("kitchen.py", block + TEAPOT)
    assert names(directory.load("kitchen")) == ["teapot"]


@pytest.mark.parametrize(
    ("listed", "needed"),
    [
        (f"'trivet>={NEXT}'", f"trivet>={NEXT}"),
        (f"'httpx', 'Trivet [redis] <{RUNNING}'", f"trivet<{RUNNING}"),
        (f"\n#   'trivet=={NEXT}',\n# ", f"trivet=={NEXT}"),
    ],
)
def test_code_for_another_version_is_not_run(
    directory: Directory, listed: str, needed: str
) -> None:
    """A file for another version is refused before any of its code runs."""
    file = directory.write("kitchen.py", BLOCK.format(listed) + TEAPOT)
    said = f"{file}: it is for {needed}, and this is trivet {RUNNING}"
    assert directory.fault("kitchen") == said


@pytest.mark.parametrize(
    ("listed", "said"),
    [
        ("'trivet >> 1'", "'trivet >> 1' is no requirement of a plugin"),
        ("\"trivet; dependency_groups == 'x'\"", "is no requirement of a plugin"),
        ("\"trivet; 'x' in extras\"", "is no requirement of a plugin"),
        ("'trivet", "the block `# /// script` is no TOML"),
    ],
)
def test_a_block_that_cannot_be_read(directory: Directory, listed: str, said: str) -> None:
    """A block that is wrong is a fault that names the file, and no code runs."""
    file = directory.write("kitchen.py", BLOCK.format(listed) + TEAPOT)
    found = directory.fault("kitchen")
    assert found.startswith(str(file))
    assert said in found


def test_a_block_without_an_end(directory: Directory) -> None:
    """A block whose last line is missing is a fault, since what it asks for cannot be known."""
    block = BLOCK.format(f"'trivet>={NEXT}'").replace("# ///\n", "")
    directory.write("kitchen.py", block + TEAPOT)
    assert "the block `# /// script` has no end: a line `# ///`" in directory.fault("kitchen")


def test_two_blocks(directory: Directory) -> None:
    """A second block is a fault: nobody could tell which of them counts."""
    block = BLOCK.partition("raise")[0].format("")
    directory.write("kitchen.py", block + block + TEAPOT)
    assert "more than one block `# /// script`" in directory.fault("kitchen")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "latin-1"])
def test_a_file_in_another_encoding(directory: Directory, encoding: str) -> None:
    """A file is read in its own encoding, as Python reads it."""
    block = BLOCK.format(f"'trivet>={NEXT}'")
    text = f"# coding: {encoding}\n# Tee für zwei\n{block}"
    directory.write("kitchen.py", "").write_text(text, encoding=encoding)
    assert f"it is for trivet>={NEXT}" in directory.fault("kitchen")


def test_dependencies_that_are_no_array(directory: Directory) -> None:
    """A text in the place of the array is a fault at the line of the block."""
    file = directory.write("kitchen.py", BLOCK.replace("[{}]", "'trivet'") + TEAPOT)
    lines = file.read_text().splitlines()
    place = f"{file}:{lines.index('# /// script') + 1}"
    assert directory.fault("kitchen") == f"{place}: `dependencies`: expected an array of strings"


def test_all_files_are_told_at_once(directory: Directory) -> None:
    """Each file for another version is a line of its own."""
    for name in ("kitchen", "bar"):
        directory.write(f"{name}.py", BLOCK.format(f"'trivet>={NEXT}'"))
    assert len(directory.fault("kitchen", "bar").splitlines()) == 2


def test_a_module_of_event_types(directory: Directory) -> None:
    """A file that `event_types` names is refused, too."""
    directory.write("orders.py", BLOCK.format(f"'trivet>={NEXT}'"))
    assert f"it is for trivet>={NEXT}" in directory.fault(event_types=["orders"])


@pytest.mark.parametrize(
    ("requirement", "is_right"),
    [(f"trivet>={NEXT}", False), (f"trivet<{NEXT}", True), (f"trivet>={NEXT}; extra == 'x'", True)],
)
def test_a_distribution(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, requirement: str, is_right: bool
) -> None:
    """A distribution for another version, which was installed all the same, is refused by its
    entry point."""
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    info = tmp_path / "tea-1.0.dist-info"
    info.mkdir()
    metadata = f"Metadata-Version: 2.1\nName: tea\nVersion: 1.0\nRequires-Dist: {requirement}\n"
    (info / "METADATA").write_text(metadata)
    (info / "entry_points.txt").write_text("[trivet.plugins]\ntea = tea_for_two\n")
    (tmp_path / "tea_for_two.py").write_text(HEADER + TEAPOT)
    directory = Directory(tmp_path / "plugins")
    if is_right:
        assert names(directory.load("tea")) == ["teapot"]
    else:
        said = (
            f"entry point tea = tea_for_two: it is for trivet>={NEXT}, and this is trivet {RUNNING}"
        )
        assert directory.fault("tea") == said
    sys.modules.pop("tea_for_two", None)
