"""The overlay: how it is merged, changed, written and read."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from trivet import ConfigurationError, load_settings
from trivet._program._collector import Faults
from trivet._program._overlay import Written, patched, refuse_impossible
from trivet._program._overlay_file import Draft, as_toml, delete_old_drafts
from trivet._program._reading import read_settings


def files(directory: Path, settings: str, overlay: str) -> Path:
    """Write a settings' file and its overlay; returns the former."""
    (directory / "trivet.overlay.toml").write_text(overlay)
    file = directory / "trivet.toml"
    file.write_text(settings)
    return file


def test_the_order_of_the_sources(tmp_path: Path) -> None:
    """The overlay counts over the file, the environment over it, the command line over all."""
    text = "max_body = {0}\nmax_connections = {0}\nservice = '{0}'\nroot_path = '/{0}'"
    file = files(tmp_path, text.format(1), text.split("\nroot", maxsplit=1)[0].format(2))
    environ = {"TRIVET_MAX_CONNECTIONS": "3", "TRIVET_SERVICE": "3"}
    settings = load_settings(file, environ, service="4")
    assert settings.root_path == "/1"
    assert (settings.max_body, settings.max_connections, settings.service) == (2, 3, "4")


def test_tables_are_merged_and_arrays_are_not(tmp_path: Path) -> None:
    """A key of a table stays beside those of the overlay; an array is the overlay's."""
    file = files(
        tmp_path,
        'active_plugins = ["a"]\n[shutdown]\ndrain = 1\nclose = 1',
        'active_plugins = ["b"]\n[shutdown]\ndrain = 2',
    )
    settings = load_settings(file, {})
    assert settings.active_plugins == ["b"]
    assert (settings.shutdown.drain, settings.shutdown.close) == (2, 1)


def test_an_overlay_stands_beside_its_file_or_where_the_file_says(tmp_path: Path) -> None:
    """The file has the settings' name, or the one that `overlay` or the variable has; paths in it
    are relative to the settings' file."""
    file = tmp_path / "shop.toml"
    file.write_text("")
    (tmp_path / "shop.overlay.toml").write_text('service = "beside"\nplugins_directory = "code"')
    settings = load_settings(file, {})
    assert settings.overlay == tmp_path / "shop.overlay.toml"
    assert (settings.service, settings.plugins_directory) == ("beside", tmp_path / "code")
    (tmp_path / "else").mkdir()
    (tmp_path / "else/where.toml").write_text('service = "elsewhere"\nplugins_directory = "code"')
    file.write_text('overlay = "else/where.toml"')
    settings = load_settings(file, {})
    assert (settings.service, settings.plugins_directory) == ("elsewhere", tmp_path / "code")
    environ = {"TRIVET_OVERLAY": str(tmp_path / "none.toml")}
    assert load_settings(file, environ).service == "trivet"


@pytest.mark.parametrize(
    ("overlay", "said"),
    [
        ("max_body = 1\nbind = ]", "line 2"),
        ("max_body = 0", "max_body"),
        ("max_bodi = 1", "max_body"),
        ("overlay = 'other.toml'", "overlay"),
        ("tokens = [{name = 'a', scopes = ['reed'], secret = '0123456789abcdef'}]", "scopes[0]"),
        ("tokens = [{name = 'a', scopes = ['read']}]", "tokens[0].secret"),
    ],
)
def test_a_fault_in_the_overlay_names_it(tmp_path: Path, overlay: str, said: str) -> None:
    """The overlay's name, with the line of what is no TOML, or the key."""
    file = files(tmp_path, "service = 'shop'", overlay)
    faults = Faults()
    read_settings(file, {}, {}, faults)
    (line,) = faults.lines
    assert line.startswith(f"{tmp_path / 'trivet.overlay.toml'}: ")
    assert said in line


def test_a_fault_in_the_file_names_the_file(tmp_path: Path) -> None:
    """Also where the overlay has another key of the same table."""
    file = files(tmp_path, "[shutdown]\ndrain = -1", "[shutdown]\nclose = 1")
    with pytest.raises(ConfigurationError) as refused:
        load_settings(file, {})
    assert str(refused.value).startswith(f"{file}: shutdown.drain: ")


def test_a_missing_key_of_the_file_names_the_file() -> None:
    """Without any file there is the key alone."""
    assert Written().place("tokens[0].name", None) == "tokens[0].name"


# The examples of RFC 7396, as far as the outermost value is a table and TOML can have the result.
@pytest.mark.parametrize(
    ("table", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"a": "foo"}, {"a": {"b": "c"}}, {"a": {"b": "c"}}),
        ({"a": {"b": "c"}}, {"a": {}}, {"a": {"b": "c"}}),
    ],
)
def test_a_patch_is_that_of_the_rfc(table: Any, patch: Any, result: Any) -> None:
    """Null removes, a table is merged, anything else takes the place."""
    before = repr(table)
    assert patched(table, patch) == result
    assert repr(table) == before


def nested(levels: int) -> dict[str, Any]:
    """Tables within one another."""
    found: dict[str, Any] = {"a": 1}
    for _ in range(levels):
        found = {"a": found}
    return found


@pytest.mark.parametrize(
    ("patch", "key"), [({"a": [1, {"b": [None]}]}, "a[1].b[0]"), (nested(99), "a")]
)
def test_a_patch_that_toml_cannot_have_is_refused(patch: dict[str, Any], key: str) -> None:
    """A null in an array, or tables without end, by the key."""
    with pytest.raises(ConfigurationError) as refused:
        refuse_impossible(patch)
    assert str(refused.value).startswith(f"{key}: ")


