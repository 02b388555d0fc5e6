"""Plugins that defeat a stop, each in a real `trivet serve`, and the step that ends it.

Each misbehaviour is a plugin file in `misbehaving/`. It runs beside a healthy plugin; the program
gets a real signal; the exit code says which step of the escalation had to act.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType

import attrs
import httpx
import pytest
import trio

from trivet import CriticalPluginError, StartError
from trivet._process._escalation import PARENT as PARENT_STEP

pytestmark = pytest.mark.process

PLUGINS = Path(__file__).parent / "misbehaving"
TRIVET = Path(sys.executable).parent / "trivet"
LIMITS = {"REQUESTS": "0.1", "DRAIN": "0.2", "CLOSE": "0.3"}
BUDGET = 0.6 + PARENT_STEP.after
"""Seconds that a stop may take with these limits, the escalation included."""
ALLOWANCE = 1.0
"""Seconds for the end of the processes themselves."""
NAP = 0.05
"""Seconds of one wait for the end."""
ROOM = 60.0
"""Seconds for a program on a busy machine; a program that hangs would take for ever."""

CLEAN, LOOP, THREAD, PARENT, KERNEL = 0, 70, 71, 72, 137
WITHOUT_STEPS = (sys.executable, str(Path(__file__).parent / "without_steps.py"))


@attrs.define
class Program:
    """A `trivet serve` under test."""

    process: trio.Process
    directory: Path
    mark: bytes
    """A variable in the environment of every process of this program."""

    @property
    def log(self) -> str:
        """The log so far."""
        return (self.directory / "log").read_text(errors="replace")

    @property
    def report(self) -> str:
        """The report of the step that ended the program: the lines that are no line of its log."""
        lines = [line for line in self.log.splitlines() if not line.startswith("{")]
        return "\n".join(line.removeprefix("trivet: ") for line in lines)

    @property
    def named(self) -> set[str]:
        """The plugins that the report names."""
        return set(re.findall(r"^plugin '(\w+)'", self.report, re.MULTILINE))

    @property
    def url(self) -> str:
        """The address of the server."""
        return self.log.partition('"urls": ["')[2].partition('"')[0]

    def processes(self) -> Iterator[int]:
        """The program's processes, orphans included."""
        for directory in Path("/proc").glob("[0-9]*"):
            try:
                if self.mark in (directory / "environ").read_bytes():
                    yield int(directory.name)
            except OSError:
                continue  # Another's, or gone.

    async def logged(self, *texts: str) -> None:
        """Wait until the log has one of these texts."""
        while not any(text in self.log for text in texts):
            assert self.process.poll() is None, self.log
            await trio.sleep(0.01)

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send the signal to the parent; the program's exit code, which comes in time.

        Naps are counted: a busy machine makes them longer, for this process as for the program.
        """
        self.process.send_signal(number)
        for _ in range(round((BUDGET + ALLOWANCE) / NAP)):
            with trio.move_on_after(NAP):
                return await self.process.wait()
        raise trio.TooSlowError

    @asynccontextmanager
    async def client(self) -> AsyncGenerator[None]:
        """Keep a client connected within this block, after one answered request."""
        async with httpx.AsyncClient(base_url=self.url, timeout=ROOM) as client:
            assert (await client.get("/livez")).status_code == 200
            yield


@asynccontextmanager
async def serving(
    *plugins: str,
    directory: Path,
    restarts: int = 0,
    options: tuple[str, ...] = (),
    trivet: tuple[str, ...] = (str(TRIVET),),
    environ: Mapping[str, str] = MappingProxyType({}),
) -> AsyncGenerator[Program]:
    """Run `trivet serve` with these plugins; kill every process that is left."""
    mark = f"TRIVETS_TEST={os.urandom(8).hex()}"
    own = dict([mark.split("=")])
    own |= {f"TRIVET_SHUTDOWN__{stage}": seconds for stage, seconds in LIMITS.items()}
    own |= {"TRIVET_LOG__FORMAT": "json", "TMPDIR": str(directory / "nowhere")}
    own |= {"TRIVET_RESTARTS__MAX_RESTARTS": str(restarts)}
    command = [*trivet, "serve", *plugins, "--plugins", str(PLUGINS), *options]
    with (directory / "log").open("wb") as log:
        process = await trio.lowlevel.open_process(
            [*command, "--bind", "127.0.0.1:0"],
            env={**os.environ, **own, **environ},
            stderr=log,
            stdout=subprocess.DEVNULL,
            cwd=directory,
        )
    program = Program(process, directory, mark.encode())
    try:
        with trio.fail_after(ROOM):  # noqa: ASYNC100 - what it bounds is at the yield
            yield program
    finally:
        for pid in program.processes():
            os.kill(pid, signal.SIGKILL)
        with trio.move_on_after(5, shield=True):
            await process.wait()


COOPERATIVE = [
    ("swallow_cancelled", LOOP),
    ("shield_forever", LOOP),
    ("shielded_checkpoints", LOOP),
    ("slow_cleanup", LOOP),
    ("thread_not_abandoned", LOOP),
    ("foreign_nursery", LOOP),
    ("no_exit", LOOP),
    ("all_threads", LOOP),
    ("spawns_at_the_end", LOOP),
    ("asyncio_swallows", LOOP),
    ("asyncio_stays", LOOP),
    ("close_blocks", THREAD),
    ("blocking_finaliser", THREAD),
    ("blocking_generator", THREAD),
    ("crowd", LOOP),
    ("nested_nurseries", LOOP),
    ("nameless_task", LOOP),
]
"""Plugins beside which the event loop turns until the stop begins."""


@pytest.mark.parametrize(("plugin", "code"), COOPERATIVE)
async def test_what_cannot_be_cancelled_is_ended_and_named(
    plugin: str, code: int, tmp_path: Path
) -> None:
    """The exit code is the step's, the report names the plugin, and the healthy one has closed."""
    async with serving(plugin, "healthy", directory=tmp_path) as program:
        await program.logged('"serving"')
        async with program.client():
            assert await program.stop() == code
        assert program.named == {plugin}
        (seconds,) = re.findall(r"^the stop is over after ([\d.]+) s", program.report, re.MULTILINE)
        assert float(seconds) <= BUDGET
        assert "healthy closed" in program.log
        assert list(program.processes()) == []


