"""Settings, instances and resources of plugins."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import ClassVar

import attrs
import pytest
import trio
from structlog.testing import capture_logs

from trivet import (
    BackgroundPlugin,
    EventPlugin,
    MonitoringPlugin,
    Plugin,
    SourcePlugin,
)
from trivet._plugins._instance import resources_of
from trivet._plugins._plugin import App
from trivet._plugins._resources import Resources
from trivet._program._inspection import settings_fields

from .stubs import Ping, StubApp, an_inbox, make

# Settings.


class Exporter(BackgroundPlugin):
    limit: int = 10
    url: str
    tags: dict[str, str] = attrs.field(factory=dict[str, str])
    ratio: float = attrs.field(default=0.5, validator=attrs.validators.le(1))
    kind: ClassVar[str] = "exporter"
    _sent: int = 0
    _session: object
    _cache: list[int] = attrs.field(factory=list[int])

    def state(self) -> tuple[int, list[int], bool]:
        return self._sent, self._cache, hasattr(self, "_session")


class LoudExporter(Exporter):
    volume: int


def test_annotated_fields_are_the_settings() -> None:
    """Fields of the class and its bases are settings; private ones and ClassVars are not."""
    assert [field.name for field in settings_fields(Exporter)] == ["limit", "url", "tags", "ratio"]
    assert [field.name for field in settings_fields(LoudExporter)] == [
        "limit",
        "url",
        "tags",
        "ratio",
        "volume",
    ]


@pytest.mark.parametrize("cls", [BackgroundPlugin, SourcePlugin, EventPlugin, MonitoringPlugin])
def test_attributes_of_trivet(cls: type[Plugin]) -> None:
    """`app`, `log` and `inbox` are no settings."""
    assert settings_fields(cls) == []


def test_settings_and_defaults_are_set() -> None:
    """An instance has the operator's values and the author's defaults, made anew for each."""
    exporter, other = make(Exporter, url="u", limit=3), make(Exporter, url="v")
    assert (exporter.url, exporter.limit, exporter.ratio) == ("u", 3, 0.5)
    assert (other.url, other.limit) == ("v", 10)
    assert exporter.tags == {}
    assert exporter.tags is not other.tags


def test_private_fields_are_state_with_a_start_value() -> None:
    """A private field has its default, and one without is set by the author."""
    exporter, other = make(Exporter, url="u"), make(Exporter, url="u")
    assert exporter.state() == (0, [], False)
    assert exporter.state()[1] is not other.state()[1]
    with pytest.raises(TypeError):
        make(Exporter, url="u", sent=5)


def test_attrs_validates_settings() -> None:
    """An author's validator refuses a value, and names the field."""
    with pytest.raises(ValueError, match="'ratio'"):
        make(Exporter, url="u", ratio=2.0)


def test_a_setting_without_a_default_is_required() -> None:
    """A missing setting is an error that names it; it may stand after ones with defaults."""
    with pytest.raises(TypeError, match="url"):
        make(Exporter)
    assert make(LoudExporter, url="u", volume=11).volume == 11


# Instances.


def test_hand_written_init() -> None:
    """A hand-written `__init__(self, app)` finds the settings, the app, the log and the inbox."""

    class Written(EventPlugin[Ping]):
        bucket: str = "b"

        def __init__(self, app: App) -> None:
            super().__init__(app)
            self.log.info("made", bucket=self.bucket)
            self.seen: list[object] = [app, self.app, self.inbox]

    app, inbox = StubApp(), an_inbox()
    with capture_logs() as lines:
        assert make(Written, app=app, inbox=inbox, bucket="c").seen == [app, app, inbox]
    assert [(line["bucket"], line["plugin"]) for line in lines] == [("c", "written")]


def test_init_without_super() -> None:
    """A plugin whose `__init__` forgets `super().__init__(app)` lacks nothing."""

    class Forgetful(BackgroundPlugin):
        bucket: str = "b"

        def __init__(self, app: App) -> None:
            self.session: object = None

    app = StubApp()
    plugin = make(Forgetful, app=app, bucket="c")
    assert (plugin.bucket, plugin.session) == ("c", None)
    assert plugin.stopping is app.stopping


def test_the_log_has_the_plugins_name() -> None:
    """Each line of a plugin's log has the plugin's name."""
    with capture_logs() as lines:
        make(Exporter, url="u").log.info("hello")
    assert lines == [{"event": "hello", "log_level": "info", "plugin": "exporter"}]


def test_instances_are_themselves() -> None:
    """Plugins with equal settings are not equal, and can be keys."""
    assert len({make(Exporter, url="u"), make(Exporter, url="u")}) == 2


# Resources and work.


async def test_enter() -> None:
    """Context managers of both kinds are left when the lifetime ends, the last one first."""
    notes: list[str] = []

    @contextmanager
    def plain() -> Generator[str]:
        yield "plain"
        notes.append("plain left")

    @asynccontextmanager
    async def asynchronous() -> AsyncGenerator[str]:
        yield "async"
        await trio.lowlevel.checkpoint()
        notes.append("async left")

    plugin = make(BackgroundPlugin)
    async with Resources() as resources:
        with resources_of(plugin, resources):
            assert await plugin.enter(plain()) == "plain"
            assert await plugin.enter(asynchronous()) == "async"
            assert isinstance(await plugin.enter(trio.open_nursery()), trio.Nursery)
        assert notes == []
        with pytest.raises(RuntimeError, match="initialize"):
            await plugin.enter(plain())
    assert notes == ["async left", "plain left"]


async def test_enter_in_init() -> None:
    """`enter` in `__init__` is an error, since no lifetime has begun."""
    with pytest.raises(RuntimeError, match="initialize"):
        await make(BackgroundPlugin).enter(trio.open_nursery())


async def test_a_background_plugin_without_a_run_stays() -> None:
    """A plugin that has only routes or resources waits to be cancelled."""
    with trio.move_on_after(0) as scope:
        await make(BackgroundPlugin).run()
    assert scope.cancelled_caught


def test_whether_a_class_is_a_plugin_is_asked_of_that_class_alone() -> None:
    """A class that is no plugin is told from one without a look at every plugin class there is."""
    asked: list[type] = []

    class Asked(type(BackgroundPlugin)):  # type: ignore[misc]
        def __subclasscheck__(cls, other: type) -> bool:
            asked.append(cls)
            return bool(super().__subclasscheck__(other))

    class Idle(BackgroundPlugin, metaclass=Asked):
        pass

    assert issubclass(Idle, BackgroundPlugin)
    assert not issubclass(int, BackgroundPlugin)
    assert asked == []
