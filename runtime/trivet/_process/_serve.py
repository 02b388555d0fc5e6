"""`trivet serve`: a program behind its own HTTP server, until a signal says stop.

Owns the signals, the server and the process's end.
Never knows the command line that asked for it.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Generator
from contextlib import contextmanager, suppress
from functools import partial
from types import FrameType

import structlog
import trio

from .._faults._acts import keep_notes
from .._faults._containment import unwrapped
from .._faults._errors import CriticalPluginError, StartError, TrivetError
from .._faults._masking import mask
from .._log._logging import configure_logging, mask_tracebacks, never_waiting_stderr
from .._loop._tasks import breaker_of
from .._plugins._status import Status
from .._program._loader import Program, load
from .._program._settings import Settings
from .._runtime import Runtime, running
from .._web._hypercorn._server import listening, open_socket
from ._garbage import keep
from ._ladder import LOOP
from ._lifeline import Lifeline, adopted, end_copies, get_parent
from ._parent import FINAL, PUT_OFF, STOP_SIGNALS
from ._report import Report, name_who_exits
from ._watchdog import Watchdog

_exit = os._exit  # As it is before a plugin can replace it.
_log: structlog.typing.FilteringBoundLogger = structlog.get_logger("trivet")

BEAT = 1.0
"""Seconds between two signs of life that the loop gives to the watchdog."""


def run(settings: Settings, *, with_parent: bool) -> int:
    """Load and serve a program until SIGTERM or SIGINT.

    Args:
        settings: the operator's.
        with_parent: whether a parent process is to watch over this one; the stop then ends in
            time whatever plugins do.

    Returns:
        The exit code of a clean stop.

    Raises:
        TrivetError: the program could not start or go on; the error has its exit code.
    """
    if signal.sigpending() & STOP_SIGNALS:
        return 0  # The stop was asked for before there was anything to stop.
    lifeline = adopted()
    listener = bind(settings.bind) if lifeline is None else lifeline.listener
    if lifeline is None and with_parent:
        lifeline = get_parent(settings, listener)
    end_copies()
    sys.stderr = never_waiting_stderr()
    configure_logging(settings.log, sys.stderr)
    mask_tracebacks()
    report = Report(None) if lifeline is None else lifeline.report
    keep_notes(report.note)
    name_who_exits(report)
    watchdog = Watchdog(
        budget=settings.shutdown.budget,
        hang_limit=0.0 if lifeline is None else settings.hang_limit,  # A debugger holds the loop.
        lifeline=None if lifeline is None else lifeline.stop,
        report=report,
    )
    stop = Stop(watchdog)
    stop.listen()
    try:
        program = load(settings)
        keep()
        with _telling_who_broke_it(program, watchdog):
            trio.run(serve, program, listener, stop, lifeline)
    except TrivetError as error:
        watchdog.verdict = error.exit_code
        if lifeline is not None and error.exit_code in FINAL:
            lifeline.give_verdict(error.exit_code)
        raise
    finally:
        watchdog.stop_begins()  # What is left is the interpreter's end, which may hang, too.
    _flush_stdout()
    if lifeline is not None:
        lifeline.end_cleanly()
    return 0


def _flush_stdout() -> None:
    """Write what plugins have printed; the interpreter would make a failure of it otherwise."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):  # Its reader has gone, or a plugin has closed it.
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115 - it stays open


@contextmanager
def _telling_who_broke_it(program: Program, watchdog: Watchdog) -> Generator[None]:
    """Name who made the event loop itself fail, which no supervision of plugins survives."""
    try:
        yield
    except trio.TrioInternalError as error:
        whose = breaker_of(error, program.homes) or "somebody"
        watchdog.report.say(f"{whose} has broken the event loop\n\n")
        with suppress(Exception):  # It may be deeper than Python recurses.
            watchdog.report.say(mask("".join(traceback.format_exception(error))))
        _log.critical("the event loop is broken", by=whose)
        raise


