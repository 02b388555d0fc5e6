"""A plugin that ends the program again and again starts disabled, and the others serve."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from trivet._process._parent._last_words import LastWords, create_report
from trivet._process._parent._suspects import FILE, PLUGIN, SafeMode, suspects_of

from .test_serve import RECORDER, plugins, running, serving

__all__ = ["plugins"]

FILES = {"/p/a.py": ["a"], "/p/pair.py": ["left", "right"], "/lib/shop/": ["shop"]}
BOTH = [(PLUGIN, "left"), (PLUGIN, "right")]
SEGFAULT = """Fatal Python error: Segmentation fault

Thread 0x00007f01 (most recent call first):
  File "/p/a.py", line 3 in watch

Current thread 0x00007f02 (most recent call first):
  File "/usr/lib/python3.11/ctypes/__init__.py", line 519 in string_at
  File "{path}", line 9 in handle_event
  File "/site/trio/_core/_run.py", line 2000 in unrolled_run

Extension modules: x
"""
EXIT = """os._exit(7) was called
  File "/site/trivet/_process/_serve.py", line 1, in run
  File "{path}", line 2, in handle_event
  File "/usr/lib/python3.11/shutil.py", line 2, in rmtree
"""
HELD = "the event loop is held for 60.0 s, and the watchdog's thread ends the process\n"


def words_of(note: str, text: str) -> LastWords:
    """A report with these words."""
    descriptor = create_report()
    try:
        os.pwrite(descriptor, note.encode(), 0)
        os.write(descriptor, text.encode())
        return LastWords(descriptor)
    finally:
        os.close(descriptor)


@pytest.mark.parametrize(
    ("note", "text", "suspects"),
    [
        ("", SEGFAULT.format(path="/p/a.py"), [(PLUGIN, "a")]),
        ("", SEGFAULT.format(path="/lib/shop/deep/x.py"), [(PLUGIN, "shop")]),
        ("", SEGFAULT.format(path="/p/pair.py"), BOTH),
        ("close() of 'right'", SEGFAULT.format(path="/p/pair.py"), [(PLUGIN, "right")]),
        (
            "initialize() of 'a'",
            SEGFAULT.format(path="/p/pair.py"),
            [(PLUGIN, "left"), (PLUGIN, "right")],
        ),
        ("", SEGFAULT.format(path="/p/other.py"), []),
        ("", EXIT.format(path="/p/a.py"), [(PLUGIN, "a")]),
        ("the import of 'b'", SEGFAULT.format(path="/p/b.py"), [(FILE, "b")]),
        ("the import of 'b'", "", [(FILE, "b")]),
        ("initialize() of 'a'", "", [(PLUGIN, "a")]),
        ("initialize() of 'a', close() of 'b'", "", []),
        ("", HELD + "plugin 'a': 1 task has not ended\n", [(PLUGIN, "a")]),
        ("", HELD + "plugin 'a': 1 task has not ended\nplugin 'b': 2 tasks have not ended\n", []),
        ("", "plugin 'a' has broken the event loop\n", [(PLUGIN, "a")]),
        ("", "plugin 'a' or 'b' has broken the event loop\n", []),
        ("", "", []),
    ],
)
def test_the_evidence(note: str, text: str, suspects: list[tuple[str, str]]) -> None:
    """A death is put down to the plugin whose code the thread that died ran, or else to the one
    that was imported, started or closed; to nobody where that is not clear."""
    assert suspects_of(words_of(note, text), FILES) == suspects


def test_the_number_of_deaths() -> None:
    """Deaths count until the program is well for a while, also across a restart by an operator,
    which enables the plugin for one try; with a limit of 0 they never do."""
    suspects = [(PLUGIN, "a")]
    mode = SafeMode()
    assert mode.died(suspects, 2) == []
    mode.was_well()
    assert mode.died(suspects, 2) == []
    (line,) = mode.died(suspects, 2)
    assert line.startswith("plugin 'a' starts disabled: the last 2 deaths")
    assert list(mode.disabled[PLUGIN]) == ["a"]
    assert mode.died(suspects, 2) == []
    mode.reset()
    assert not any(mode.disabled.values())
    (line,) = mode.died(suspects, 2)
    assert "the last 4 deaths" in line
    mode.reset()
    mode.was_well()
    assert [mode.died(suspects, 0) for _ in range(9)] == [[]] * 9


BAD = {
    "import": "import os\nos.abort()",
    "exit at import": "import os\nos._exit(9)",
    "initialize": """
        import os
        from trivet import BackgroundPlugin
        class Bad(BackgroundPlugin):
            async def initialize(self):
                os.abort()
    """,
    "segfault": """
        import ctypes
        from trivet import EventPlugin
        from .recorder import Ping
        class Bad(EventPlugin[Ping]):
            async def handle_event(self, event):
                ctypes.string_at(0)
    """,
    "exit": """
        import os
        from trivet import EventPlugin
        from .recorder import Ping
        class Bad(EventPlugin[Ping]):
            async def handle_event(self, event):
                os._exit(0)
    """,
    "held": """
        import time
        from trivet import BackgroundPlugin
        class Bad(BackgroundPlugin):
            async def run(self):
                time.sleep(1e6)
    """,
}
FAST = {"TRIVET_RESTARTS__BACKOFF_MAX": "0"}


@pytest.mark.process
@pytest.mark.parametrize("source", BAD.values(), ids=BAD)
async def test_a_plugin_that_ends_the_program(plugins: Callable[..., Path], source: str) -> None:
    """After three deaths that are put down to one plugin it starts disabled, whether its import
    ends the program or a handler, and the other plugins serve; log, report and status say so."""
    directory = plugins(recorder=RECORDER, bad=source)
    environ = {**FAST, "TRIVET_HANG_LIMIT": "5" if "sleep" in source else "60"}
    async with serving("recorder", "bad", directory=directory, **environ) as server:
        for _ in range(3 if "handle_event" in source else 0):
            server.lines.clear()
            async with httpx.AsyncClient(base_url=server.url, timeout=30) as client:
                with suppress(httpx.TransportError):
                    await client.post("/events/ping", json={"number": 1})
            await server.logged("serving")
        said = await server.logged("plugin starts disabled")
        assert said["plugin"] == "bad"
        async with httpx.AsyncClient(base_url=server.url, timeout=30) as client:
            found = (await client.get("/plugins")).json()["plugins"]
            assert (found["bad"]["status"], found["recorder"]["status"]) == ("disabled", "running")
            assert found["bad"]["error"] == "DisabledPluginError"
            assert (await client.get("/readyz")).json()["status"] == "degraded"
            assert (await client.post("/events/ping", json={"number": 2})).is_success
        assert "'bad' starts disabled: the last 3 deaths" in "\n".join(server.text)
        assert await server.stop() == 0


@pytest.mark.process
@pytest.mark.parametrize("place", ["its own", "the settings'"])
async def test_a_critical_plugin(plugins: Callable[..., Path], place: str) -> None:
    """A critical plugin that would start disabled ends the program, with exit code 4."""
    own = "    supervision = SupervisionSettings(critical=True)" if place == "its own" else ""
    source = f"""
