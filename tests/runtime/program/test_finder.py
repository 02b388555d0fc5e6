"""Names become modules: files, folders, entry points, and faults on the way."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from trivet import ConfigurationError, load_settings
from trivet._program._loader import load

from ..wording import said_by
from .directories import HEADER, TEAPOT, Directory, names

# Names of files.


def test_a_file_is_activated_by_its_name(directory: Directory) -> None:
    """The name of a file activates its plugins; the plugin's own name comes from its class."""
    directory.write("kitchen.py", TEAPOT)
    assert names(directory.load("kitchen")) == ["teapot"]


def test_a_folder_is_activated_by_its_name(directory: Directory) -> None:
    """A plugin may be a package, with its class in a module of its own."""
    directory.write("kitchen/__init__.py", "from ._teapot import Teapot")
    directory.write("kitchen/_teapot.py", TEAPOT)
    assert names(directory.load("kitchen")) == ["teapot"]


def test_a_file_does_not_shadow_a_library(directory: Directory) -> None:
    """`plugins/json.py` and the library `json` are two modules side by side."""
    directory.write("json.py", "import json\nassert json.dumps\n" + TEAPOT)
    assert names(directory.load("json")) == ["teapot"]


def test_neighbours_import_each_other(directory: Directory) -> None:
    """A relative import works, and activates nothing."""
    directory.write("kitchen.py", TEAPOT)
    directory.write("bar.py", "from .kitchen import Teapot\nclass Cup(BackgroundPlugin): ...")
    assert names(directory.load("bar")) == ["cup"]
    assert names(directory.load("bar", "kitchen")) == ["cup", "teapot"]


def test_a_directory_is_read_anew_each_time(directory: Directory) -> None:
    """A second program knows nothing of the directory of the first."""
    directory.write("kitchen.py", TEAPOT + "\nclass Boiled(Event): ...")
    first = directory.load("kitchen")
    other = Directory(directory.path.parent / "other")
    other.write("kitchen.py", "class Kettle(BackgroundPlugin): ...")
    second = other.load("kitchen")
    assert (names(first), names(second)) == (["teapot"], ["kettle"])
    assert second.events.get("boiled") is None


def test_a_name_twice_is_one_plugin(directory: Directory) -> None:
    """A name that is written twice activates one plugin."""
    directory.write("kitchen.py", TEAPOT)
    assert names(directory.load("kitchen", "kitchen")) == ["teapot"]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("kitchen.py", "write it without .py: 'kitchen'"),
        ("sub/kitchen", "a name has no path in it"),
        ("../kitchen", "a name has no path in it"),
        ("..", "a name has no path in it"),
        ("sub\\kitchen", "a name has no path in it"),
        ("kit-chen", "letters, digits and underscores"),
        ("", "letters, digits and underscores"),
    ],
)
def test_no_module_name(directory: Directory, name: str, hint: str) -> None:
    """A word that cannot be a module's name is refused with a hint, and not looked for."""
    directory.write("kitchen.py", TEAPOT)
    said = directory.fault(name)
    assert said.startswith(f"active_plugins: {name!r} is no plugin's name: ")
    assert hint in said


def test_misspelt_name(directory: Directory) -> None:
    """The error about a missing plugin names the directory and the nearest plugin there."""
    directory.write("kitchen.py", TEAPOT)
    said = directory.fault("kitchn")
    assert f"no plugin 'kitchn' in {directory.path}" in said
    assert "did you mean 'kitchen'?" in said


def test_helpers_are_not_suggested(directory: Directory) -> None:
    """A file with a leading underscore is never suggested as a plugin."""
    directory.write("_kitchen.py", TEAPOT)
    assert "_kitchen" not in directory.fault("kitchen")


def test_missing_directory(directory: Directory) -> None:
    """The error about a missing plugin says that its directory is missing too."""
    assert "which does not exist" in directory.fault("kitchen")


def test_a_name_that_is_too_long(directory: Directory) -> None:
    """A name that no system takes is that of no plugin, and of no module with event types."""
    assert directory.fault("a" * 5000).startswith("active_plugins: no plugin 'aaa")
    assert "No module named 'aaa" in directory.fault(event_types=["a" * 5000])


def test_a_directory_that_is_too_long(directory: Directory) -> None:
    """A path that no system takes is a directory that does not exist."""
    too_long = Directory(directory.path / ("a" * 5000))
    assert "which does not exist" in too_long.fault("kitchen")