@pytest.mark.parametrize("plugin", ["asyncio_swallows", "asyncio_stays"])
async def test_what_cannot_be_cancelled_on_asyncio_is_named_with_its_line(
    plugin: str, tmp_path: Path
) -> None:
    """The report shows the author's code, not the bridge to it."""
    async with serving(plugin, directory=tmp_path) as program:
        await program.logged('"serving"')
        await program.stop()
        lines = (PLUGINS / f"{plugin}.py").read_text().splitlines()
        (number,) = [n for n, line in enumerate(lines, 1) if "await asyncio.sleep(3600)" in line]
        assert f'{plugin}.py", line {number}, in' in program.report


HOLDING = [
    ("sleep_loop", THREAD),
    ("asyncio_blocks", THREAD),
    ("busy_loop", THREAD),
    ("pause_in_c", THREAD),
    ("blocking_open", THREAD),
    ("no_faulthandler", THREAD),
    ("import_hangs", THREAD),
    ("gil_regex", PARENT),
    ("gil_deque", PARENT),
    ("full_stderr", PARENT),
    ("no_timer", PARENT),
    ("blocking_trace", THREAD),
    ("blocking_instrument", THREAD),
    ("import_lock", THREAD),
]
"""Plugins that hold the event loop, or the interpreter, when the stop is asked for."""


@pytest.mark.parametrize(("plugin", "code"), HOLDING)
async def test_what_holds_the_loop_is_ended_and_named(
    plugin: str, code: int, tmp_path: Path
) -> None:
    """A stop ends in time although no code of the event loop runs any more."""
    async with serving(plugin, "healthy", directory=tmp_path) as program:
        await program.logged('"misbehaving"')
        assert await program.stop() == code
        assert plugin in program.report
        assert program.named <= {plugin}  # Where nothing else can, faulthandler shows the file.
        assert "healthy" not in program.report
        assert list(program.processes()) == []


async def end_cleanly(program: Program) -> None:
    """Stop the program while a client is connected: its exit code is 0, and no process is left."""
    async with program.client():
        assert await program.stop() == CLEAN
    assert "healthy closed" in program.log
    assert list(program.processes()) == []


