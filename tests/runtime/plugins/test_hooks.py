"""Names and methods of a plugin class, compared with Trivet's: misspelt, hidden, misfit."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from trivet import StartError
from trivet.testing import open_plugins

from ..places import line_of
from .files import PLUGIN, Write, fault, loaded


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
        ("async def degrade(self, reason): ...", "`def degrade(self, reason, *, remedy)`"),
        ("def degrade(self, reason): ...", "`def degrade(self, reason, *, remedy)`"),
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
    assert said.startswith(f"{file}:{line_of(file, method)}: trivet_plugins.mistake.M.{name}: ")
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
    at = f"{file}:{line_of(file, written)} (M.{written})"
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
    assert line["at"] == f"{file}:{line_of(file, f'def {written}(')} (M.{written})"
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
