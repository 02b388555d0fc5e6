"""Mistakes in a plugin's file are reported at the start: file, line, and the right way."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from typing import Any

import attrs
import pytest
import structlog
from structlog.testing import capture_logs

from trivet import Event
from trivet.testing import client, open_plugins

from ..places import line_of
from .files import PLUGIN, Write, fault, loaded

# Routes.


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("@route\n    async def r(self): return ''", 'write `@route("/…")`'),
        ("@websocket_route\n    async def r(self): ...", 'write `@websocket_route("/…")`'),
        ("@route('/r/{name}')\n    async def r(self, name): return ''", "`<name>`"),
        ("@route('/r/{name:path}')\n    async def r(self, name): return ''", "`<path:name>`"),
        ("@route('/r/:name')\n    async def r(self, name): return ''", "`<name>`"),
        ("@route('/r/*')\n    async def r(self): return ''", "`<path:name>`"),
        ("@route('/r?x=1')\n    async def r(self): return ''", "`quart.request.args`"),
        ("@websocket_route('/r/{name}')\n    async def r(self, name): ...", "`<name>`"),
        ("@route('/r', methods='POST')\n    async def r(self): return ''", "`methods=['POST']`"),
        ("@route('/r', methods=['PSOT'])\n    async def r(self): return ''", "mean 'POST'?"),
        ("@route(b'/r')\n    async def r(self): return ''", 'write `@route("/…")`'),
    ],
)
def test_unreachable_route(write: Write, text: str, says: str) -> None:
    """The decorator without a path, and the syntax of other frameworks, are refused."""
    file = write(PLUGIN + f"    {text}\n")
    said = fault(file)
    place = f"{file}:{line_of(file, '    @')}: "
    assert said.startswith(place)
    assert said.count(place) == 1
    assert says in said


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("@route('/r/<nmae>')\n    async def r(self, name): return ''", "r(self, nmae)`"),
        ("@route('/r/<name>')\n    async def r(self): return ''", "r(self, name)`"),
        ("@route('/r')\n    async def r(self, page): return ''", "r(self)`"),
        ("@websocket_route('/r/<int:n>')\n    async def r(self): ...", "r(self, n)`"),
        (
            "@route('/r/<name>')\n    class R(Handler['M']):\n        async def get(self): ...",
            "get(self, name)`",
        ),
    ],
)
def test_a_route_takes_the_variables_of_its_path(write: Write, text: str, says: str) -> None:
    """A method that does not take the variables of its path is reported with its line."""
    file = write(PLUGIN + f"    {text}\n")
    said = fault(file)
    assert "its arguments are the variables of its path, /r" in said
    assert f"{file}:{line_of(file, 'async def ')}" in said or f"{file}:{line_of(file, '@')}" in said
    assert says in said


def test_decorated_route(write: Write) -> None:
    """The parameters of a decorator's wrapper count, and not those of the wrapped method."""
    file = write("""
        def with_user(method):
            @functools.wraps(method)
            async def wrapper(self, **variables):
                return await method(self, user="ann", **variables)
            return wrapper

        class M(BackgroundPlugin):
            @with_user
            @route("/outer/<name>")
            async def outer(self, name, user): return name

            @route("/inner/<name>")
            @with_user
            async def inner(self, name, user): return name

            @route("/both/<int(min=1):page>")
            @route("/both")
            async def both(self, page=1): return str(page)
    """)
    assert [spec.name for spec in loaded(file).plugins] == ["m"]


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/r/<name:int>", "no converter is named 'name': write `<int:name>`"),
        ("/r/<itn:name>", "no converter is named 'itn': did you mean 'int'?"),
    ],
)
def test_unknown_converter(write: Write, path: str, says: str) -> None:
    """The error names the nearest converter, or the right order of both words."""
    file = write(PLUGIN + f"    @route('{path}')\n    async def r(self, **any): return ''\n")
    said = fault(file)
    assert f"{file}:{line_of(file, 'class M')}" in said
    assert says in said


def test_a_handler_class_has_a_path(write: Write) -> None:
    """A handler class without a route in a plugin's body is refused, unless it is a base."""
    file = write("""
        class M(BackgroundPlugin):
            class Base(Handler["M"]):
                async def get(self): return ""

            @route("/r")
            class R(Base): ...

            class Lost(Handler["M"]):
                async def get(self): return ""
    """)
    said = fault(file)
    assert said.startswith(f"{file}:{line_of(file, 'class M')} (M): no path leads to")
    assert "the handler class Lost: write `@route" in said


@pytest.fixture
def crashes() -> Iterator[list[str]]:
    """The tracebacks in the log."""
    texts: list[str] = []

    def collect(logger: object, method: str, event: Any) -> Any:
        error = event.get("exc_info")
        error = sys.exc_info()[1] if error is True else error
        if error is not None:
            texts.append("".join(traceback.format_exception(error)))
        raise structlog.DropEvent

    structlog.configure(processors=[collect])
    yield texts
    structlog.reset_defaults()


