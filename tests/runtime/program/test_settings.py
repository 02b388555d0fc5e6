"""Settings from the file, the environment and the command line, and their faults."""

from __future__ import annotations

import errno
import os
import sys
from math import inf
from pathlib import Path
from typing import Any

import pytest
from attrs.validators import ge, gt, le

from trivet import ConfigurationError, Settings, ShutdownSettings, TokenSettings, load_settings

from ..wording import refusal_of

HOST_AND_PORT = "expected HOST:PORT, such as 127.0.0.1:8080 or [::1]:0, unix:/PATH, or systemd"


def write(tmp_path: Path, text: str) -> Path:
    """Write a settings file."""
    file = tmp_path / "trivet.toml"
    file.write_text(text, encoding="utf-8")
    return file


def read(tmp_path: Path, text: str, **environ: str) -> Settings:
    """Load settings from a file's text and an environment."""
    return load_settings(write(tmp_path, text), environ)


def fault(tmp_path: Path, text: str, **environ: str) -> str:
    """The error's text for settings that cannot be loaded."""
    with pytest.raises(ConfigurationError) as caught:
        read(tmp_path, text, **environ)
    return str(caught.value)


# Where the settings come from.


def test_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every setting has a default."""
    monkeypatch.chdir(tmp_path)
    assert load_settings(environ={}) == Settings()


def test_the_file_in_the_working_directory_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`./trivet.toml` is read where no other file is named."""
    write(tmp_path, 'service = "orders"')
    monkeypatch.chdir(tmp_path)
    settings = load_settings(environ={})
    assert (settings.service, settings.file) == ("orders", Path("trivet.toml"))


def test_a_variable_names_the_file(tmp_path: Path) -> None:
    """`TRIVET_CONFIG` names the file where the caller does not."""
    file = write(tmp_path, 'service = "orders"')
    assert load_settings(environ={"TRIVET_CONFIG": str(file)}).service == "orders"


def test_the_environment_is_that_of_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment is that of the process where the caller gives none."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRIVET_SERVICE", "orders")
    assert load_settings().service == "orders"


def test_a_named_file_has_to_exist(tmp_path: Path) -> None:
    """A named file that is missing is an error with its name."""
    with pytest.raises(ConfigurationError) as caught:
        load_settings(tmp_path / "other.toml", {})
    assert str(tmp_path / "other.toml") in str(caught.value)
    assert os.strerror(errno.ENOENT) in str(caught.value)


def test_every_key_of_the_file_is_read(tmp_path: Path) -> None:
    """The file may set every key."""
    settings = read(
        tmp_path,
        """
        service = "orders"
        active_plugins = ["teapot", "handlers"]
        plugins_directory = "/srv/plugins"
        bind = "[::1]:0"
        event_types = ["shop.events"]
        max_body = 1024
        [shutdown]
        requests = 1
        drain = 2.5
        close = 3
        [startup]
        warn_after = 1
        limit = 2
        [log]
        level = "debug"
        format = "json"
        [plugins.teapot]
        step = 2
        """,
    )
    assert settings.active_plugins == ["teapot", "handlers"]
    assert settings.plugins_directory == Path("/srv/plugins")
    assert (settings.bind, settings.max_body) == ("[::1]:0", 1024)
    assert settings.event_types == ["shop.events"]
    assert settings.shutdown == ShutdownSettings(requests=1.0, drain=2.5, close=3.0)
    assert isinstance(settings.shutdown.requests, float)
    assert (settings.startup.warn_after, settings.startup.limit) == (1.0, 2.0)
    assert (settings.log.level, settings.log.format) == ("debug", "json")
    assert settings.plugins == {"teapot": {"step": 2}}


def test_directory_of_the_file(tmp_path: Path) -> None:
    """`plugins_directory` in the file is relative to the file, and not to the working directory."""
    settings = read(tmp_path, 'plugins_directory = "drop-in"')
    assert settings.plugins_directory == tmp_path / "drop-in"


def test_directory_of_the_environment(tmp_path: Path) -> None:
    """`plugins_directory` of a variable is relative to the working directory."""
    settings = read(tmp_path, 'plugins_directory = "x"', TRIVET_PLUGINS_DIRECTORY="drop-in")
    assert settings.plugins_directory == Path("drop-in")


def test_the_environment_goes_over_the_file(tmp_path: Path) -> None:
    """A variable beats the file's key, and leaves its neighbours alone."""
    settings = read(
        tmp_path,
        '[shutdown]\ndrain = 1\nclose = 2\n[plugins.teapot]\nstep = 1\nkind = "green"',
        TRIVET_SHUTDOWN__DRAIN="3",
        TRIVET_PLUGINS__TEAPOT__STEP="2",
        TRIVET_ACTIVE_PLUGINS="teapot, handlers",
    )
    assert (settings.shutdown.drain, settings.shutdown.close) == (3.0, 2.0)
    assert settings.plugins == {"teapot": {"step": "2", "kind": "green"}}
    assert settings.active_plugins == ["teapot", "handlers"]