def test_what_is_written_is_the_same_for_the_same_content() -> None:
    """The order of the keys does not matter, and every character comes back."""
    odd = "\0\x1b\x7f\u2028é\"\\\n'''"
    one = {"b": odd, "a": {"d.e f": [1.5, True], "c": [{"x": 1}]}}
    other = {"a": {"c": [{"x": 1}], "d.e f": [1.5, True]}, "b": odd}
    assert as_toml(one) == as_toml(other)
    assert tomllib.loads(as_toml(one).decode()) == one
    with pytest.raises(ConfigurationError):
        as_toml({"a": float("nan")})


def test_only_the_owner_reads_it(tmp_path: Path) -> None:
    """The file has the mode 0600, also where an operator had given it another one."""
    file = tmp_path / "overlay.toml"
    file.write_text("")
    file.chmod(0o644)
    draft = Draft(file, b"a = 1\n")
    assert file.read_text() == ""
    draft.take_place()
    draft.settle()
    assert file.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["overlay.toml"]


def test_a_symbolic_link_stays_one(tmp_path: Path) -> None:
    """The file that it leads to is written, and need not be there yet."""
    link, file = tmp_path / "link.toml", tmp_path / "there" / "overlay.toml"
    file.parent.mkdir()
    link.symlink_to(file)
    for content in (b"a = 1\n", b"a = 2\n"):
        Draft(link, content).take_place()
        assert link.is_symlink()
        assert file.read_bytes() == content


def test_a_draft_that_is_discarded_leaves_nothing(tmp_path: Path) -> None:
    """The file is as it was, and the draft is gone."""
    file = tmp_path / "overlay.toml"
    Draft(file, b"a = 1\n").discard()
    assert [*tmp_path.iterdir()] == []


def test_drafts_of_processes_that_are_gone_are_deleted(tmp_path: Path) -> None:
    """The next writer deletes the drafts of dead processes, also of one that had its own id, and
    those of no other file; a start does so, too."""
    file = tmp_path / "overlay.toml"
    with subprocess.Popen(["true"]) as dead:
        pass
    own = Draft(file, b"a = 1\n")
    kept = {each.name for each in tmp_path.iterdir()}
    for name in (f".other.toml.{dead.pid}.1.new", f".overlay.toml.{os.getppid()}.1.new"):
        (tmp_path / name).touch()
        kept.add(name)
    old = [f".overlay.toml.{pid}.{10**9}.new" for pid in (dead.pid, os.getpid(), 10**30)]
    for by_start in (False, True):
        for name in old:
            (tmp_path / name).touch()
        if by_start:
            delete_old_drafts(file)
        else:
            Draft(file, b"").discard()
        assert {each.name for each in tmp_path.iterdir()} == kept
    own.take_place()
    delete_old_drafts(tmp_path / "none" / "overlay.toml")


@pytest.mark.parametrize("place", ["none/overlay.toml", "file/overlay.toml", "directory"])
def test_a_place_that_cannot_be_written_to_is_named(tmp_path: Path, place: str) -> None:
    """A directory that is missing or is none, and a directory in the place of the file."""
    (tmp_path / "file").touch()
    (tmp_path / "directory").mkdir()
    with pytest.raises(ConfigurationError) as refused:
        Draft(tmp_path / place, b"")
    assert str(refused.value).startswith(f"{tmp_path / place}: ")


def test_a_disk_that_fails_leaves_no_draft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A draft that could not be brought to the disk is deleted, and the reason is told."""

    def fail(descriptor: int) -> None:
        raise OSError(5, os.strerror(5))

    monkeypatch.setattr("trivet._program._overlay_file.os.fsync", fail)
    with pytest.raises(ConfigurationError) as refused:
        Draft(tmp_path / "overlay.toml", b"a = 1\n")
    assert os.strerror(5) in str(refused.value)
    assert [*tmp_path.iterdir()] == []


WRITING = """
import os, signal, sys
from pathlib import Path
from trivet._program import _overlay_file
from trivet._program._overlay_file import Draft, as_toml

file, found = Path(sys.argv[1]), []
old, new = as_toml({"which": "old"}), as_toml({"which": "new"})


def killed_at(step):
    lines = 0

    def trace(frame, event, argument):
        nonlocal lines
        if frame.f_code.co_filename != _overlay_file.__file__:
            return None
        lines += event == "line"
        if lines == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return trace

    sys.settrace(trace)
    draft = Draft(file, new)
    draft.take_place()
    draft.settle()
    os._exit(0)


status, step = None, 0
while status != 0:
    file.write_bytes(old)
    step += 1
    child = os.fork()
    if not child:
        killed_at(step)
    _, status = os.waitpid(child, 0)
    found.append({old: "old", new: "new"}.get(file.read_bytes(), "half"))
print(*found)
"""
"""A program that writes an overlay again and again, and is killed one line later each time."""


@pytest.mark.process
def test_a_kill_leaves_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    """A writer that is killed at any line leaves the old file, and from some line on the new one;
    what it leaves beside it does not hinder the next."""
    command = [sys.executable, "-c", WRITING, str(tmp_path / "overlay.toml")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = done.stdout.split()
    assert set(found) == {"old", "new"}
    assert found == sorted(found, reverse=True)
    assert len(found) > 15
