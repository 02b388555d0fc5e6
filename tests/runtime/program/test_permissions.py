"""Code that others may write is not run."""

from __future__ import annotations

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
    (directory / "data" / "deep").mkdir(parents=True)
    (directory / "data" / "x.py").write_text("")
    (directory / "notes.txt").write_text("")
    return directory


def loaded(directory: Path) -> None:
    """Load the program."""
    load(Settings(active_plugins=["kettle"], plugins_directory=directory))


@pytest.mark.parametrize(
    "name", [".", "kettle.py", "helpers", "helpers/__init__.py", "helpers/__pycache__/x.pyc"]
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
    for name in ("notes.txt", "data", "data/deep", "data/x.py"):
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