def test_the_command_line_goes_over_both(tmp_path: Path) -> None:
    """An override beats the variable and the file; None counts as not given."""
    settings = load_settings(
        write(tmp_path, 'bind = "127.0.0.1:1"\nservice = "orders"'),
        {"TRIVET_BIND": "127.0.0.1:2"},
        bind="127.0.0.1:3",
        active_plugins=["teapot"],
        plugins_directory=Path("elsewhere"),
        service=None,
    )
    assert (settings.bind, settings.service) == ("127.0.0.1:3", "orders")
    assert (settings.active_plugins, settings.plugins_directory) == (["teapot"], Path("elsewhere"))


def test_an_empty_variable_is_an_empty_list(tmp_path: Path) -> None:
    """`TRIVET_ACTIVE_PLUGINS=` activates nothing."""
    assert read(tmp_path, 'active_plugins = ["a"]', TRIVET_ACTIVE_PLUGINS="").active_plugins == []


def test_plain_text(tmp_path: Path) -> None:
    """Text in the settings is plain `str`, without the mark of the environment."""
    settings = read(tmp_path, "", TRIVET_SERVICE="orders", TRIVET_EVENT_TYPES="shop.events")
    assert type(settings.service) is str
    assert type(settings.event_types[0]) is str


def test_plugins_in_the_environment(tmp_path: Path) -> None:
    """A plugin's name in capitals, in a variable, leads to the plugin's table."""
    settings = read(
        tmp_path,
        "[plugins.slow-one]\nstep = 1",
        TRIVET_PLUGINS__SLOW_ONE__STEP="2",
        TRIVET_PLUGINS__FAST_ONE__STEP="3",
    )
    assert settings.table("slow-one") == {"step": "2"}
    assert settings.table("fast-one") == {"step": "3"}
    assert settings.table("fast_one") == {"step": "3"}
    assert settings.table("other") == {}


def test_an_unknown_variable_is_only_noted(tmp_path: Path) -> None:
    """An unknown variable is no error: Kubernetes sets `TRIVET_SERVICE_HOST` by itself."""
    settings = read(tmp_path, "", TRIVET_SERVICE_HOST="10.0.0.1", TRIVET_SERVICE="a", PATH="/bin")
    assert settings.unknown_variables == ("TRIVET_SERVICE_HOST",)


# What is wrong with them.


def test_syntax_error(tmp_path: Path) -> None:
    """A file that is no TOML is an error with its name and the line."""
    said = fault(tmp_path, 'service = "a"\nbind: 8080\n')
    assert said.startswith(str(tmp_path / "trivet.toml"))
    assert "line 2" in said