def test_faults_of_names_together(directory: Directory) -> None:
    """Each active plugin that cannot be loaded has a line of the error."""
    directory.write("kitchen.py", "1 / 0")
    lines = directory.fault("bar", "kitchen", "x.py").splitlines()
    assert ["'bar'" in lines[0], "ZeroDivisionError" in lines[1], "'x.py'" in lines[2]] == [
        True
    ] * 3


# Entry points.


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str, str], None]:
    """Install a distribution with one module, which an entry point names."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.setattr(sys, "path", [str(site), *sys.path])

    def install(distribution: str, entry_point: str, text: str) -> None:
        module = entry_point.split(" = ")[1]
        info = site / f"{distribution}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0")
        (info / "entry_points.txt").write_text(f"[trivet.plugins]\n{entry_point}\n")
        (site / f"{module}.py").write_text(HEADER + text)

    return install


def test_an_entry_point_is_activated_by_its_name(
    directory: Directory, install: Callable[[str, str, str], None]
) -> None:
    """The module of another distribution is activated as a file is."""
    install("trivet_kettle", "kettle = installed_kettle", TEAPOT + "\nclass Boiled(Event): ...")
    program = directory.load("kettle")
    assert names(program) == ["teapot"]
    assert program.events["boiled"].__module__ == "installed_kettle"


def test_a_file_beats_an_entry_point(
    directory: Directory, install: Callable[[str, str, str], None]
) -> None:
    """A file is loaded instead of an entry point of the same name, and a warning names both."""
    install("trivet_kettle", "kettle = hidden_kettle", "1 / 0")
    file = directory.write("kettle.py", TEAPOT)
    with capture_logs() as logs:
        assert names(directory.load("kettle")) == ["teapot"]
    (entry,) = logs
    assert entry["log_level"] == "warning"
    assert (entry["name"], entry["file"], entry["hidden"]) == ("kettle", str(file), "hidden_kettle")


def test_two_entry_points_of_one_name(
    directory: Directory, install: Callable[[str, str, str], None]
) -> None:
    """Two distributions with one name are refused, since nobody can tell which is meant."""
    install("trivet_kettle", "kettle = one_kettle", TEAPOT)
    install("trivet_other", "kettle = other_kettle", TEAPOT)
    said = directory.fault("kettle")
    assert "two entry points are named 'kettle': one_kettle and other_kettle" in said


def test_an_entry_point_is_suggested(
    directory: Directory, install: Callable[[str, str, str], None]
) -> None:
    """Entry points are among the suggestions for a misspelt name."""
    install("trivet_kettle", "kettle = kettle_module", TEAPOT)
    assert "did you mean 'kettle'?" in directory.fault("kettl")


def test_fault_behind_an_entry_point(
    directory: Directory, install: Callable[[str, str, str], None], tmp_path: Path
) -> None:
    """An error in the module of a distribution is reported with its file and line."""
    install("trivet_kettle", "kettle = failing_kettle", "1 / 0")
    assert directory.fault("kettle").startswith(f"{tmp_path}/site/failing_kettle.py:4: ")


def test_entry_point_without_module(
    directory: Directory, install: Callable[[str, str, str], None], tmp_path: Path
) -> None:
    """The entry point is named where there is no file and line."""
    install("trivet_kettle", "kettle = gone_kettle", "")
    (tmp_path / "site" / "gone_kettle.py").unlink()
    said = directory.fault("kettle")
    assert said.startswith("entry point kettle = gone_kettle: ModuleNotFoundError")


# Failing imports.


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("class Teapot(\n", 4, f"SyntaxError: {said_by(compile, 'class Teapot(', '', 'exec')}"),
        ("x = 1\ny = x / 0", 5, f"ZeroDivisionError: {said_by(lambda: 1 / 0)}"),
        (
            "import no_such_library",
            4,
            f"ModuleNotFoundError: {said_by(import_module, 'no_such_library')}",
        ),
        ("raise SystemExit('enough')", 4, "SystemExit: enough"),
        ("def f():\n    raise ValueError('deep')\nf()", 5, "ValueError: deep"),
        (
            "class Mute(Exception):\n    def __str__(self):\n        exit(5)\nraise Mute",
            7,
            "Mute: its text raises SystemExit",
        ),
        ("import json\njson.loads('{')", 5, "JSONDecodeError: "),
    ],
)
def test_fault_at_import(directory: Directory, text: str, line: int, said: str) -> None:
    """An error in a module is reported with the deepest line of the author's code."""
    file = directory.write("kitchen.py", text)
    message = directory.fault("kitchen")
    assert message.startswith(f"{file}:{line}: {said}")
    assert "'kitchen'" in message


