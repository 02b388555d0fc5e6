"""`trivet serve`: a program behind its own HTTP server, until a signal asks for the stop.

Owns the signals, the server and the process's end.
Never knows the command line that asked for it.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from functools import partial

import structlog
import trio

from .._faults._acts import keep_notes
from .._faults._containment import unwrapped
from .._faults._errors import CriticalPluginError, StartError, TrivetError
from .._faults._masking import mask
from .._log._logging import configure_logging, never_waiting_stderr
from .._log._writer import also_to
from .._loop._tasks import breaker_of
from .._plugins._status import Status
from .._program._garbage import freeze_heap
from .._program._loader import Program, load
from .._program._overlay_file import delete_old_drafts
from .._program._reading import Read, is_overlay_changed
from .._program._settings import Settings, refuse_open_doors
from .._reload._reloader import reloading
from .._runtime import Runtime, running
from .._web._server._listening import listening
from ._escalation import LOOP
from ._lifeline import (
    Lifeline,
    end_forked_copies,
    fork_under_parent,
    inherited_lifeline,
    limits_of,
)
from ._parent._manager import ServiceManager
from ._parent._wire import FINAL_CODES, STOP_SIGNALS
from ._python_warnings import warnings_in_the_log
from ._report import Report, report_calls_of_exit
from ._safe_mode import files_of, with_disabled
from ._sockets import Listeners, bind, check_addresses
from ._stop import Stop
from ._watchdog import Watchdog

_exit = os._exit  # As it is before a plugin can replace it.
_log: structlog.typing.FilteringBoundLogger = structlog.get_logger("trivet")

HEARTBEAT_EVERY = 1.0
"""Seconds between two heartbeats of the event loop."""


def run(
    settings: Settings,
    read: Read,
    *,
    with_parent: bool,
    reloads: bool = False,
) -> int:
    """Load and serve a program until SIGTERM or SIGINT.

    Args:
        settings: the operator's settings.
        read: reads them anew, for a reload.
        with_parent: whether a parent process watches over this one. Then the stop ends in time,
            whatever plugins do.
        reloads: whether a new program takes this one's place, at once, when a file changes.

    Returns:
        The exit code of a clean stop.

    Raises:
        TrivetError: the program could not start or go on. The error has the exit code.
    """
    if signal.sigpending() & STOP_SIGNALS:
        return 0  # The stop was asked for before there was anything to stop.
    refuse_open_doors(settings, settings.addresses, settings.management_addresses)
    lifeline = inherited_lifeline()
    if lifeline is None:
        listeners = bind(settings)
    else:
        listeners = lifeline.listeners
        check_addresses(settings, lifeline.addresses, refuses=lifeline.waits)
        settings = with_disabled(settings, lifeline.disabled)
    listeners.refuse_open_doors(settings)
    if lifeline is None and with_parent:
        lifeline = fork_under_parent(settings, listeners)
    end_forked_copies()
    sys.stderr = never_waiting_stderr()
    configure_logging(settings.log, sys.stderr)
    report = Report(None) if lifeline is None else lifeline.report
    keep_notes(report.note)
    also_to(report.log)
    report_calls_of_exit(report)
    watchdog = Watchdog(
        budget=settings.shutdown.budget,
        hang_limit=0.0 if lifeline is None else settings.hang_limit,  # A debugger holds the loop.
        stop_read=None if lifeline is None else lifeline.stop_read,
        report=report,
    )
    stop = Stop(watchdog, _service_manager(), is_hasty=reloads)
    stop.listen()
    try:
        delete_old_drafts(settings.overlay)
        program = load(settings)
        freeze_heap()
        homes = program.homes  # A reload changes them.
        with _naming_who_broke_the_loop(homes, watchdog), warnings_in_the_log(homes):
            trio.run(serve, program, homes, read, listeners, stop, lifeline)
    except TrivetError as error:
        watchdog.verdict = error.exit_code
        if lifeline is not None and error.exit_code in FINAL_CODES:
            lifeline.send_verdict(error.exit_code)
        raise
    finally:
        watchdog.begin_stop()  # The interpreter's own end follows, which may hang, too.
    _flush_stdout()
    if lifeline is not None:
        lifeline.send_clean_exit()
    return 0


def _service_manager() -> ServiceManager:
    """The service manager; a plugin's processes do not find it."""
    manager = ServiceManager(os.environ)
    for variable in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"):
        os.environ.pop(variable, None)
    return manager