def test_file_that_is_not_utf8(tmp_path: Path) -> None:
    """A file in another encoding is an error with its name."""
    file = tmp_path / "trivet.toml"
    file.write_bytes(b'service = "\xff"')
    with pytest.raises(ConfigurationError, match=r"trivet\.toml"):
        load_settings(file, {})


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(f"a = {'[' * 5000}{']' * 5000}", id="arrays"),
        pytest.param(f"a = {'{b=' * 5000}1{'}' * 5000}", id="tables"),
        pytest.param(f"a = {'9' * 5000}", id="digits"),
        pytest.param('bind = "a\\u0000b:80"', id="nul"),
    ],
)
def test_unreadable_contents(tmp_path: Path, text: str) -> None:
    """A file that the TOML reader cannot handle is an error with its name."""
    assert fault(tmp_path, text).startswith(f"{tmp_path / 'trivet.toml'}: ")


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    """A byte order mark, which some editors write, is skipped."""
    assert read(tmp_path, '\ufeffservice = "a"').service == "a"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("service = 5", "service: expected a string, got an integer"),
        ("max_body = true", "max_body: expected an integer, got a boolean"),
        ("max_body = 1.5", "max_body: expected an integer, got a number"),
        ('max_body = "1"', "max_body: expected an integer, got a string"),
        ("max_body = 0", f"max_body: {refusal_of(gt(0), 'max_body', 0)}"),
        ('[shutdown]\ndrain = "1"', "shutdown.drain: expected a number, got a string"),
        ("[shutdown]\ndrain = true", "shutdown.drain: expected a number, got a boolean"),
        ("[shutdown]\ndrain = -1", f"shutdown.drain: {refusal_of(ge(0), 'drain', -1)}"),
        ("hang_limit = 1e300", f"hang_limit: {refusal_of(le(1e9), 'hang_limit', 1e300)}"),
        ("[shutdown]\nclose = inf", f"shutdown.close: {refusal_of(le(1e9), 'close', inf)}"),
        ("[stalls]\nwarn = 1e300", f"stalls.warn: {refusal_of(le(1e9), 'warn', 1e300)}"),
        ("[startup]\nlimit = 1e300", f"startup.limit: {refusal_of(le(1e9), 'limit', 1e300)}"),
        (
            "[restarts]\nbackoff_max = 1e300",
            f"restarts.backoff_max: {refusal_of(le(1e9), 'backoff_max', 1e300)}",
        ),
        ("shutdown = 3", "shutdown: expected a table, got an integer"),
        ('active_plugins = "teapot"', "active_plugins: expected an array, got a string"),
        ('active_plugins = ["a", 1]', "active_plugins[1]: expected a string, got an integer"),
        (
            'plugins_directory = ["a"]',
            "plugins_directory: expected a path, as a string, got an array",
        ),
        ('[log]\nlevel = "loud"', "log.level: expected one of 'debug', 'info', 'warning', 'error'"),
        ("[log]\nlevel = {}", "log.level: expected one of 'debug', 'info', 'warning', 'error'"),
        ("plugins = 1", "plugins: expected a table, got an integer"),
        ("plugins.teapot = 1", "plugins.teapot: expected a table, got an integer"),
        ('bind = "8080"', f"bind: {HOST_AND_PORT}, not 8080"),
        ('bind = "localhost:65536"', f"bind: {HOST_AND_PORT}, not localhost:65536"),
        ('servce = "a"', "servce: unknown key, did you mean 'service'?"),
        ("[shutdown]\ndrian = 1", "shutdown.drian: unknown key, did you mean 'drain'?"),
        (
            '[log]\nbind = "[::1]:0"',
            "log.bind: unknown key, 'bind' is a key of the program: write it above the first table",
        ),
        ('file = "a"', "file: unknown key, "),
        ("unknown_variables = []", "unknown_variables: unknown key, "),
    ],
)
def test_fault_of_the_file(tmp_path: Path, text: str, said: str) -> None:
    """A wrong type, value or key is an error with the file and the key."""
    assert fault(tmp_path, text).startswith(f"{tmp_path / 'trivet.toml'}: {said}")


def test_a_file_without_an_end() -> None:
    """A device is not read for ever."""
    with pytest.raises(ConfigurationError, match="no settings: more than 16777216 ch"):
        load_settings(Path("/dev/zero"), {})


def test_an_empty_device() -> None:
    """The null device stands for no settings."""
    assert load_settings(Path("/dev/null"), {}).service == "trivet"


def test_a_pipe_may_have_the_settings() -> None:
    """A shell's process substitution is read to its end."""
    read, write = os.pipe()
    os.write(write, b'service = "orders"')
    os.close(write)
    try:
        assert load_settings(Path(f"/dev/fd/{read}"), {}).service == "orders"
    finally:
        os.close(read)


def test_a_path_that_is_too_long() -> None:
    """A path that no system takes is an error like any other file that cannot be read."""
    with pytest.raises(ConfigurationError, match="cannot be read: File name too long"):
        load_settings(Path("a" * 5000), {})


def test_a_deleted_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path is refused; with absolute ones the directory does not matter."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(ConfigurationError, match="working directory, which does not exist any mo"):
        Settings().find_modules()
    monkeypatch.setattr(sys, "path", [])
    Settings(file=tmp_path / "trivet.toml").find_modules()
    assert sys.path == [str(tmp_path)]


def test_faults_together(tmp_path: Path) -> None:
    """Several faults are one error, a line each."""
    said = fault(tmp_path, "service = 5\nbnd = 1\n[shutdown]\ndrain = -1\nclose = true")
    assert sorted(line.split(": ")[1] for line in said.splitlines()) == [
        "bnd",
        "service",
        "shutdown.close",
        "shutdown.drain",
    ]


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("TRIVET_MAX_BODY", "many", "expected an integer"),
        ("TRIVET_MAX_BODY", "0", refusal_of(gt(0), "max_body", 0)),
        ("TRIVET_SHUTDOWN__DRAIN", "soon", "expected a number"),
        ("TRIVET_SHUTDOWN__DRAIN", "-1", refusal_of(ge(0), "drain", -1.0)),
        ("TRIVET_SHUTDOWN__DRIAN", "1", "unknown key, did you mean 'drain'?"),
        ("TRIVET_SHUTDOWN", "1", "expected a table"),
        ("TRIVET_PLUGINS__TEAPOT", "1", "expected a table"),
        ("TRIVET_BIND", "8080", f"{HOST_AND_PORT}, not 8080"),
        ("TRIVET_LOG__LEVEL", "loud", "expected one of 'debug', 'info', 'warning', 'error'"),
        ("TRIVET_SERVICE__NAME", "a", "service is set, and not a table"),
    ],
)
def test_fault_of_the_environment(tmp_path: Path, variable: str, value: str, said: str) -> None:
    """A wrong value of a variable is reported with the variable, and not with the file."""
    assert fault(tmp_path, 'service = "a"', **{variable: value}) == f"{variable}: {said}"


