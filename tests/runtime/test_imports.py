"""Imports happen on first use: a program does not wait for a library that it does not use."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.process

TRIVET = str(Path(sys.executable).with_name("trivet"))

FRAMEWORK = {"hypercorn", "quart", "quart_trio", "flask", "werkzeug", "h11", "wsproto"}
WEB = FRAMEWORK | {"trivet._web._server._listening"}
STORE = {"sqlite3", "trivet._store._store"}
COMMAND_LINE = {"click", "trivet._cli", "trivet._process._serve"}
EXTRAS = {"httpx", "psutil", "trio_asyncio", "trivet_contrib"}

PROGRAM = """
import trivet, trio

class Ping(trivet.Event): ...

class Sink(trivet.EventPlugin[Ping]):
    delivery = trivet.DeliverySettings(durable={durable})

    async def handle_event(self, event): ...

async def main():
    async with trivet.open_runtime(plugins=[Sink]) as runtime:
        await runtime.publish(Ping(), wait=True)

trio.run(main)
"""

ON_ASYNCIO = """
import sys, trivet, trio

class Sink(trivet.AsyncioPlugin, trivet.BackgroundPlugin):
    async def run(self):
        print("trio_asyncio" in sys.modules)
        await self.run_on_trio(self.told)

    async def told(self):
        has_run.set()

has_run = trio.Event()
print("trio_asyncio" in sys.modules)

async def main():
    async with trivet.open_runtime(plugins=[Sink]):
        await has_run.wait()

trio.run(main)
"""

PLUGIN = """
import sys
from trivet import BackgroundPlugin

class Sorry(BackgroundPlugin):
    async def run(self):
        print(*sys.modules, flush=True)
        sys.exit()
"""


def modules_after(program: str, directory: Path) -> set[str]:
    """The modules that a process has imported after it ran this program."""
    told = subprocess.run(
        [sys.executable, "-c", f"{program}\nimport sys\nprint(*sys.modules)"],
        cwd=directory,
        check=True,
        capture_output=True,
        text=True,
    )
    return set(told.stdout.splitlines()[-1].split())


def test_trivet_alone_brings_no_web_no_store_and_no_extra(tmp_path: Path) -> None:
    """`import trivet` imports neither HTTP, nor the store, nor the command line, nor an extra."""
    imported = modules_after("import trivet", tmp_path)
    assert {"trivet", "trio"} <= imported
    assert imported & (WEB | STORE | COMMAND_LINE | EXTRAS) == set()


@pytest.mark.parametrize("durable", [False, True])
def test_the_store_comes_with_the_first_durable_plugin(durable: bool, tmp_path: Path) -> None:
    """A program imports the store only if one of its plugins is durable."""
    imported = modules_after(PROGRAM.format(durable=durable), tmp_path)
    assert imported & STORE == (STORE if durable else set())


def test_the_bridge_comes_with_the_first_plugin_that_starts_on_asyncio(tmp_path: Path) -> None:
    """A program imports the bridge, which slows every asyncio loop of the process, only for an
    active plugin on asyncio."""
    told = subprocess.run(
        [sys.executable, "-c", ON_ASYNCIO],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    lines = told.stdout.splitlines()
    assert [line for line in lines if line in ("True", "False")] == ["False", "True"]


def test_a_service_without_a_durable_plugin_has_no_store(tmp_path: Path) -> None:
    """`trivet serve` imports HTTP, and neither a framework, the store nor an extra that no plugin
    asks for."""
    (tmp_path / "sorry.py").write_text(PLUGIN)
    served = subprocess.run(
        [TRIVET, "serve", "sorry", "--plugins", ".", "--bind", "127.0.0.1:0", "--no-parent"],
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
        env={"TRIVET_PLUGINS__SORRY__SUPERVISION__CRITICAL": "true"}
        | {"TRIVET_PLUGINS__SORRY__SUPERVISION__RESTART": "temporary"},
    )
    assert served.returncode == 4, served.stderr
    imported = set(served.stdout.split())
    assert imported & (WEB | STORE | EXTRAS) == WEB - FRAMEWORK


COLLECTING = """
import gc, sys
from trivet import BackgroundPlugin

print(gc.isenabled())

class Telling(BackgroundPlugin):
    async def run(self):
        print(gc.isenabled(), flush=True)
        sys.exit()
"""


@pytest.mark.parametrize(("command", "collects"), [("serve", False), ("plugins", True)])
def test_the_collector_pauses_for_the_imports_of_a_service(command: str, *, collects: bool) -> None:
    """Python looks for no garbage while `trivet serve` imports; other commands are too short."""
    program = f"import sys, gc; sys.argv = ['trivet', '{command}']; import trivet"
    told = subprocess.run(
        [sys.executable, "-c", f"{program}; print(gc.isenabled())"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert told.stdout.strip() == str(collects)


def test_the_collector_works_once_the_program_is_made(tmp_path: Path) -> None:
    """A plugin's file is imported during the pause, and its plugin runs after it."""
    (tmp_path / "telling.py").write_text(COLLECTING)
    served = subprocess.run(
        [TRIVET, "serve", "telling", "--plugins", ".", "--bind", "127.0.0.1:0"],
        check=False,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={"TRIVET_PLUGINS__TELLING__SUPERVISION__CRITICAL": "true"}
        | {"TRIVET_PLUGINS__TELLING__SUPERVISION__RESTART": "temporary"},
    )
    assert served.returncode == 4, served.stderr
    assert served.stdout.split() == ["False", "True"]
