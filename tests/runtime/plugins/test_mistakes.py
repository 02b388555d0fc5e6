"""Mistakes in a plugin's file are reported at the start: file, line, and the right way."""

from __future__ import annotations

import sys
import textwrap
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import structlog
from structlog.testing import capture_logs

from trivet import ConfigurationError, Event, Settings, StartError
from trivet._program._loader import Program, load
from trivet.testing import client, open_plugins

HEADER = """\
import attrs, dataclasses, functools, socket, trio
from trivet import *

class Ping(Event):
    number: int = 0

class Pong(Event):
    text: str = ""

"""

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a plugin's file, `mistake.py`, below some imports and two events."""

    def put(text: str) -> Path:
        file = tmp_path / "mistake.py"
        file.write_text(HEADER + textwrap.dedent(text), "utf-8")
        return file

    return put


def loaded(file: Path, *active: str, **more: Any) -> Program:
    """Load the file as the operator names it."""
    names = list(active or ("mistake",))
    return load(Settings(active_plugins=names, plugins_directory=file.parent, **more))


def fault(file: Path, *active: str, **more: Any) -> str:
    """The error's text for a file that should not load."""
    with pytest.raises(ConfigurationError) as caught:
        loaded(file, *active, **more)
    return str(caught.value)


def line_of(file: Path, needle: str) -> int:
    """The number of the first line that contains a text."""
    text = file.read_text("utf-8")
    return text[: text.index(needle)].count("\n") + 1


PLUGIN = "class M(BackgroundPlugin):\n"


@pytest.mark.parametrize(
    ("body", "name", "right"),
    [
        ("log: str = 'x'", "log", "the plugin's logger, which Trivet sets"),
        ("app: str", "app", "the program, which Trivet sets"),
        ("_trivet: str", "_trivet", "Trivet's own side of the plugin, which Trivet sets"),
        ("inbox: list[int] = attrs.field(factory=list)", "inbox", "where the plugin's events"),
        ("log = 'x'", "log", "the plugin's logger"),
        ("def app(self): ...", "app", "the program"),
        ("run: bool = True", "run", "a method of every such plugin"),
        ("degrade: bool = True", "degrade", "a method"),
        ("recover: int = 3", "recover", "a method"),
        ("enter: str = ''", "enter", "a method"),
        ("close: float = 1.0", "close", "a method"),
        ("initialize: bool", "initialize", "a method"),
        ("stopping: bool = False", "stopping", "a property"),
        ("stopping = False", "stopping", "a property"),
        ("run = True", "run", "a method"),
        ("close = None", "close", "a method"),
    ],
)
def test_a_name_of_trivets_is_taken(write: Write, body: str, name: str, right: str) -> None:
    """A setting or value that hides an attribute or method of Trivet's is refused by its name."""
    file = write(PLUGIN + f"    {body}\n")
    said = fault(file)
    assert said.startswith(f"{file}:{line_of(file, 'class M')}: trivet_plugins.mistake.M.{name}: ")
    assert right in said
    assert "choose another name" in said


def test_a_method_may_override_a_method(write: Write) -> None:
    """Any method, also a decorated one, may stand in place of a method of Trivet's."""
    file = write("""
        class M(EventPlugin[Ping]):
            async def initialize(self): ...
            async def close(self): ...
            async def run(self):
                await super().run()
            def wants(self, event):
                return True
            @staticmethod
            def degrade(reason): ...
            @property
            def stopping(self):
                return super().stopping
            @functools.wraps(print)
            async def handle_event(self, *args): ...
    """)
    assert [spec.name for spec in loaded(file).plugins] == ["m"]