def _flush_stdout() -> None:
    """Write the rest of standard output; the interpreter's own attempt could fail the exit."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):  # The reader has gone, or a plugin has closed the stream.
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115 - it stays open


@contextmanager
def _naming_who_broke_the_loop(homes: Mapping[str, str], watchdog: Watchdog) -> Generator[None]:
    """Name the plugin that broke the event loop itself, which no supervision survives."""
    try:
        yield
    except trio.TrioInternalError as error:
        whose = breaker_of(error, homes) or "somebody"
        watchdog.report.say(f"{whose} has broken the event loop\n\n")
        with suppress(Exception):  # The error may be nested deeper than Python recurses.
            watchdog.report.say(mask("".join(traceback.format_exception(error))))
        _log.critical("the event loop is broken", by=whose)
        raise


_NO_PLUGIN = "name plugins in `active_plugins` of trivet.toml, or on the command line"


async def serve(
    program: Program,
    homes: dict[str, str],
    read: Read,
    listeners: Listeners,
    stop: Stop,
    lifeline: Lifeline | None,
) -> None:
    """Start the plugins, then serve them over HTTP on the socket until a stop is asked for."""
    runtime = Runtime(program, contains_interrupts=True)  # Signals go to a receiver.
    runtime.homes = homes
    if lifeline is not None:
        runtime.replace = partial(stop.replace, lifeline.ask_for_restart)
        runtime.earlier_deaths = lifeline.deaths
    runtime.on_adopt.append(partial(_heed, runtime, stop.watchdog, lifeline))
    watchdog = stop.watchdog
    token, root = trio.lowlevel.current_trio_token(), trio.lowlevel.current_root_task()
    assert root is not None
    watchdog.attach(
        lambda requests: token.run_sync_soon(stop.on_parent_request, requests),
        partial(runtime.what_is_left, root),
        lambda word: token.run_sync_soon(stop.on_word, word),
    )
    # A system task is not cancelled with the nursery below, whatever is left in there.
    trio.lowlevel.spawn_system_task(_leave_when_overrun, stop, runtime)
    with unwrapped():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_beat, stop, runtime, lifeline)
            nursery.start_soon(_begin_when_stopping, runtime, stop, lifeline)
            if stop.is_hasty:
                nursery.start_soon(_replace_when_changed, runtime)
            await nursery.start(_hear_signals, stop)
            stop.attach(runtime)
            with stop.serving:
                await _wait_for_turn(program, stop, lifeline)
                async with running(runtime), reloading(runtime, read):
                    public, management = (
                        [f"fd://{listener}" for listener in each]
                        for each in (listeners.public, listeners.management)
                    )
                    async with listening(runtime, public, management) as urls:
                        freeze_heap()
                        if not runtime.hosts:
                            _log.warning("no plugin is active", hint=_NO_PLUGIN)
                        _tell_of_service(urls, len(public), list(runtime.hosts))
                        stop.manager.tell("READY=1")
                        if lifeline is not None:
                            lifeline.send_serving()
                        await stop.hangups.reload(runtime, stop.manager)
            nursery.cancel_scope.cancel()


def _heed(runtime: Runtime, watchdog: Watchdog, lifeline: Lifeline | None) -> None:
    """Go by the settings and the plugins that a reload has brought; the parent process, too."""
    settings = runtime.program.settings
    configure_logging(settings.log, sys.stderr)
    hang_limit = 0.0 if lifeline is None else settings.hang_limit  # As at the start.
    watchdog.heed(budget=settings.shutdown.budget, hang_limit=hang_limit)
    if lifeline is not None:
        lifeline.send_facts(_facts(runtime.program))


def _facts(program: Program) -> dict[str, object]:
    """The facts of a program that the parent process goes by."""
    return {"limits": limits_of(program.settings), "files": files_of(program)}


async def _replace_when_changed(runtime: Runtime) -> None:
    from ._changes import replace_when_changed  # noqa: PLC0415 - for development

    await replace_when_changed(runtime)


async def _wait_for_turn(program: Program, stop: Stop, lifeline: Lifeline | None) -> None:
    """Tell the parent that the program is checked, and wait if an old one has to make room."""
    if lifeline is None:
        return
    lifeline.send_checked(_facts(program))
    if lifeline.waits:
        _log.info("the program is checked; it waits for the old one to make room")
        await stop.turn.wait()
        if is_overlay_changed(program.settings):  # The old one has changed settings meanwhile.
            stop.hangups.heard()


def _tell_of_service(urls: list[str], public: int, plugins: list[str]) -> None:
    """Say that the service is there; the first URLs are the public ones."""
    facts = {"management": urls[public:]} if urls[public:] else {}
    _log.info("serving", urls=urls[:public], **facts, plugins=plugins)


async def _hear_signals(stop: Stop, *, task_status: trio.TaskStatus[None]) -> None:
    with trio.open_signal_receiver(*STOP_SIGNALS, signal.SIGHUP) as signals:
        task_status.started()
        async for number in signals:
            _log.info("signal received", signal=signal.Signals(number).name)
            if number in STOP_SIGNALS:
                stop.on_signal()
            else:
                stop.hangups.heard()


async def _begin_when_stopping(runtime: Runtime, stop: Stop, lifeline: Lifeline | None) -> None:
    """Begin the stop that a plugin has caused; the verdict goes to the parent."""
    await runtime.stopping.wait()
    verdict = None if stop.was_asked_for else _verdict(runtime)
    if verdict is not None:
        stop.watchdog.verdict = verdict
        if lifeline is not None:
            lifeline.send_verdict(verdict)
    is_last = (stop.was_asked_for and not stop.makes_room) or verdict is not None
    if is_last:  # After a crash the program is started again.
        stop.manager.tell("STOPPING=1")
    stop.begun.set()


def _verdict(runtime: Runtime) -> int | None:
    """The exit code of a program that ends by itself; None after a crash."""
    if any(host.start_failed for host in runtime.hosts.values()):
        return StartError.exit_code
    if any(host.critical and host.status is Status.FAILED for host in runtime.hosts.values()):
        return CriticalPluginError.exit_code
    return None


async def _beat(stop: Stop, runtime: Runtime, lifeline: Lifeline | None) -> None:
    while True:
        stop.watchdog.beat()
        stop.manager.tell_alive()  # It waits for this process only where there is no parent.
        # Without a limit the parent does not read, and the pipe would fill.
        if lifeline is not None and runtime.program.settings.hang_limit:
            lifeline.send_heartbeat()
        await trio.sleep(min(HEARTBEAT_EVERY, stop.manager.alive_every))


async def _leave_when_overrun(stop: Stop, runtime: Runtime) -> None:
    """Take the loop's step of the escalation: when the budget is over, name what is left."""
    await stop.begun.wait()
    stop.watchdog.begin_stop()
    await trio.sleep(runtime.program.settings.shutdown.budget + LOOP.after)
    stop.watchdog.end_process(LOOP)