HARMLESS = [
    "thread_abandoned",
    "orphan",
    "stubborn_orphan",
    "signals_ignored",
    "close_hangs",
    "close_raises",
    "close_exits",
    "daemon",
    "forks",
    "spawns",
    "closed_stderr",
    "generations",
]
"""Plugins that a stop copes with by itself."""


@pytest.mark.parametrize("plugin", HARMLESS)
async def test_what_can_be_contained_leaves_a_clean_end_and_no_process(
    plugin: str, tmp_path: Path
) -> None:
    """The program exits with 0, and the plugin's processes are gone, too."""
    async with serving(plugin, "healthy", directory=tmp_path) as program:
        await program.logged('"serving"')
        if not plugin.startswith("close_"):  # Which only the stop brings about.
            await program.logged('"misbehaving"')
        await end_cleanly(program)
        assert program.report == ""


CONTAINED = [
    "system_exit",
    "asyncio_exits",
    "interrupts",
    "stray_cancelled",
    "mixed_group",
    "recursion",
    "no_memory",
    "nested_run",
    "leaked_scope",
    "garbage",
]
"""Plugins whose failure would end a program that catches exceptions only."""


@pytest.mark.parametrize("plugin", CONTAINED)
async def test_what_ends_other_programs_is_a_plugins_own_failure(
    plugin: str, tmp_path: Path
) -> None:
    """The plugin is named and restarted, the others are served, and a stop is clean."""
    async with serving(plugin, "healthy", directory=tmp_path) as program:
        await program.logged('"plugin failed"')
        (line, *_) = [line for line in program.log.splitlines() if '"plugin failed"' in line]
        assert f'"plugin": "{plugin}"' in line
        await program.logged('"serving"')
        await end_cleanly(program)


async def test_who_breaks_the_event_loop_is_named(tmp_path: Path) -> None:
    """No supervision survives a broken loop: the program is started again as after any crash."""
    plugin = "system_task_crashes"
    async with serving(plugin, "healthy", directory=tmp_path) as program:
        assert await program.process.wait() == 1
        assert program.named == {plugin}
        assert f"plugin '{plugin}' has broken the event loop" in program.report
        assert "healthy" not in program.report
        assert "the program ended with code 1, too often: giving up" in program.log
        assert list(program.processes()) == []


async def test_a_program_without_its_pipes_stops(tmp_path: Path) -> None:
    """A program that cannot hear its parent stops; the end is not clean, since nobody asked."""
    async with serving("no_pipes", "healthy", directory=tmp_path) as program:
        assert await program.process.wait() == 1
        assert "healthy closed" in program.log


NOT_TASKS = ["blocking_atexit", "left_thread", "left_timer", "system_task"]


@pytest.mark.parametrize("plugin", NOT_TASKS)
async def test_what_is_no_task_of_a_plugin_is_ended_by_the_thread(
    plugin: str, tmp_path: Path
) -> None:
    """The interpreter's own end, after the plugins were closed, has a limit, too."""
    async with serving(plugin, "healthy", directory=tmp_path) as program:
        await program.logged('"serving"')
        assert await program.stop() == THREAD
        assert "healthy closed" in program.log
        assert "the watchdog's thread ends the process" in program.report
        assert program.named == {plugin}
        assert "healthy" not in program.report


async def test_a_stopped_process_is_ended_by_its_parent(tmp_path: Path) -> None:
    """A process that the kernel has stopped runs no code at all: its parent kills it."""
    async with serving("stopped", directory=tmp_path) as program:
        await program.logged('"misbehaving"')
        assert await program.stop() == PARENT
        assert list(program.processes()) == []


async def test_a_start_that_hangs_is_cancelled_by_a_stop(tmp_path: Path) -> None:
    """A stop during start-up does not wait for `initialize`."""
    async with serving("initialize_hangs", directory=tmp_path) as program:
        await program.logged('"misbehaving"')
        assert await program.stop() == CLEAN


async def test_an_import_that_exits_is_a_fault_of_configuration(tmp_path: Path) -> None:
    """`sys.exit(0)` in a plugin's file does not pass for a clean end; the file is named."""
    async with serving("import_exits", "healthy", directory=tmp_path) as program:
        assert await program.process.wait() == 2
        assert "import_exits" in program.log