class Stop:
    """What asks for the stop, and how urgently.

    A request that comes as a signal to this process and from its parent, too, is one: a service
    manager tells both. How urgent the stop is follows from the side that has asked more often.

    Args:
        watchdog: who hears the parent.
    """

    def __init__(self, watchdog: Watchdog) -> None:
        self.watchdog = watchdog
        self._signals = 0
        self._urgency = 0
        self._runtime: Runtime | None = None
        self.serving = trio.CancelScope()
        """What is cancelled to begin the stop."""
        self.begun = trio.Event()

    def listen(self) -> None:
        """Hear signals from now on, those that came before, too; the loop acts on them when it can.

        Signals that were inherited as blocked or ignored are heard.
        """
        for number in STOP_SIGNALS:
            signal.signal(number, self._heard_before_the_loop)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # Until the loop can say so.
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # Or a line for the terminal would stop it.
        signal.pthread_sigmask(signal.SIG_SETMASK, [])

    def _heard_before_the_loop(self, number: int, frame: FrameType | None) -> None:
        self._signals += 1  # Also after the loop, when nothing can be hurried any more.
        if self._signals > 2:
            _exit(LOOP.exit_code)

    def attach(self, runtime: Runtime) -> None:
        """From now on requests are acted upon; those that came before, at once."""
        self._runtime = runtime
        self._act(self.watchdog.requests)

    def signalled(self) -> None:
        """This process has had a signal."""
        self._signals += 1
        self._act(self._signals)

    def told(self, requests: int) -> None:
        """The parent has asked so many times."""
        self._act(requests)

    @property
    def was_asked_for(self) -> bool:
        """Whether somebody wants the stop, so that it does not come of itself."""
        return self._urgency > 0

    def _act(self, requests: int) -> None:
        """Stop; a second time: without waiting for requests and inboxes; a third time: at once."""
        assert self._runtime is not None
        while self._urgency < max(requests, self._signals):
            self._urgency += 1
            if self._urgency == 1:
                self.begun.set()
                self.serving.cancel()
            elif self._urgency == 2:
                self._runtime.hurry()
            else:
                _exit(LOOP.exit_code)


async def serve(program: Program, listener: int, stop: Stop, lifeline: Lifeline | None) -> None:
    """Start the plugins, then serve them over HTTP on the socket until a stop is asked for."""
    runtime = Runtime(program, contains_interrupts=True)  # Signals go to a receiver.
    watchdog = stop.watchdog
    token, root = trio.lowlevel.current_trio_token(), trio.lowlevel.current_root_task()
    assert root is not None
    watchdog.attach(
        lambda requests: token.run_sync_soon(stop.told, requests),
        partial(runtime.what_is_left, root),
    )
    # A system task: whatever is left in the nursery below, this one is not cancelled with it.
    trio.lowlevel.spawn_system_task(_leave_when_overrun, stop, program.settings)
    with unwrapped():
        async with trio.open_nursery() as nursery:
            # Without a limit the parent does not listen, and the pipe would fill.
            listens = lifeline if program.settings.hang_limit else None
            nursery.start_soon(_beat, watchdog, listens)
            nursery.start_soon(_begin_when_stopping, runtime, stop, lifeline)
            await nursery.start(_hear_signals, stop)
            stop.attach(runtime)
            with stop.serving:
                async with running(runtime):
                    async with listening(runtime, f"fd://{listener}") as urls:
                        keep()
                        _log.info("serving", urls=urls, plugins=list(runtime.hosts))
                        await trio.sleep_forever()
            nursery.cancel_scope.cancel()


def bind(address: str) -> int:
    """Take the address before anything starts.

    Returns:
        The descriptor of a socket that is bound, and does not listen yet.

    Raises:
        StartError: the address cannot be had.
    """
    try:
        listener = open_socket(address)
    except OSError as error:
        raise StartError(f"cannot listen on {address}: {error.strerror or error}") from error
    return listener.detach()


async def _hear_signals(stop: Stop, *, task_status: trio.TaskStatus[None]) -> None:
    with trio.open_signal_receiver(*PUT_OFF) as signals:
        task_status.started()
        async for number in signals:
            name = signal.Signals(number).name
            if number in STOP_SIGNALS:
                _log.info("signal received", signal=name)
                stop.signalled()
            else:
                _log.warning(
                    "signal ignored: settings are not read again while the program runs",
                    signal=name,
                )


async def _begin_when_stopping(runtime: Runtime, stop: Stop, lifeline: Lifeline | None) -> None:
    """Begin the stop that comes of itself, when a plugin was the reason."""
    await runtime.stopping.wait()
    verdict = None if stop.was_asked_for else _verdict(runtime)
    if verdict is not None:
        stop.watchdog.verdict = verdict
        if lifeline is not None:
            lifeline.give_verdict(verdict)
    stop.begun.set()


def _verdict(runtime: Runtime) -> int | None:
    """The exit code of a program that ends of itself; None where it has crashed."""
    if any(host.start_failed for host in runtime.hosts.values()):
        return StartError.exit_code
    if any(host.critical and host.status is Status.FAILED for host in runtime.hosts.values()):
        return CriticalPluginError.exit_code
    return None


async def _beat(watchdog: Watchdog, lifeline: Lifeline | None) -> None:
    while True:
        watchdog.beat()
        if lifeline is not None:
            lifeline.beat()
        await trio.sleep(BEAT)


async def _leave_when_overrun(stop: Stop, settings: Settings) -> None:
    """The last ring inside the loop: when the stop's budget is over, name what is left."""
    await stop.begun.wait()
    stop.watchdog.stop_begins()
    await trio.sleep(settings.shutdown.budget + LOOP.after)
    stop.watchdog.end(LOOP)
