from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from trivet._cli._new import KINDS

from .commands import trivet, write


def passes_its_tests(directory: Path, **environ: str) -> bool:
    """Whether pytest passes in a directory that knows nothing of this project."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", "."]
    done = subprocess.run(command, cwd=directory, env={**os.environ, **environ}, check=False)
    return done.returncode == 0


@pytest.mark.process
@pytest.mark.parametrize("kind", KINDS)
def test_a_new_plugin_passes_its_test(here: Path, kind: str) -> None:
    """A plugin of each kind passes the test that is written with it."""
    result = trivet("new", kind, "tea_time")
    assert result.exit_code == 0
    assert (here / "plugins/tea_time.py").exists()
    assert passes_its_tests(here)


@pytest.mark.process
@pytest.mark.parametrize("kind", KINDS)
def test_a_new_package_passes_its_test(here: Path, kind: str) -> None:
    """A package of each kind, once it is installed, passes the test that is written with it."""
    assert trivet("new", kind, "tea_time", "--package").exit_code == 0
    package = here / "trivet-tea-time"
    project = tomllib.loads((package / "pyproject.toml").read_text())["project"]
    installed = here / "installed/trivet_tea_time-0.1.0.dist-info"
    write(installed / "METADATA", f"Name: {project['name']}\nVersion: {project['version']}\n")
    (name, module), *_ = project["entry-points"]["trivet.plugins"].items()
    write(installed / "entry_points.txt", f"[trivet.plugins]\n{name} = {module}\n")
    path = os.pathsep.join([str(package / "src"), str(installed.parent)])
    assert passes_its_tests(package, PYTHONPATH=path)


def test_the_first_plugin_gets_settings(here: Path) -> None:
    """The settings' file is written with the first plugin, and left alone afterwards."""
    trivet("new", "event", "tea_time")
    first = (here / "trivet.toml").read_text()
    assert trivet("check").exit_code == 0
    result = trivet("new", "background", "kettle")
    assert (here / "trivet.toml").read_text() == first
    assert 'add "kettle" to active_plugins' in result.stdout


def test_the_settings_say_where_plugins_are(here: Path) -> None:
    """The file goes into `plugins_directory`, and its test beside that directory."""
    write(here / "trivet.toml", 'plugins_directory = "service/extensions"')
    trivet("new", "event", "tea_time")
    assert (here / "service/extensions/tea_time.py").exists()
    test = (here / "service/tests/test_tea_time.py").read_text()
    assert 'Path(__file__).parents[1] / "extensions"' in test


def test_no_file_is_overwritten(here: Path) -> None:
    """A file that exists is named and left alone, and no other file is written."""
    write(here / "tests/test_tea_time.py", "mine")
    result = trivet("new", "event", "tea_time")
    assert result.exit_code == 2
    assert "tests/test_tea_time.py" in result.stderr
    assert (here / "tests/test_tea_time.py").read_text() == "mine"
    assert not (here / "plugins/tea_time.py").exists()


@pytest.mark.parametrize(
    ("name", "better"),
    [
        ("TeaTime", "tea_time"),
        ("tea-time", "tea_time"),
        ("tea__time", ""),
        ("class", ""),
        ("../tea", ""),
        ("7up", ""),
    ],
)
def test_a_name_must_be_a_files_and_a_plugins(here: Path, name: str, better: str) -> None:
    """A name from which the plugin's own name would differ is refused with a right spelling."""
    result = trivet("new", "event", name)
    assert result.exit_code == 2
    assert repr(name) in result.stderr
    assert better in result.stderr
    assert [*here.iterdir()] == []


@pytest.mark.parametrize("has_pytest_trio", [True, False])
def test_the_test_runs_with_the_python_that_has_trivet(
    here: Path, monkeypatch: pytest.MonkeyPatch, has_pytest_trio: bool
) -> None:
    """The command for the test names Python's own pytest, and installs what is not there."""
    if not has_pytest_trio:
        monkeypatch.setitem(sys.modules, "pytest_trio", None)
    (line,) = [
        each for each in trivet("new", "event", "tea_time").stdout.splitlines() if "test it" in each
    ]
    install = "" if has_pytest_trio else "pip install 'trivet[testing]' && "
    assert line == f"to test it: {install}python -m pytest tests/test_tea_time.py"