async def test_an_import_that_hangs_is_ended_without_any_request(tmp_path: Path) -> None:
    """`hang_limit` holds for the start, too."""
    environ = {"TRIVET_HANG_LIMIT": "0.5"}
    async with serving("import_hangs", directory=tmp_path, environ=environ) as program:
        assert await program.process.wait() == THREAD
        assert "import_hangs" in program.report


async def test_a_start_that_never_ends_fails(tmp_path: Path) -> None:
    """`[startup] limit` ends the start with its exit code, and the message says where it stood."""
    environ = {"TRIVET_STARTUP__LIMIT": "0.3"}
    async with serving("initialize_hangs", directory=tmp_path, environ=environ) as program:
        assert await program.process.wait() == 3
        assert "'initialize_hangs' did not start" in program.log


async def test_a_program_that_died_is_started_again_on_the_same_socket(tmp_path: Path) -> None:
    """The listening socket outlives the child, so that clients wait instead of being refused."""
    async with serving("healthy", directory=tmp_path, restarts=1) as program:
        await program.logged('"serving"')
        (child,) = set(program.processes()) - {program.process.pid}
        async with httpx.AsyncClient(base_url=program.url, timeout=ROOM) as client:
            assert (await client.get("/livez")).status_code == 200
            os.kill(child, signal.SIGKILL)
            await program.logged("starting again")
        async with httpx.AsyncClient(base_url=program.url, timeout=ROOM) as client:
            assert (await client.get("/livez")).status_code == 200
        assert await program.stop() == CLEAN
        with pytest.raises(httpx.ConnectError):
            async with httpx.AsyncClient() as client:
                await client.get(program.url)


HELD = [("busy_loop", THREAD), ("gil_deque", PARENT), ("no_timer", PARENT), ("stopped", PARENT)]


@pytest.mark.parametrize(("plugin", "code"), HELD)
async def test_a_loop_that_is_held_for_too_long_ends_the_child(
    plugin: str, code: int, tmp_path: Path
) -> None:
    """Without any request to stop, `hang_limit` ends a process that serves nobody any more."""
    environ = {"TRIVET_HANG_LIMIT": "0.5"}
    async with serving(plugin, directory=tmp_path, environ=environ) as program:
        assert await program.process.wait() == code
        assert plugin in program.report


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_the_parent_is_small(tmp_path: Path) -> None:
    """The parent is a script of its own, in a few MB, whatever the program loads."""
    async with serving("healthy", directory=tmp_path) as program:
        await program.logged('"serving"')
        directory = Path(f"/proc/{program.process.pid}")
        assert b"-I\0-S\0" in (directory / "cmdline").read_bytes()
        status = dict(line.split(":\t") for line in (directory / "status").read_text().splitlines())
        assert int(status["VmRSS"].removesuffix(" kB")) < 20_000


async def test_without_its_parent_a_program_stops(tmp_path: Path) -> None:
    """The child of a killed parent drains, closes and ends by itself."""
    async with serving("healthy", directory=tmp_path) as program:
        await program.logged('"serving"')
        program.process.kill()
        await program.process.wait()
        while list(program.processes()):
            await trio.sleep(0.01)
        assert "healthy closed" in program.log


