from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from datetime import date, datetime, time
from enum import Enum, StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict

import attrs
import pytest
from attrs.validators import ge, gt

from trivet import ConfigurationError, Settings, ShutdownSettings, load_settings
from trivet._program._structuring import EnvText, structure_fields

from ..wording import refusal_of

if TYPE_CHECKING:
    from decimal import Decimal


def write(tmp_path: Path, text: str) -> Path:
    """Write a settings file."""
    file = tmp_path / "trivet.toml"
    file.write_text(text, encoding="utf-8")
    return file


def read(tmp_path: Path, text: str, **environ: str) -> Settings:
    """Load settings from a file's text and an environment."""
    return load_settings(write(tmp_path, text), environ)


def fault(tmp_path: Path, text: str, **environ: str) -> str:
    """What is said of settings that cannot be loaded."""
    with pytest.raises(ConfigurationError) as caught:
        read(tmp_path, text, **environ)
    return str(caught.value)


# Where the settings come from.


def test_without_file_and_environment_the_defaults_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing has to be set."""
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
    """Without an `environ` the process's own is read."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRIVET_SERVICE", "orders")
    assert load_settings().service == "orders"


def test_a_named_file_has_to_exist(tmp_path: Path) -> None:
    """A file that is named and missing is an error with its name."""
    with pytest.raises(ConfigurationError) as caught:
        load_settings(tmp_path / "other.toml", {})
    assert str(tmp_path / "other.toml") in str(caught.value)
    assert os.strerror(errno.ENOENT) in str(caught.value)


def test_every_key_of_the_file_is_read(tmp_path: Path) -> None:
    """The file may set everything that there is."""
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


def test_a_relative_directory_in_the_file_is_relative_to_the_file(tmp_path: Path) -> None:
    """`plugins_directory` in a file does not depend on the working directory."""
    settings = read(tmp_path, 'plugins_directory = "drop-in"')
    assert settings.plugins_directory == tmp_path / "drop-in"


def test_a_relative_directory_of_the_environment_is_the_callers(tmp_path: Path) -> None:
    """Elsewhere than in a file, `plugins_directory` is relative to the working directory."""
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
    """An override beats the variable; None is as not given."""
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


def test_what_is_read_is_plain_text(tmp_path: Path) -> None:
    """No setting keeps the mark of where it came from."""
    settings = read(tmp_path, "", TRIVET_SERVICE="orders", TRIVET_EVENT_TYPES="shop.events")
    assert type(settings.service) is str
    assert type(settings.event_types[0]) is str


def test_a_plugins_table_is_found_in_the_environments_spelling(tmp_path: Path) -> None:
    """A variable's part stands for the table of the file, or the plugin, that it can spell."""
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
    """Kubernetes sets `TRIVET_SERVICE_HOST` for a Service of that name: no error."""
    settings = read(tmp_path, "", TRIVET_SERVICE_HOST="10.0.0.1", TRIVET_SERVICE="a", PATH="/bin")
    assert settings.unknown_variables == ("TRIVET_SERVICE_HOST",)


# What is wrong with them.


def test_a_syntax_error_is_told_with_file_and_line(tmp_path: Path) -> None:
    """A file that is no TOML is an error with its name and the line."""
    said = fault(tmp_path, 'service = "a"\nbind: 8080\n')
    assert said.startswith(str(tmp_path / "trivet.toml"))
    assert "line 2" in said