@pytest.mark.parametrize(
    ("answer", "kind"),
    [("{1, 2}", "a set"), ("None", "None"), ("object()", "an object"), ("()", "a tuple")],
)
async def test_answer_of_a_wrong_type(
    write: Write, crashes: list[str], answer: str, kind: str
) -> None:
    """The log names the file, line and method whose result cannot be an answer."""
    file = write(PLUGIN + f"    @route('/r')\n    async def r(self): return {answer}\n")
    async with open_plugins("mistake", directory=file.parent) as runtime:
        assert (await client(runtime).get("/r")).status_code == 500
    (text,) = crashes
    assert f"{file}:{line_of(file, '@route')} (M.r) returned {kind}; " in text
    assert "a route returns a dict" in text


@pytest.mark.parametrize(
    ("answer", "kind"), [('{"a": {1}}', "dict"), ("[{1}]", "list"), ("([{1}], 201)", "list")]
)
async def test_answer_that_is_no_json(
    write: Write, crashes: list[str], answer: str, kind: str
) -> None:
    """A document with a wrong value is said to have one, since its own type is right."""
    file = write(PLUGIN + f"    @route('/r')\n    async def r(self): return {answer}\n")
    async with open_plugins("mistake", directory=file.parent) as runtime:
        assert (await client(runtime).get("/r")).status_code == 500
    (text,) = crashes
    place = f"{file}:{line_of(file, '@route')} (M.r)"
    assert f"{place} returned a {kind} with a value that JSON cannot express" in text
    assert "a route returns" not in text


# Events, settings and neighbours.


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("@dataclasses.dataclass\nclass Lost(Event):\n    a: int", "take its decorator away"),
        ("class Lost(Event):\n    __event_name__: str = 'x'", "`class Lost(Event, name=…)`"),
        ("class Lost(Event):\n    __event_name__ = 'x'", "`class Lost(Event, name=…)`"),
        ("class Lost(Event):\n    __class_id__: int", "`class Lost(Event, name=…)`"),
    ],
)
def test_an_event_is_written_as_one(write: Write, text: str, says: str) -> None:
    """A decorator on an event class, and a field with a name of Trivet's, are refused."""
    file = write(f"{text}\n{PLUGIN}    pass\n")
    said = fault(file)
    assert f"{file}:" in said
    assert "Lost" in said
    assert says in said


def test_a_plugin_is_no_dataclass(write: Write) -> None:
    """The decorator `@dataclass` is refused on a plugin."""
    file = write(f"@dataclasses.dataclass\n{PLUGIN}    url: str = ''\n")
    assert fault(file).endswith(
        "(M): a plugin's fields are fields by themselves; take its decorator away"
    )


def test_field_without_json(write: Write) -> None:
    """A warning names a field that JSON cannot fill: only plugins can publish such an event."""
    file = write("""
        class Other: ...
        class Lost(Event):
            plain: list[dict[str, int]]
            within: list[Other | None]
            wire: socket.socket
        class M(BackgroundPlugin): ...
    """)
    with capture_logs() as logs:
        loaded(file)
    lines = [log for log in logs if log["event"] == "an event with this field cannot come as JSON"]
    assert [(line["field"], line["type"]) for line in lines] == [
        ("within", "Other"),
        ("wire", "socket"),
    ]
    assert {line["at"] for line in lines} == {f"{file}:{line_of(file, 'class Lost')} (Lost)"}


def test_changing_an_event(write: Write) -> None:
    """The error about a changed event names the event, the field and the right way."""

    class Cup(Event):
        size: int = 0

    with pytest.raises(attrs.exceptions.FrozenInstanceError, match=r"Cup\.size: .*attrs\.evolve"):
        Cup().size = 3  # type: ignore[misc]
    with pytest.raises(attrs.exceptions.FrozenInstanceError, match=r"Cup\.size: "):
        delattr(Cup(), "size")


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("url = 'x'", "has it without an annotation; for a setting write `url: str = …` there"),
        ("@property\n    def url(self): return ''", "has a property of this name"),
    ],
)
def test_key_that_is_no_field(write: Write, body: str, says: str) -> None:
    """The error about a key that the class has, but not as a setting, names file and line."""
    file = write(PLUGIN + f"    {body}\n")
    said = fault(file, plugins={"m": {"url": "y"}})
    assert said.startswith("plugins.m.url: unknown key, ")
    assert f"{file}:{line_of(file, 'class M')} (M) {says}" in said


def test_one_plugin_of_a_file_is_activated_by_use(write: Write) -> None:
    """The error about `FILE.PLUGIN` in `active_plugins` names the table to write."""
    said = fault(write(PLUGIN + "    pass\n"), "mistake.m")
    assert "activated by its own name, 'm', and `use = \"mistake.m\"` in the table" in said
    assert said.endswith("[plugins.m]")


def test_a_neighbour_is_imported_with_a_point(write: Write) -> None:
    """The error about importing a file beside the plugin says to write a relative import."""
    file = write("from other import boil\n" + PLUGIN + "    pass\n")
    file.with_name("other.py").write_text("def boil(): ...\n")
    assert "it is a file beside this one: write `from .other import …`" in fault(file)