async def test_a_second_signal_skips_draining_and_a_third_ends_at_once(tmp_path: Path) -> None:
    """An operator can cut a stop short."""
    async with serving("shield_forever", directory=tmp_path) as program:
        await program.logged('"serving"')
        program.process.send_signal(signal.SIGTERM)
        await program.logged('"stopping"')
        program.process.send_signal(signal.SIGTERM)
        await program.logged("draining are cut short")
        assert await program.stop() == PARENT
        assert list(program.processes()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("options", [(), ("--no-parent",)])
async def test_a_second_signal_answers_who_still_waits(
    number: signal.Signals, options: tuple[str, ...], tmp_path: Path
) -> None:
    """A request that is not being answered yet gets 503 at once, whatever `requests` allows."""
    environ = {"TRIVET_SHUTDOWN__REQUESTS": "60"}
    serve = serving("healthy", directory=tmp_path, environ=environ, options=options)
    async with serve as program, httpx.AsyncClient(timeout=ROOM) as client:
        await program.logged('"serving"')

        async def ask() -> None:
            response = await client.get(f"{program.url}/slow")
            assert response.status_code == 503
            assert response.json()["error_code"] == "stopping"

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await program.logged("healthy asked")
            program.process.send_signal(number)
            await program.logged('"stopping"')
            assert await program.stop(number) == CLEAN
        assert "healthy closed" in program.log


async def test_without_a_parent_the_steps_inside_remain(tmp_path: Path) -> None:
    """Under `--no-parent` the loop and the thread still end the program."""
    async with serving("shield_forever", directory=tmp_path, options=("--no-parent",)) as program:
        await program.logged('"serving"')
        assert await program.stop() == LOOP
        assert "shield_forever" in program.report


STEPS = [
    ("", LOOP, "the event loop ends the process"),
    ("loop", THREAD, "the watchdog's thread ends the process"),
    ("loop,thread", KERNEL, "most recent call first"),
    ("loop,thread,kernel", PARENT, "most recent call first"),
]


@pytest.mark.parametrize(("without", "code", "report"), STEPS)
async def test_each_step_is_there_for_the_failure_of_the_one_before(
    without: str, code: int, report: str, tmp_path: Path
) -> None:
    """If steps are switched off, the next one ends the stop, with its code and its report."""
    trivet = (*WITHOUT_STEPS, without)
    async with serving("shield_forever", directory=tmp_path, trivet=trivet) as program:
        await program.logged('"serving"')
        assert await program.stop() == code
        assert report in program.report
        assert list(program.processes()) == []


async def test_without_any_step_nothing_ends_it(tmp_path: Path) -> None:
    """The promise is due to the escalation: without it the same program does not stop."""
    trivet = (*WITHOUT_STEPS, "loop,thread,kernel")
    options = ("--no-parent",)
    async with serving(
        "shield_forever", directory=tmp_path, trivet=trivet, options=options
    ) as program:
        await program.logged('"serving"')
        with pytest.raises(trio.TooSlowError):
            await program.stop()
        assert program.process.poll() is None


async def test_a_stop_needs_no_memory(tmp_path: Path) -> None:
    """The reserve is freed if a plugin has taken all memory: others close, and it is named."""
    async with serving("memory_gone", "healthy", directory=tmp_path) as program:
        await program.logged('"serving"')
        await program.logged("the memory is full")
        assert await program.stop() == LOOP
        assert "memory_gone" in program.named
        assert "healthy closed" in program.log


DEATHS = [
    ("exits", 1, "os._exit(0) was called"),
    ("exits_in_close", 1, "when it ended it was at close() of 'exits_in_close'"),
    ("import_ends_all", 1, "when it ended it was at the import of 'import_ends_all'"),
    ("segfault", 139, "Segmentation fault"),
    ("aborts", 134, "Aborted"),
]


@pytest.mark.parametrize(("plugin", "code", "how"), DEATHS)
async def test_a_death_has_a_name(plugin: str, code: int, how: str, tmp_path: Path) -> None:
    """The log says who has ended the process, and how."""
    async with serving(plugin, "healthy", directory=tmp_path) as program:
        await program.logged('"serving"', '"misbehaving"', "giving up")
        if plugin == "exits_in_close":
            program.process.send_signal(signal.SIGTERM)
        assert await program.process.wait() == code
        assert how in program.report
        assert plugin in program.report
        assert "healthy" not in program.report


async def test_a_program_whose_socket_is_lost_is_started_again(tmp_path: Path) -> None:
    """The program stops in order and says why; the parent starts it again, and it listens again."""
    async with serving("lost_listener", "healthy", directory=tmp_path) as program:
        assert await program.process.wait() == 1
        assert "does not listen any more" in program.report
        assert "healthy closed" in program.log


async def test_what_a_critical_plugin_has_decided_is_final(tmp_path: Path) -> None:
    """The escalation ends a thread of it that stays; the code is 4, and nothing starts again."""
    async with serving("lasting_vital", "healthy", directory=tmp_path, restarts=3) as program:
        assert await program.process.wait() == CriticalPluginError.exit_code
        assert "lasting_vital" in program.report
        assert "starting again" not in program.log
        assert program.log.count('"serving"') == 1


async def test_a_start_that_failed_is_final_too(tmp_path: Path) -> None:
    """A start that cannot be cancelled is ended by the escalation; the code is the failure's."""
    environ = {"TRIVET_STARTUP__LIMIT": "0.3"}
    plugins = ("shield_forever", "initialize_hangs")
    async with serving(*plugins, directory=tmp_path, restarts=3, environ=environ) as program:
        assert await program.process.wait() == StartError.exit_code
        assert "starting again" not in program.log


async def test_a_signal_to_both_processes_is_one_request(tmp_path: Path) -> None:
    """A signal to both processes, as `pkill` sends it, is one: requests and inboxes finish."""
    environ = {"TRIVET_SHUTDOWN__REQUESTS": "1.5"}
    async with serving("healthy", directory=tmp_path, environ=environ) as program:
        await program.logged('"serving"')
        (child,) = set(program.processes()) - {program.process.pid}
        async with program.client(), trio.open_nursery() as nursery:
            nursery.start_soon(ask_slowly, program)
            await program.logged("healthy asked")
            os.kill(child, signal.SIGTERM)
            assert await program.stop() == CLEAN
        assert "cut short" not in program.log
        assert program.log.count('"signal received"') == 1


async def ask_slowly(program: Program) -> None:
    """Make a request that is not answered before the limit."""
    async with httpx.AsyncClient(timeout=ROOM) as client:
        assert (await client.get(f"{program.url}/slow")).status_code == 503


async def test_a_hangup_ends_neither_process(tmp_path: Path) -> None:
    """SIGHUP asks for a reload, whichever of the processes gets it."""
    async with serving("healthy", directory=tmp_path) as program:
        await program.logged('"serving"')
        for pid in program.processes():
            os.kill(pid, signal.SIGHUP)
        await program.logged('"signal": "SIGHUP"')
        await program.logged('"reloaded"')
        async with program.client():
            assert await program.stop() == CLEAN


INHERITED = """
import os, signal, sys
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
{then}
os.execv(sys.argv[1], sys.argv[1:])
"""


async def test_what_is_inherited_from_the_shell_changes_nothing(tmp_path: Path) -> None:
    """Under an ignored SIGCHLD and blocked signals the child is restarted, and stops."""
    trivet = (sys.executable, "-c", INHERITED.format(then=""), str(TRIVET))
    async with serving("healthy", directory=tmp_path, restarts=1, trivet=trivet) as program:
        await program.logged('"serving"')
        (child,) = set(program.processes()) - {program.process.pid}
        os.kill(child, signal.SIGKILL)
        await program.logged("starting again")
        while program.log.count('"serving"') < 2:
            await trio.sleep(0.01)
        assert await program.stop(signal.SIGINT) == CLEAN
        assert "healthy closed" in program.log


@pytest.mark.parametrize("options", [(), ("--no-parent",)])
async def test_a_signal_is_heard_from_the_first_line_on(
    options: tuple[str, ...], tmp_path: Path
) -> None:
    """A signal from before the command ends it with 0, before any plugin starts."""
    then = "os.kill(os.getpid(), signal.SIGTERM)"
    trivet = (sys.executable, "-c", INHERITED.format(then=then), str(TRIVET))
    async with serving("healthy", directory=tmp_path, trivet=trivet, options=options) as program:
        assert await program.process.wait() == CLEAN
        assert '"serving"' not in program.log
        assert "healthy closed" not in program.log


async def test_a_pause_is_no_hang(tmp_path: Path) -> None:
    """Processes that all stood still for longer than `hang_limit` go on."""
    environ = {"TRIVET_HANG_LIMIT": "0.1"}
    async with serving("healthy", directory=tmp_path, environ=environ) as program:
        await program.logged('"serving"')
        pids = sorted(program.processes(), key=lambda pid: pid == program.process.pid)
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        await trio.sleep(0.1 + PARENT_STEP.after + 0.5)  # The pause itself.
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        async with program.client():
            assert "killing it" not in program.log
            assert await program.stop() == CLEAN
        assert program.log.count('"serving"') == 1