def test_a_file_that_is_not_utf8_is_told(tmp_path: Path) -> None:
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
def test_a_file_that_is_too_much_for_its_reader_is_told(tmp_path: Path, text: str) -> None:
    """Whatever a file has in it, what is wrong is told with its name."""
    assert fault(tmp_path, text).startswith(f"{tmp_path / 'trivet.toml'}: ")


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    """Some editors write one in front of UTF-8."""
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
        ('bind = "8080"', "bind: expected HOST:PORT, such as 127.0.0.1:8080 or [::1]:0"),
        ('bind = "localhost:65536"', "bind: expected HOST:PORT, such as 127.0.0.1:8080 or [::1]:0"),
        ('servce = "a"', "servce: unknown key, did you mean 'service'?"),
        ("[shutdown]\ndrian = 1", "shutdown.drian: unknown key, did you mean 'drain'?"),
        ('file = "a"', "file: unknown key, "),
        ("unknown_variables = []", "unknown_variables: unknown key, "),
    ],
)
def test_a_fault_of_the_file_is_told_with_its_key(tmp_path: Path, text: str, said: str) -> None:
    """A wrong type, value or key is an error with the file and the key."""
    assert fault(tmp_path, text).startswith(f"{tmp_path / 'trivet.toml'}: {said}")


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
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
        ("TRIVET_BIND", "8080", "expected HOST:PORT, such as 127.0.0.1:8080 or [::1]:0"),
        ("TRIVET_LOG__LEVEL", "loud", "expected one of 'debug', 'info', 'warning', 'error'"),
        ("TRIVET_SERVICE__NAME", "a", "service is set, and not a table"),
    ],
)
def test_a_fault_of_the_environment_is_told_with_the_variable(
    tmp_path: Path, variable: str, value: str, said: str
) -> None:
    """What a variable set is told by the variable's name, not by the file's."""
    assert fault(tmp_path, 'service = "a"', **{variable: value}) == f"{variable}: {said}"


def test_a_fault_of_the_command_line_is_told_by_its_key() -> None:
    """What the caller gave is told without a file."""
    with pytest.raises(ConfigurationError, match=r"^bind: expected HOST:PORT"):
        load_settings(environ={}, bind="8080")


def test_a_fault_without_a_file_is_told_by_its_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no file was read, none is named."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match=r"^max_body: expected an integer, got a boolean$"):
        load_settings(environ={}, max_body=True)


# The types that an author's settings may have.


class Colour(Enum):
    GREEN = "green"
    BLACK = 2


class Size(StrEnum):
    SMALL = "small"


@attrs.frozen
class Leaf:
    origin: str
    grams: float = attrs.field(default=2.0, validator=attrs.validators.gt(0))


@dataclass
class Cup:
    size: int


class Saucer(TypedDict):
    size: int


def fit(kind: Any, value: object) -> Any:
    """Structure one value as a setting of a type."""
    cls = attrs.make_class("Author", {"setting": attrs.field(type=kind)})
    return structure_fields(cls, attrs.fields(cls), {"setting": value})["setting"]


def env(text: str) -> EnvText:
    """Text as a variable gives it."""
    return EnvText(text, "TRIVET_PLUGINS__AUTHOR__SETTING")


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (int, 3, 3),
        (float, 3, 3.0),
        (bool, True, True),
        (str, "a", "a"),
        (Path, "a/b", Path("a/b")),
        (int | None, 3, 3),
        (int | str, "a", "a"),
        (int | str, 3, 3),
        (list[int], [1, 2], [1, 2]),
        (list, [1, "a"], [1, "a"]),
        (set[str], ["a", "a"], {"a"}),
        (frozenset[int], [1], frozenset({1})),
        (tuple[int, ...], [1, 2], (1, 2)),
        (tuple[str, int], ["a", 2], ("a", 2)),
        (dict[str, float], {"a": 1}, {"a": 1.0}),
        (dict[str, list[int]], {"a": [1]}, {"a": [1]}),
        (dict, {"a": {"b": 1}}, {"a": {"b": 1}}),
        (Any, {"a": [1]}, {"a": [1]}),
        (object, {"a": [1]}, {"a": [1]}),
        (Literal["a", 1], 1, 1),
        (Colour, "green", Colour.GREEN),
        (Colour, 2, Colour.BLACK),
        (Size, "small", Size.SMALL),
        (datetime, datetime(2024, 5, 1, 8, 30), datetime(2024, 5, 1, 8, 30)),  # noqa: DTZ001
        (date, date(2024, 5, 1), date(2024, 5, 1)),
        (time, time(8, 30), time(8, 30)),
        (Leaf, {"origin": "Assam"}, Leaf("Assam")),
        (Cup, {"size": 2}, Cup(2)),
        (Saucer, {"size": 2}, {"size": 2}),
        (list[Leaf], [{"origin": "Assam", "grams": 3}], [Leaf("Assam", 3.0)]),
    ],
)
def test_a_value_of_the_file_fits_its_type(kind: Any, value: object, expected: object) -> None:
    """TOML's types are taken as they are; an integer is a number too."""
    result = fit(kind, value)
    assert (type(result), result) == (type(expected), expected)


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        (int, "3", 3),
        (float, "1.5", 1.5),
        (bool, "on", True),
        (bool, "TRUE", True),
        (bool, "yes", True),
        (bool, "1", True),
        (bool, "off", False),
        (bool, "false", False),
        (bool, "no", False),
        (bool, "0", False),
        (str, "3", "3"),
        (Path, "a", Path("a")),
        (int | None, "3", 3),
        (int | str, "a", "a"),
        (list[int], "1, 2", [1, 2]),
        (list[str], "", []),
        (list, "a,b", ["a", "b"]),
        (tuple[int, ...], "1,2", (1, 2)),
        (tuple[str, int], "a,2", ("a", 2)),
        (Literal["a", 1], "1", 1),
        (Colour, "2", Colour.BLACK),
        (Size, "small", Size.SMALL),
        (date, "2024-05-01", date(2024, 5, 1)),
        (Any, "3", "3"),
    ],
)
def test_text_of_the_environment_is_converted_by_the_type(
    kind: Any, text: str, expected: object
) -> None:
    """A variable has text only; the setting's type says what it means."""
    result = fit(kind, env(text))
    assert (type(result), result) == (type(expected), expected)