@pytest.mark.parametrize(
    ("method", "right"),
    [
        ("async def wants(self, event): return True", "`def wants(self, event)`"),
        ("async def degrade(self, reason): ...", "`def degrade(self, reason)`"),
        ("def initialize(self): ...", "`async def initialize(self)`"),
        ("def close(self): ...", "`async def close(self)`"),
        ("def run(self): ...", "`async def run(self)`"),
        ("def handle_event(self, event): ...", "`async def handle_event(self, event)`"),
        ("async def handle_event(self): ...", "`async def handle_event(self, event)`"),
        ("async def handle_event(self, event, log): ...", "`async def handle_event(self, event)`"),
        ("async def handle_event(self, event):\n        yield", "without one"),
        ("def run(self):\n        yield", "without one"),
        ("async def initialize(self, app): ...", "`async def initialize(self)`"),
        ("def __init__(self): ...", "`def __init__(self, app)`; settings are annotated fields"),
        ("def __init__(self, app, url): ...", "`def __init__(self, app)`; settings are annotated"),
        ("async def __init__(self, app): ...", "`def __init__(self, app)`"),
    ],
)
def test_a_method_is_called_as_trivet_calls_it(write: Write, method: str, right: str) -> None:
    """A method that Trivet could not call or await as it is written is refused."""
    file = write(f"class M(EventPlugin[Ping]):\n    {method}\n")
    said = fault(file)
    name = method.partition("def ")[2].partition("(")[0]
    assert said.startswith(f"{file}:{line_of(file, 'class M')}: trivet_plugins.mistake.M.{name}: ")
    assert right in said


@pytest.mark.parametrize(
    ("base", "method", "right"),
    [
        ("BatchPlugin[Ping]", "def handle_batch(self, events): ...", "async def handle_batch"),
        ("BatchPlugin[Ping]", "async def handle_batch(self): ...", "handle_batch(self, events)"),
        ("MonitoringPlugin", "def flush_points(self, points): ...", "async def flush_points"),
        ("EventSendingPlugin", "async def send_events(self): ...", "send_events(self, event)"),
        ("SourcePlugin", "def run(self): ...", "async def run(self)"),
    ],
)
def test_every_kind_of_plugin_has_its_methods(
    write: Write, base: str, method: str, right: str
) -> None:
    """The methods of each kind of plugin are compared, too."""
    assert right in fault(write(f"class M({base}):\n    {method}\n"))


@pytest.mark.parametrize(
    ("base", "written", "meant"),
    [
        ("BackgroundPlugin", "initialise", "initialize"),
        ("BackgroundPlugin", "initalize", "initialize"),
        ("BackgroundPlugin", "Initialize", "initialize"),
        ("BackgroundPlugin", "cloes", "close"),
        ("MonitoringPlugin", "initialise", "initialize"),
    ],
)
def test_a_misspelt_method_is_refused(write: Write, base: str, written: str, meant: str) -> None:
    """A method that nothing calls, and whose name is nearly that of a hook, is refused."""
    more = "    async def flush_points(self, points): ...\n" if base == "MonitoringPlugin" else ""
    file = write(f"class M({base}):\n{more}    async def {written}(self): ...\n")
    at = f"{file}:{line_of(file, 'class M')} (M)"
    assert fault(file) == f"{at}: Trivet does not call {written}(); did you mean {meant!r}?"


@pytest.mark.parametrize(
    ("base", "method", "written"),
    [
        ("EventPlugin[Ping]", "async def handle_events(self, event): ...", "handle_events"),
        ("EventPlugin[Ping]", "async def on_event(self, event): ...", "on_event"),
        ("BatchPlugin[Ping]", "async def handle_batches(self, events): ...", "handle_batches"),
    ],
)
def test_missing_and_misspelt_method(write: Write, base: str, method: str, written: str) -> None:
    """The error about an unwritten method names the one that was written instead."""
    said = fault(write(f"class M({base}):\n    {method}\n"))
    assert "still to be written: handle_" in said
    assert said.endswith(f"; there is {written}, which Trivet does not call")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("setup", "initialize"),
        ("on_start", "initialize"),
        ("startup", "initialize"),
        ("shutdown", "close"),
        ("on_stop", "close"),
        ("stop", "close"),
        ("main", "run"),
    ],
)
def test_name_of_other_systems(write: Write, written: str, meant: str) -> None:
    """A warning names a method that nothing calls, and that other systems would call."""
    file = write(PLUGIN + f"    async def {written}(self): ...\n")
    with capture_logs() as logs:
        loaded(file)
    (line,) = [log for log in logs if log["event"] == "nothing calls this method"]
    assert line["method"] == written
    assert line["at"] == f"{file}:{line_of(file, 'class M')} (M)"
    assert line["hint"] == f"Trivet calls {meant}()"


