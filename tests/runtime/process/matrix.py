"""How each misbehaving plugin ends, in each way to stop: `nox -s matrix` prints the table.

Each cell is a real process with the plugin and a healthy one: the exit code, or `hangs` where the
process had to be killed from here. What the ways have in common is that the plugin runs when the
stop begins.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import attrs
import trio

HERE = Path(__file__).parent
PLUGINS = HERE / "misbehaving"
BIN = Path(sys.executable).parent
LIMITS = {"REQUESTS": "0.1", "DRAIN": "0.2", "CLOSE": "0.3"}
AT_ONCE = 3
START, HANGS = 15.0, 6.0
"""Seconds for a start, and for a stop, which takes less than three with its escalation."""
SILENT = 1.5
"""Seconds after the start in which a plugin says that it misbehaves, if it ever does."""
NOT_ROWS = {"healthy", "vital"}

EMBEDDED = """
import sys, trio
from pathlib import Path
from trivet import Settings, ShutdownSettings, open_runtime

async def main():
    settings = Settings(
        active_plugins=sys.argv[2:],
        plugins_directory=Path(sys.argv[1]),
        shutdown=ShutdownSettings(requests=0.1, drain=0.2, close=0.3),
    )
    with trio.move_on_after(1):
        async with open_runtime(settings):
            await trio.sleep_forever()

trio.run(main)
"""


@attrs.frozen
class Way:
    """One way to stop."""

    title: str
    command: tuple[str, ...]
    signal: signal.Signals | None = None
    """Sent when the plugin misbehaves; None where the stop comes by itself."""
    beside: tuple[str, ...] = ("healthy",)


SERVE = (str(BIN / "trivet"), "serve", "--plugins", str(PLUGINS), "--bind", "127.0.0.1:0")
HYPERCORN = (str(BIN / "hypercorn"), "-k", "trio", "-b", "127.0.0.1:0", "trivet.asgi:app")

WAYS = (
    Way("`SIGTERM`", SERVE, signal.SIGTERM),
    Way("`SIGINT`", SERVE, signal.SIGINT),
    Way("a critical plugin gives up", SERVE, beside=("healthy", "vital")),
    Way("embedded, cancelled", (sys.executable, "-c", EMBEDDED, str(PLUGINS))),
    Way("hypercorn, `SIGTERM`", HYPERCORN, signal.SIGTERM),
)


async def cell(plugin: str, way: Way) -> str:
    """Stop this plugin in this way."""
    with tempfile.TemporaryDirectory() as directory:
        mark = f"TRIVETS_MATRIX={os.urandom(8).hex()}"
        plugins = [plugin, *way.beside]
        environ = {f"TRIVET_SHUTDOWN__{stage}": seconds for stage, seconds in LIMITS.items()}
        environ |= {"TRIVET_RESTARTS__MAX_RESTARTS": "0", "TRIVET_LOG__FORMAT": "json"}
        environ |= {"TRIVET_HANG_LIMIT": "2", "TMPDIR": directory}
        environ |= dict([mark.split("=")])
        command = list(way.command)
        if way.command is HYPERCORN:
            environ["TRIVET_ACTIVE_PLUGINS"] = ",".join(plugins)
            environ["TRIVET_PLUGINS_DIRECTORY"] = str(PLUGINS)
        else:
            command += plugins
        log = Path(directory) / "log"
        with log.open("wb") as output:
            process = await trio.lowlevel.open_process(
                command,
                env={**os.environ, **environ},
                stdout=output,
                stderr=output,
                cwd=directory,
            )
        try:
            return await end_of(process, log, way)
        finally:
            for pid in processes(mark.encode()):
                os.kill(pid, signal.SIGKILL)
            with trio.CancelScope(shield=True):
                await process.wait()  # noqa: ASYNC102 - it was killed


async def end_of(process: trio.Process, log: Path, way: Way) -> str:
    """Wait for the misbehaviour, ask for the stop if that is the way, and see what comes of it."""
    with trio.move_on_after(START) as waiting:
        while process.poll() is None and way.signal is not None:
            text = await trio.Path(log).read_text(errors="replace")
            if "misbehaving" in text.replace(str(PLUGINS), "") or "Running on" in text:
                await trio.sleep(0.5)  # A plugin says so before it does so.
                break
            if '"serving"' in text:
                waiting.deadline = min(waiting.deadline, trio.current_time() + SILENT)
            await trio.sleep(0.02)
    if way.signal is not None and process.poll() is None:
        process.send_signal(way.signal)
    with trio.move_on_after(HANGS if way.signal is not None else START):
        code = await process.wait()
        return str(code if code >= 0 else 128 - code)
    return "hangs"


def processes(mark: bytes) -> Iterator[int]:
    """The processes that have this in their environment."""
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (directory / "environ").read_bytes():
                yield int(directory.name)
        except OSError:
            continue  # Another's, or gone.


async def main() -> None:
    """Run all cells, a few at once, and print the rows, those that are alike together."""
    plugins = sys.argv[1:] or sorted(
        file.stem for file in PLUGINS.glob("*.py") if file.stem not in NOT_ROWS
    )
    cells: dict[tuple[str, Way], str] = {}
    limit = trio.CapacityLimiter(AT_ONCE)

    async def fill(plugin: str, way: Way) -> None:
        async with limit:
            cells[plugin, way] = await cell(plugin, way)

    async with trio.open_nursery() as nursery:
        for plugin in plugins:
            for way in WAYS:
                nursery.start_soon(fill, plugin, way)
    rows: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
    for plugin in plugins:
        rows[tuple(cells[plugin, way] for way in WAYS)].append(f"`{plugin}`")
    table = [["plugin", *(way.title for way in WAYS)], ["---"] * (len(WAYS) + 1)]
    table += [[" ".join(names), *codes] for codes, names in sorted(rows.items())]
    sys.stdout.write("".join(f"| {' | '.join(row)} |\n" for row in table))


if __name__ == "__main__":
    trio.run(main)