def test_a_table_of_the_environment_has_plain_keys_and_values() -> None:
    """A setting that takes anything keeps no mark of the environment."""
    result = fit(dict[str, Any], {env("headers"): {env("x"): env("y")}})
    assert result == {"headers": {"x": "y"}}
    (key,), (inner,) = result, result["headers"].items()
    assert {type(text) for text in (key, *inner)} == {str}


@pytest.mark.parametrize(
    ("kind", "value", "said"),
    [
        (int, "3", "setting: expected an integer, got a string"),
        (float, True, "setting: expected a number, got a boolean"),
        (str, 3, "setting: expected a string, got an integer"),
        (int | str, 1.5, "setting: expected a value of the type int | str, got a number"),
        (list[str], "ab", "setting: expected an array, got a string"),
        (list[list[str]], [["a"], "b"], "setting[1]: expected an array, got a string"),
        (tuple[int, int], [1], "setting: expected an array of 2"),
        (tuple[int, int], [1, "a"], "setting: expected an integer, got a string"),
        (dict[str, int], {"a": "b"}, "setting.a: expected an integer, got a string"),
        (dict[str, int], [], "setting: expected a table, got an array"),
        (date, 5, "setting: expected a date, got an integer"),
        (int, date(2024, 5, 1), "setting: expected an integer, got a date"),
        (Colour, "red", "setting: expected one of 'green', 2"),
        (Literal["a", 1], True, "setting: expected one of 'a', 1"),
        (
            str | int | float,
            True,
            "setting: expected a value of the type str | int | float, got a boolean",
        ),
        (int | None, "3", "setting: expected an integer, got a string"),
        (set[str], "ab", "setting: expected an array, got a string"),
        (tuple[str, ...], "ab", "setting: expected an array, got a string"),
        (dict, [], "setting: expected a table, got an array"),
        (
            dict[str, Leaf],
            {"a b": {"origin": 1}},
            "setting.a b.origin: expected a string, got an integer",
        ),
        (Leaf, {"grams": 1}, "setting.origin: required, but not set"),
        (Leaf, {"origin": "a", "gram": 1}, "setting.gram: unknown key, did you mean 'grams'?"),
        (
            Leaf,
            {"origin": "a", "grams": 0},
            f"setting.grams: {refusal_of(gt(0), 'grams', 0.0)}",
        ),
        (list[Leaf], [{"origin": 1}], "setting[0].origin: expected a string, got an integer"),
        (Cup, {"size": "2"}, "setting.size: expected an integer, got a string"),
        (Cup, {}, "setting.size: required, but not set"),
        (Cup, {"size": 2, "sise": 3}, "setting: unknown keys: sise"),
        (Saucer, {"size": "2"}, "setting.size: expected an integer, got a string"),
        (complex, 1, "setting: a setting cannot be of the type <class 'complex'>"),
    ],
)
def test_a_value_that_does_not_fit_is_told_by_its_path(kind: Any, value: object, said: str) -> None:
    """The message leads to the value, however deep in a table or an array it is."""
    with pytest.raises(ConfigurationError) as caught:
        fit(kind, value)
    assert str(caught.value) == said