from trivet import BackgroundPlugin, SupervisionSettings
import os
{"" if own else "os.abort()"}
class Bad(BackgroundPlugin):
{own}
    async def initialize(self):
        os.abort()
"""
    directory = plugins(recorder=RECORDER, bad=source)
    environ = {} if own else {"TRIVET_PLUGINS__BAD__SUPERVISION__CRITICAL": "true"}
    command = ["trivet", "serve", "recorder", "bad", "--plugins", ".", "--bind", "127.0.0.1:0"]
    async with running(command, directory, **FAST, **environ) as server:
        assert await server.process.wait() == 4
        await server.has_said_all()
        assert "is disabled, and critical or needed by one that is" in "\n".join(server.text)


@pytest.mark.process
async def test_a_plugin_that_needs_one_that_is_not_imported(plugins: Callable[..., Path]) -> None:
    """A plugin that needs one of a file that is not imported waits; the program serves."""
    waiter = """
        from trivet import BackgroundPlugin
        class Waiter(BackgroundPlugin):
            needs = ("pump",)
    """
    directory = plugins(recorder=RECORDER, bad=BAD["import"], waiter=waiter)
    (directory / "trivet.toml").write_text("[plugins.pump]\nspeed = 3\n[plugins.bad]\nx = 1\n")
    async with serving("recorder", "bad", "waiter", directory=directory, **FAST) as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=30) as client:
            found = (await client.get("/plugins")).json()["plugins"]
            assert (found["waiter"]["status"], found["waiter"]["waits_for"]) == ("stopped", "bad")
        assert await server.stop() == 0
