"""Code that others may write is not run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from trivet import ConfigurationError, Settings
from trivet._program._loader import load

PLUGIN = "from trivet import BackgroundPlugin\n\nclass Kettle(BackgroundPlugin):\n    pass\n"


def program(directory: Path) -> Path:
    """A directory with a plugin, its package of helpers, and a folder that is no code."""
    (directory / "kettle.py").write_text(PLUGIN)
    (directory / "helpers" / "__pycache__").mkdir(parents=True)
    (directory / "helpers" / "__init__.py").write_text("")
    (directory / "helpers" / "__pycache__" / "x.pyc").write_bytes(b"")
    (directory / "bare").mkdir()
    (directory / "bare" / "x.py").write_text("")
    (directory / "data" / "deep").mkdir(parents=True)
    (directory / "not-code").mkdir()
    (directory / "not-code" / "x.py").write_text("")
    (directory / "notes.txt").write_text("")
    return directory


def loaded(directory: Path) -> None:
    """Load the program."""
    load(Settings(active_plugins=["kettle"], plugins_directory=directory))


@pytest.mark.parametrize(
    "name",
    [
        ".",
        "kettle.py",
        "helpers",
        "helpers/__init__.py",
        "helpers/__pycache__",
        "helpers/__pycache__/x.pyc",
        "bare",
        "bare/x.py",
    ],
)
def test_code_that_anybody_may_write_is_refused(name: str, tmp_path: Path) -> None:
    """A directory or a file of code that is writable for everybody is an error that names it, and
    none of the code runs."""
    path = program(tmp_path) / name
    (tmp_path / "kettle.py").write_text("raise SystemExit('it has run')")
    path.chmod(path.stat().st_mode | 0o002)
    with pytest.raises(ConfigurationError) as caught:
        loaded(tmp_path)
    said = str(caught.value)
    assert said.startswith("plugins_directory: any user of this machine may write ")
    assert str(path) in said
    assert said.endswith(": chmod o-w")


def test_other_files_do_not_matter(tmp_path: Path) -> None:
    """A file that no import runs may be writable, and code may be so for the group."""
    program(tmp_path)
    for name in ("notes.txt", "data", "data/deep", "not-code", "not-code/x.py"):
        (tmp_path / name).chmod(0o777)
    (tmp_path / "kettle.py").chmod(0o664)
    (tmp_path / "gone.py").symlink_to(tmp_path / "nothing")
    loaded(tmp_path)


def test_a_link_is_its_target(tmp_path: Path) -> None:
    """A linked file counts as the file that it leads to."""
    (tmp_path / "plugins").mkdir()
    target = tmp_path / "elsewhere.py"
    target.write_text(PLUGIN)
    target.chmod(0o666)
    (tmp_path / "plugins" / "kettle.py").symlink_to(target)
    with pytest.raises(ConfigurationError, match=r"kettle\.py: chmod o-w"):
        loaded(tmp_path / "plugins")


def test_a_linked_folder_is_code_too(tmp_path: Path) -> None:
    """A package that is a link is looked into, and a link to a folder around it ends the search."""
    directory, package = tmp_path / "plugins", tmp_path / "package"
    directory.mkdir()
    package.mkdir()
    (directory / "kettle.py").write_text(PLUGIN)
    (package / "__init__.py").write_text("")
    (directory / "package").symlink_to(package)
    (package / "around").symlink_to(tmp_path)
    loaded(directory)
    (package / "__init__.py").chmod(0o666)
    with pytest.raises(ConfigurationError, match=r"package/__init__\.py: chmod o-w"):
        loaded(directory)


@pytest.mark.parametrize("open_one", ["above", "releases", "elsewhere"])
def test_a_directory_on_the_way_to_code(open_one: str, tmp_path: Path) -> None:
    """A directory above the plugins' one, or above the target of a link, is no place where every
    user may put another one; the sticky bit keeps them from that."""
    for name in ("above", "releases/1", "elsewhere/deep"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "releases" / "1" / "kettle.py").write_text(PLUGIN)
    (tmp_path / "elsewhere" / "deep" / "other.py").write_text(PLUGIN)
    (tmp_path / "releases" / "1" / "other.py").symlink_to(tmp_path / "elsewhere/deep/other.py")
    (tmp_path / "above" / "plugins").symlink_to(tmp_path / "releases" / "1")
    loaded(tmp_path / "above" / "plugins")
    (tmp_path / open_one).chmod(0o1777)
    loaded(tmp_path / "above" / "plugins")
    (tmp_path / open_one).chmod(0o777)
    with pytest.raises(ConfigurationError, match=rf"write \S*/{open_one}: chmod o-w"):
        loaded(tmp_path / "above" / "plugins")


def test_nobody_writes_where_nothing_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a file system that is mounted to be read only, the permissions do not matter."""
    program(tmp_path).chmod(0o777)
    (tmp_path / "kettle.py").chmod(0o666)
    real = os.statvfs

    def statvfs(path: Path) -> os.statvfs_result:
        fields = [*real(path)]
        fields[8] |= os.ST_RDONLY
        return os.statvfs_result(fields)

    monkeypatch.setattr(os, "statvfs", statvfs)
    loaded(tmp_path)


def test_many_files_are_named_by_some(tmp_path: Path) -> None:
    """An error names five files, and the number of the others."""
    program(tmp_path)
    for number in range(8):
        file = tmp_path / f"x{number}.py"
        file.write_text("")
        file.chmod(0o666)
    with pytest.raises(ConfigurationError, match=r"x0\.py, .*x4\.py and 3 more: chmod"):
        loaded(tmp_path)


def test_no_directory_is_no_fault(tmp_path: Path) -> None:
    """A directory that is not there is not refused."""
    load(Settings(event_types=["trivet"], plugins_directory=tmp_path / "missing"))