@pytest.mark.parametrize(
    ("kind", "text", "said"),
    [
        (list[int], "1,secret", "expected an integer"),
        (bool, "secret", "expected a boolean"),
        (date, "secret", "expected a date"),
        (Colour, "secret", "expected one of 'green', 2"),
        (int | float, "secret", "expected a value of the type int | float"),
    ],
)
def test_text_that_does_not_fit_is_told_by_its_variable(kind: Any, text: str, said: str) -> None:
    """The message has the variable's name, and never the text: it may be a secret."""
    with pytest.raises(ConfigurationError) as caught:
        fit(kind, env(text))
    assert str(caught.value) == f"TRIVET_PLUGINS__AUTHOR__SETTING: {said}"


def test_a_field_without_a_type_takes_anything() -> None:
    """Who annotates nothing gets the value as it is, and text as plain text."""
    cls = attrs.make_class("Author", ["setting"])
    values = structure_fields(cls, attrs.fields(cls), {"setting": env("a")})
    assert (values, type(values["setting"])) == ({"setting": "a"}, str)


def below_high(author: Author, _: object, low: int) -> None:
    """Compare two settings, as a validator."""
    if not low < author.high:
        raise ValueError("low must be below high")


def next_to_low(author: Author) -> int:
    """Make a default from another setting."""
    return author.low + 1


def split(words: str | list[str]) -> list[str]:
    """Convert text in an author's own way."""
    return words.split() if isinstance(words, str) else words


@attrs.frozen
class Author:
    token: str = attrs.field(default="t-0", validator=attrs.validators.matches_re("t-[0-9]+"))
    low: int = attrs.field(default=0, validator=below_high)
    high: int = attrs.Factory(next_to_low, takes_self=True)
    words: list[str] = attrs.field(factory=list[str], converter=split)


def structure(**table: object) -> dict[str, Any]:
    """Structure an author's table."""
    return structure_fields(Author, attrs.fields(Author), table, key="plugins.author")


def test_a_validator_sees_the_other_settings() -> None:
    """Validators that compare settings work, with values and defaults alike."""
    assert structure(low=3) == {"low": 3}
    assert structure(low=3, high=5) == {"low": 3, "high": 5}
    with pytest.raises(ConfigurationError, match=r"^plugins\.author\.low: low must be below high$"):
        structure(low=7, high=5)


def test_a_validator_does_not_add_to_what_is_told_already() -> None:
    """Where a setting has failed, a comparison with it is not a second fault."""
    with pytest.raises(ConfigurationError) as caught:
        structure(low=3, high="five", token="t")
    keys = [line.split(": ")[0] for line in str(caught.value).splitlines()]
    assert keys == ["plugins.author.high", "plugins.author.token"]


def test_a_default_is_validated_too() -> None:
    """What attrs would refuse when the instance is made is refused before that."""
    cls = attrs.make_class(
        "Author", {"size": attrs.field(default=0, validator=attrs.validators.gt(0))}
    )
    with pytest.raises(ConfigurationError) as caught:
        structure_fields(cls, attrs.fields(cls), {})
    assert str(caught.value) == f"size: {refusal_of(gt(0), 'size', 0)}"


def test_a_validators_message_does_not_tell_a_secret() -> None:
    """What the operator wrote is cut out of what a validator says of it."""
    with pytest.raises(ConfigurationError) as caught:
        structure(token="hunter2")
    assert "hunter2" not in str(caught.value)
    assert str(caught.value).startswith("plugins.author.token: ")


def test_a_converter_takes_the_value_as_it_was_written() -> None:
    """A field with a converter of its own is the author's to check."""
    (text,) = structure(words=env("a b")).values()
    assert (type(text), text) == (str, "a b")


def test_a_converters_error_is_told_by_its_key() -> None:
    """What an author's converter raises is a fault of that key."""
    cls = attrs.make_class("Author", {"size": attrs.field(type=int, converter=int)})
    with pytest.raises(ConfigurationError, match=r"^size: ") as caught:
        structure_fields(cls, attrs.fields(cls), {"size": "hunter2"})
    assert "hunter2" not in str(caught.value)


@attrs.frozen
class Exact:
    grams: Decimal | None = None


def test_an_annotation_that_cannot_be_evaluated_is_the_authors_fault() -> None:
    """A name that the module does not have at run time is told with the field."""
    with pytest.raises(ConfigurationError, match=r"Exact\.grams: its annotation cannot be"):
        structure_fields(Exact, attrs.fields(Exact), {"grams": 1})
    assert structure_fields(Exact, attrs.fields(Exact), {}) == {}