@pytest.mark.parametrize(
    "body",
    [
        "async def setup(self): ...\n    async def initialize(self): await self.setup()",
        "async def initialize(self): ...\n    async def setup(self): ...",
        "def closed(self): ...",
        "async def closed(self): ...",
        "def setup(self, url): ...",
        "async def _setup(self): ...",
        "@route('/stop')\n    async def stop(self): return ''",
        "@property\n    def setup(self): ...",
        "async def send_event(self, event): ...",
        "async def runs(self): return []",
    ],
)
def test_names_of_helpers(write: Write, body: str) -> None:
    """A method that is called, marked, private, or unlike any hook raises no alarm."""
    with capture_logs() as logs:
        loaded(write(PLUGIN + f"    {body}\n"))
    errors = [log for log in logs if log.get("method") not in (None, "runs")]
    assert errors == []


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
    assert said.startswith(f"{file}:{line_of(file, '    @')}: ")
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


@pytest.mark.parametrize("answer", ["{1, 2}", "None", "object()"])
async def test_answer_of_a_wrong_type(write: Write, crashes: list[str], answer: str) -> None:
    """The log names the file, line and method whose result cannot be an answer."""
    file = write(PLUGIN + f"    @route('/r')\n    async def r(self): return {answer}\n")
    async with open_plugins("mistake", directory=file.parent) as runtime:
        assert (await client(runtime).get("/r")).status_code == 500
    (text,) = crashes
    assert f"{file}:{line_of(file, '@route')} (M.r) returned " in text
    assert "a route returns a dict" in text


@pytest.mark.parametrize(
    ("base", "method", "other"),
    [
        ("EventPlugin[Ping]", "async def handle_event(self, event: Pong): ...", "Pong"),
        ("EventPlugin[Ping | Pong]", "async def handle_event(self, event: Ping): ...", "Ping"),
        ("BatchPlugin[Ping]", "async def handle_batch(self, events: Batch[Pong]): ...", "Pong"),
    ],
)
def test_annotation_of_a_handler(write: Write, base: str, method: str, other: str) -> None:
    """A handler annotated with another event than its class listens to is refused, with both."""
    file = write(f"class M({base}):\n    {method}\n")
    said = fault(file)
    assert said.startswith(f"{file}:{line_of(file, 'class M')} (M): it listens to P")
    assert f"takes {other}; let them be the same" in said


@pytest.mark.parametrize(
    "annotation", ["Ping", "Event", "'Ping'", "Ping | Pong", "object", "'Nowhere'", "int | Ping"]
)
def test_other_annotations(write: Write, annotation: str) -> None:
    """A wider annotation, or one that only a type checker understands, is accepted."""
    method = f"async def handle_event(self, event: {annotation}): ..."
    file = write(f"class M(EventPlugin[Ping]):\n    {method}\n")
    assert [spec.name for spec in loaded(file).plugins] == ["m"]


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


@pytest.mark.parametrize("method", ["__init__(self, app)", "async initialize(self)"])
async def test_a_method_is_not_hidden_by_a_value_later(write: Write, method: str) -> None:
    """An attribute that the author's code sets in place of a method is refused by its name."""
    head = method.replace("async ", "async def ") if "async" in method else f"def {method}"
    file = write(PLUGIN + f"    {head}:\n        self.degrade = True\n")
    with pytest.raises(StartError, match=r"`self\.degrade = …` hides a method"):
        async with open_plugins("mistake", directory=file.parent):
            pass


async def test_the_inbox_stays(write: Write) -> None:
    """A plugin that replaces its inbox is refused at the start."""
    file = write("""
        class M(EventPlugin[Ping]):
            def __init__(self, app):
                self.app = app
                self.inbox = []
            async def handle_event(self, event): ...
    """)
    with pytest.raises(StartError, match=r"`self\.inbox` is where the plugin's events arrive"):
        async with open_plugins("mistake", directory=file.parent):
            pass