def test_cause_of_a_fault_at_import(directory: Directory) -> None:
    """The original exception is the error's cause, so that its traceback can be shown."""
    directory.write("kitchen.py", "1 / 0")
    with pytest.raises(ConfigurationError) as caught:
        directory.load("kitchen")
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_fault_in_a_neighbour(directory: Directory) -> None:
    """An error in a helper is reported with the helper's file and line."""
    directory.write("kitchen.py", "from ._helper import boil\n" + TEAPOT)
    helper = directory.write("_helper.py", "1 / 0")
    assert directory.fault("kitchen").startswith(f"{helper}:4: ZeroDivisionError")


def test_file_that_is_no_text(directory: Directory) -> None:
    """A file that Python cannot read is reported by its name."""
    file = directory.write("kitchen.py", "")
    file.write_bytes(b"x = 0\0")
    assert directory.fault("kitchen").startswith(f"{file}")


def test_fault_in_a_class(directory: Directory) -> None:
    """LUNA's spelling is refused with the line of the class."""
    file = directory.write("kitchen.py", 'class Teapot(BackgroundPlugin):\n    eventName = "x"')
    said = directory.fault("kitchen")
    assert said.startswith(f"{file}:4: trivet_plugins.kitchen.Teapot: LUNA's 'eventName'")


# Modules of event types.


def test_event_types_in_the_directory(directory: Directory) -> None:
    """`event_types` names a file in the directory, and plugins import the same classes from it."""
    directory.write("orders.py", "class OrderSeen(Event): ...")
    directory.write(
        "audit.py",
        """
        from .orders import OrderSeen
        class Audit(EventPlugin[OrderSeen]):
            async def handle_event(self, event): ...
        """,
    )
    program = directory.load("audit", event_types=["orders"])
    assert program.plugins[0].listens_to == (program.events["order_seen"],)


def test_event_types_elsewhere(
    directory: Directory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`event_types` names any module that Python can import, by its full name."""
    Directory(tmp_path / "site").write("shop_types/orders.py", "class OrderSeen(Event): ...")
    monkeypatch.setattr(sys, "path", [str(tmp_path / "site"), *sys.path])
    program = directory.load(event_types=["shop_types.orders"])
    assert program.events["order_seen"].__module__ == "shop_types.orders"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("no_such_module", f"ModuleNotFoundError: {said_by(import_module, 'no_such_module')} ("),
        ("../orders", "'../orders' is no module's name: write it as an import does"),
        ("orders.py.", "'orders.py.' is no module's name: write it as an import does"),
    ],
)
def test_missing_event_types(directory: Directory, name: str, said: str) -> None:
    """The error about a missing module names the setting."""
    message = directory.fault(event_types=[name])
    assert said in message
    assert "event_types" in message


@pytest.mark.parametrize("name", ["no_such_module", "../orders", "json"])
def test_a_wrong_name_in_a_variable(tmp_path: Path, name: str) -> None:
    """The error about a module that a variable names has the variable, and not the file."""
    file = tmp_path / "trivet.toml"
    file.write_text('event_types = ["from_the_file"]\n', "utf-8")
    settings = load_settings(file, {"TRIVET_EVENT_TYPES": name})
    with pytest.raises(ConfigurationError) as caught:
        load(settings)
    assert "TRIVET_EVENT_TYPES" in str(caught.value)
    assert "trivet.toml" not in str(caught.value)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("shop_types.order", "shop_types.orders"),
        ("shop_tipes.orders", "shop_types"),
        ("drinkz", "drinks"),
    ],
)
def test_misspelt_event_types(
    directory: Directory, monkeypatch: pytest.MonkeyPatch, written: str, meant: str
) -> None:
    """A misspelt module is reported with the settings' file and the nearest module."""
    monkeypatch.chdir(directory.path.parent)
    Directory(Path()).write("shop_types/__init__.py", "")
    Directory(Path()).write("shop_types/orders.py", "class OrderSeen(Event): ...")
    directory.write("drinks.py", "class Poured(Event): ...")
    monkeypatch.setattr(sys, "path", [str(directory.path.parent), *sys.path])
    message = directory.fault(event_types=[written], file=Path("trivet.toml"))
    assert f"; did you mean {meant!r}? (" in message
    assert "`trivet.toml: event_types`" in message
    assert "from ." not in message
