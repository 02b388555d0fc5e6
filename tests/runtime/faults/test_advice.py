"""An exception of an author's code is told with file, line, and what to do about it."""

from __future__ import annotations

import gc
import sys
import textwrap
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from trio.testing import MockClock, wait_all_tasks_blocked

from trivet import Runtime, StartError, Status
from trivet._faults._advice import NO_AWAIT, NOT_ASYNC, ON_ASYNCIO, ON_TRIO, RUNS_ALREADY
from trivet.testing import client, open_plugins

from ..places import line_of

HEADER = """\
import asyncio, contextlib, os, threading, trio
from trivet import *

class Ping(Event):
    number: int = 0

"""

Write = Callable[[str], Path]
Lines = list[dict[str, Any]]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a plugin's file, `advised.py`, below some imports and an event."""

    def put(text: str) -> Path:
        file = tmp_path / "advised.py"
        file.write_text(HEADER + textwrap.dedent(text), "utf-8")
        return file

    return put


@pytest.fixture
def logs() -> Iterator[Lines]:
    """The logged lines, with the text of tracebacks as `traceback`."""
    lines: Lines = []

    def collect(logger: object, method: str, event: Any) -> Any:
        error = event.get("exc_info")
        error = sys.exc_info()[1] if error is True else error
        text = "" if error is None else "".join(traceback.format_exception(error))
        lines.append({**event, "traceback": text})
        raise structlog.DropEvent

    structlog.configure(processors=[collect])
    yield lines
    structlog.reset_defaults()


def of(logs: Lines, event: str) -> list[dict[str, Any]]:
    """The lines that say this."""
    return [line for line in logs if line["event"] == event]


async def refusal(file: Path, **settings: Any) -> str:
    """Start what does not start; what is said."""
    with pytest.raises(StartError) as caught:
        async with open_plugins("advised", directory=file.parent, **settings):
            pass
    return str(caught.value)


async def test_a_failed_start_is_told_with_file_and_line(write: Write, logs: Lines) -> None:
    """The error has the author's line; the log has the traceback, from the author's line on."""
    file = write("""
        class M(BackgroundPlugin):
            async def initialize(self):
                self.helped()

            def helped(self):
                {}["url"]
    """)
    line = line_of(file, '{}["url"]')
    assert await refusal(file) == (
        f"plugin 'm' did not start: KeyError: 'url'\n  at {file}:{line}, in M.helped"
    )
    (told,) = of(logs, "plugin did not start")
    assert told["plugin"] == "m"
    assert told["traceback"].splitlines()[1].strip().startswith(f'File "{file}", line ')
    assert "self.helped()" in told["traceback"]


async def test_the_line_is_the_authors_where_a_library_raises(write: Write) -> None:
    """A traceback that ends in a library is reported with the author's last line."""
    file = write("""
        import json
        class M(BackgroundPlugin):
            async def initialize(self):
                json.loads("{")
    """)
    assert f"  at {file}:{line_of(file, 'json.loads(')}, in M.initialize" in await refusal(file)


async def test_a_failed_init_is_told_with_file_and_line(write: Write, logs: Lines) -> None:
    """An error in `__init__`, or in what attrs calls before it, is reported with its file and
    line."""
    file = write("""
        class M(BackgroundPlugin):
            def __init__(self, app):
                self.x = app.nothing
    """)
    said = await refusal(file)
    assert said.startswith("plugin 'm': its __init__ failed: AttributeError: ")
    assert f"  at {file}:{line_of(file, 'app.nothing')}, in M.__init__" in said
    assert of(logs, "plugin did not start")[0]["plugin"] == "m"


