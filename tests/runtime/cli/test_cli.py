from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import pytest

from trivet import CriticalPluginError, Settings, StartError, TrivetError
from trivet._process import _changes, _serve
from trivet._program._loader import load

from .commands import trivet


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Settings]:
    """The settings of every program that would have been served; in an empty directory."""
    seen: list[Settings] = []

    def run(settings: Settings, read: object, *, with_parent: bool, reloads: bool) -> int:
        assert with_parent
        assert not reloads
        seen.append(load(settings).settings)
        return 0

    monkeypatch.setattr(_serve, "run", run)
    monkeypatch.chdir(tmp_path)
    return seen


def write_plugin(directory: Path, name: str) -> None:
    """Write a file with one plugin."""
    directory.mkdir(exist_ok=True)
    (directory / f"{name}.py").write_text(
        f"from trivet import BackgroundPlugin\nclass {name.title()}(BackgroundPlugin): ...\n"
    )


def test_the_version_is_the_distributions() -> None:
    """`trivet --version` prints the version of the installed distribution."""
    result = trivet("--version")
    assert result.exit_code == 0
    assert version("trivet") in result.stdout


def test_serve_goes_by_the_settings(served: list[Settings], tmp_path: Path) -> None:
    """`trivet serve` without arguments goes by `./trivet.toml` and the environment."""
    write_plugin(tmp_path / "plugins", "teapot")
    (tmp_path / "trivet.toml").write_text('service = "kitchen"\nactive_plugins = ["teapot"]')
    result = trivet("serve", TRIVET_BIND="127.0.0.1:0")
    assert (result.exit_code, result.output) == (0, "")
    assert [(one.service, one.bind, one.active_plugins) for one in served] == [
        ("kitchen", "127.0.0.1:0", ["teapot"])
    ]


def test_arguments_go_over_the_settings(served: list[Settings], tmp_path: Path) -> None:
    """Plugins, directory and address of the command line replace those of file and environment."""
    write_plugin(tmp_path / "drop-in", "teapot")
    write_plugin(tmp_path / "drop-in", "kettle")
    file = tmp_path / "other.toml"
    file.write_text('active_plugins = ["gone"]\nplugins_directory = "gone"\nservice = "kitchen"')
    arguments = ["--config", str(file), "--plugins", "drop-in", "--bind", "127.0.0.1:1"]
    result = trivet("serve", "teapot", "kettle", *arguments, TRIVET_BIND="127.0.0.1:2")
    assert result.exit_code == 0
    (settings,) = served
    assert settings.active_plugins == ["teapot", "kettle"]
    assert settings.plugins_directory == Path("drop-in")
    assert (settings.bind, settings.service) == ("127.0.0.1:1", "kitchen")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["teapot.py"], "active_plugins: 'teapot.py' is no plugin's name"),
        (["teapto"], "did you mean 'teapot'?"),
        (["--config", "gone.toml"], "gone.toml: cannot be read"),
        (["--bind", "8080"], "bind: expected HOST:PORT"),
        (["--config", "misspelt.toml"], "misspelt.toml: plugins.teapto: "),
    ],
)
def test_a_fault_of_configuration_ends_with_code_2(
    served: list[Settings], tmp_path: Path, arguments: list[str], said: str
) -> None:
    """A wrong configuration is a message on standard error without a traceback, and the code 2."""
    write_plugin(tmp_path / "plugins", "teapot")
    table = 'active_plugins = ["teapot"]\n[plugins.teapto]\ndrinks = "tea"\n'
    (tmp_path / "misspelt.toml").write_text(table)
    result = trivet("serve", *arguments)
    assert (result.exit_code, result.stdout, served) == (2, "", [])
    assert result.stderr.startswith("trivet: ")
    assert said in result.stderr
    assert "Traceback" not in result.stderr


def test_a_wrong_option_ends_with_code_2() -> None:
    """A wrong option ends the command with the code of configuration errors."""
    assert trivet("serve", "--bnd", "x").exit_code == 2


@pytest.mark.parametrize(
    ("error", "code"), [(StartError("no store"), 3), (CriticalPluginError("gave up"), 4)]
)
def test_an_error_of_the_program_ends_with_its_code(
    served: list[Settings], monkeypatch: pytest.MonkeyPatch, error: TrivetError, code: int
) -> None:
    """The error that ends the program decides the exit code."""

    def run(settings: Settings, read: object, *, with_parent: bool, reloads: bool) -> int:
        raise error

    monkeypatch.setattr(_serve, "run", run)
    result = trivet("serve")
    assert (result.exit_code, result.stderr) == (code, f"trivet: {error}\n")


def test_a_fault_of_ours_is_not_dressed_up(
    served: list[Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception that Trivet does not raise on purpose keeps its traceback."""

    def run(settings: Settings, read: object, *, with_parent: bool, reloads: bool) -> int:
        raise ZeroDivisionError

    monkeypatch.setattr(_serve, "run", run)
    assert isinstance(trivet("serve").exception, ZeroDivisionError)


def test_reload_needs_the_parent_and_a_library(
    served: list[Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--reload` with `--no-parent`, or without the library that watches files, is refused."""
    both = trivet("serve", "--reload", "--no-parent")
    assert (both.exit_code, "--reload needs the parent process" in both.output) == (2, True)
    monkeypatch.setattr(_changes, "find_spec", {"watchfiles": None}.get)
    without = trivet("serve", "--reload")
    assert (without.exit_code, "pip install 'trivet[reload]'" in without.output) == (2, True)
    assert served == []