def test_fault_of_the_command_line() -> None:
    """A wrong override is reported with its key, without a file."""
    with pytest.raises(ConfigurationError, match=r"^bind: expected HOST:PORT.*, not 8080$"):
        load_settings(environ={}, bind="8080")


def test_fault_without_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault names its key alone where no file was read."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match=r"^max_body: expected an integer, got a boolean$"):
        load_settings(environ={}, max_body=True)


@pytest.mark.parametrize(
    ("bind", "addresses"),
    [
        ('"127.0.0.1:1"', ["127.0.0.1:1"]),
        ('["127.0.0.1:1", "[::1]:0"]', ["127.0.0.1:1", "[::1]:0"]),
        ('["unix:/run/trivet.socket", "systemd"]', ["unix:/run/trivet.socket", "systemd"]),
        ('"systemd:shop.socket"', ["systemd:shop.socket"]),
    ],
)
def test_addresses(tmp_path: Path, bind: str, addresses: list[str]) -> None:
    """The addresses are one text, or an array; in a variable there are commas between them."""
    assert load_settings(write(tmp_path, f"bind = {bind}"), {}).addresses == addresses
    assert load_settings(None, {"TRIVET_BIND": ", ".join(addresses)}).addresses == addresses


@pytest.mark.parametrize(
    ("bind", "said"),
    [
        ("[]", "names no address"),
        ('["127.0.0.1:1", "127.0.0.1:1"]', "names an address twice"),
        ('["127.0.0.1:1", "here"]', f"{HOST_AND_PORT}, not here"),
        ('"unix:trivet.socket"', f"{HOST_AND_PORT}, not unix:trivet.socket"),
        ('"unix:80"', f"{HOST_AND_PORT}, not unix:80"),
        ('"systemd:"', f"{HOST_AND_PORT}, not systemd:"),
    ],
)
def test_wrong_addresses(tmp_path: Path, bind: str, said: str) -> None:
    """Each address is checked; a Unix socket has a whole path."""
    assert fault(tmp_path, f"bind = {bind}").endswith(f": bind: {said}")


def test_addresses_for_management(tmp_path: Path) -> None:
    """The addresses for management have the forms of `bind`, and are others; there are none by
    default."""
    assert Settings().management_addresses == []
    given = load_settings(write(tmp_path, 'management_bind = "unix:/run/a, 127.0.0.1:0"'), {})
    assert given.management_addresses == ["unix:/run/a", "127.0.0.1:0"]
    twice = 'bind = ["[::1]:1", "[::1]:0"]\nmanagement_bind = ["[::1]:0", "[::1]:1"]'
    assert fault(tmp_path, twice).endswith(": management_bind: [::1]:1 is in `bind`, too")
    wrong = fault(tmp_path, 'management_bind = "here"')
    assert wrong.endswith(f": management_bind: {HOST_AND_PORT}, not here")


# Settings that a program of one's own makes.


def test_a_file_may_be_named_by_a_text(tmp_path: Path) -> None:
    """The file's path need not be a `Path`."""
    file = write(tmp_path, 'service = "shop"')
    assert load_settings(str(file), {}).service == "shop"


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        (
            "plugins_directory",
            "plugins",
            r".*`load_settings\(plugins_directory=",
        ),
        ("overlay", "x.toml", r"overlay: .*`load_settings\(overlay="),
        ("tokens", [{"name": "shop"}], r"tokens: .*`load_settings\(tokens="),
    ],
)
def test_a_value_as_in_a_file_is_refused_where_it_is_given(key: str, value: Any, said: str) -> None:
    """A text or a table in the place of an object is an error that says what makes the object."""
    with pytest.raises(TypeError, match=said):
        Settings(**{key: value})


def test_a_token_asks_for_a_secret() -> None:
    """A text would be shown wherever the token is."""
    secret: Any = "correct-horse-battery"
    with pytest.raises(TypeError, match=r"write `secret=Secret\(…\)`"):
        TokenSettings(name="shop", scopes=["read"], secret=secret)