async def test_a_wrong_setting_is_told_with_its_key_and_line(write: Write) -> None:
    """A setting that an author finds wrong is reported with its key."""
    file = write("""
        class M(BackgroundPlugin):
            url: str = ""
            async def initialize(self):
                raise WrongSettingError("url", "there is no such database")
    """)
    said = await refusal(file)
    assert said.startswith("plugin 'm' did not start: plugins.m.url: there is no such database\n")
    assert f"  at {file}:{line_of(file, 'raise WrongSettingError')}, in M.initialize" in said


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        ("await asyncio.sleep(0)", ON_ASYNCIO),
        ("await asyncio.sleep(1)", ON_ASYNCIO),
        ("asyncio.get_running_loop()", ON_ASYNCIO),
        ("asyncio.create_task(asyncio.sleep(0)).cancel()", ON_ASYNCIO),
        ("self.enter(contextlib.nullcontext()).get", NO_AWAIT),
        ("self.enter(contextlib.nullcontext())[0]", NO_AWAIT),
        ("await self.degrade('x')", NOT_ASYNC),
        ("os.environ['TRIVETS_MISSING']", "the environment has no variable TRIVETS_MISSING"),
        ("self.url", "for a setting write an annotated field, `url: …`, in the class"),
        ("raise ConnectionRefusedError", '`on_start_failure = "retry"`'),
        ("await trio.to_thread.run_sync(trio.current_time)", ON_TRIO),
        ("raise ExceptionGroup('', [RuntimeError('no running event loop')])", ON_ASYNCIO),
    ],
)
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
async def test_the_likely_mistakes_come_with_advice(
    write: Write, logs: Lines, code: str, advice: str
) -> None:
    """Messages of Python, asyncio and Trio about the likeliest mistakes are followed by advice."""
    file = write(f"class M(BackgroundPlugin):\n    async def initialize(self):\n        {code}\n")
    said = await refusal(file)
    logs.clear()
    gc.collect()  # What was never awaited is missed here, and not in a later test.
    assert f"\n  at {file}:{line_of(file, code)}, in M.initialize\n" in said
    assert advice in said


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
async def test_asyncio_run_on_asyncio(write: Write, logs: Lines) -> None:
    """`asyncio.run()` in a plugin on asyncio fails with the advice to await instead."""
    code = "asyncio.run(asyncio.sleep(0))"
    file = write(
        "class M(AsyncioPlugin, BackgroundPlugin):\n"
        f"    async def initialize(self):\n        {code}\n"
    )
    said = await refusal(file)
    logs.clear()
    gc.collect()  # The coroutine is collected here, and not in a later test.
    assert RUNS_ALREADY in said


FAILS = """
    class M(EventPlugin[Ping]):
        async def handle_event(self, event):
            await asyncio.sleep(0)  # handled

        @route("/r")
        async def r(self):
            await asyncio.sleep(0)  # answered

        @route("/exits")
        async def exits(self):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(asyncio.sleep, 0)

        @websocket_route("/w")
        async def w(self):
            await asyncio.sleep(0)

        async def close(self):
            await asyncio.sleep(0)  # closed
"""


async def asked(runtime: Runtime, path: str) -> None:
    """Ask for what crashes."""
    assert (await client(runtime).get(path)).status_code == 500


async def test_asyncio_on_trio_is_explained_wherever_it_is(write: Write, logs: Lines) -> None:
    """Handlers, routes and `close` have the advice as a note of what is logged."""
    file = write(FAILS)
    async with open_plugins("advised", directory=file.parent) as runtime:
        await runtime.publish(runtime.events["ping"](), wait=True)
        await asked(runtime, "/r")
        await asked(runtime, "/exits")
    for event, count in (("event failed", 1), ("handler crashed", 2), ("close() failed", 1)):
        texts = [line["traceback"] for line in of(logs, event)]
        assert len(texts) == count
        assert all(ON_ASYNCIO in text for text in texts)


async def test_an_event_that_is_tried_again_says_where_and_why(
    write: Write, logs: Lines, autojump_clock: MockClock
) -> None:
    """The line about the next attempt, which has no traceback, has the place and the advice."""
    file = write(FAILS)
    table = {"m": {"delivery": {"retry": True, "max_attempts": 2}}}
    async with open_plugins("advised", directory=file.parent, settings=table) as runtime:
        await runtime.publish(runtime.events["ping"](), wait=True)
    (line,) = of(logs, "event failed, and is tried again")
    assert line["at"] == f"{file}:{line_of(file, 'await asyncio.sleep(0)  # handled')}"
    assert line["hint"] == ON_ASYNCIO


async def test_a_failed_run_and_restart_are_explained(
    write: Write, logs: Lines, autojump_clock: MockClock
) -> None:
    """A lifetime that ends by asyncio's own words is told with the advice, at each restart."""
    file = write("""
        class M(BackgroundPlugin):
            _starts: int = 0
            async def initialize(self):
                self._starts += 1
                if self._starts > 1:
                    await asyncio.sleep(0)
            async def run(self):
                await asyncio.sleep(0)
    """)
    async with open_plugins("advised", directory=file.parent) as runtime:
        await runtime.hosts["m"].wait_for_status(Status.FAILED)
        await wait_all_tasks_blocked()
    lines = [*of(logs, "plugin failed"), *of(logs, "plugin is given up")]
    assert len(lines) >= 2
    for line in lines:
        assert line["traceback"].count(ON_ASYNCIO) == 1
        assert line["traceback"].splitlines()[1].strip().startswith(f'File "{file}"')


async def test_an_error_that_cannot_be_printed_is_no_second_one(write: Write) -> None:
    """An exception whose text raises is told by its class."""
    file = write("""
        class Odd(RuntimeError):
            def __str__(self):
                raise ValueError("odd")

        class M(BackgroundPlugin):
            async def initialize(self):
                raise Odd
    """)
    assert "did not start: Odd" in await refusal(file)
