"""`trivet serve`: a program behind its own HTTP server, until a signal says stop.

Owns the signals, the server and the process's end.
Never knows the command line that asked for it.
"""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial

import structlog
import trio
from hypercorn.config import Config

from ._errors import StartError
from ._garbage import keep
from ._ladder import LOOP
from ._lifeline import Lifeline, adopted, end_copies, get_parent, new_report
from ._loader import Program, load
from ._runtime import Runtime, running, unwrapped
from ._settings import Settings
from ._supervision._tasks import breaker_of
from ._supervision._watchdog import Watchdog
from ._web._server import listening

_exit = os._exit  # As it is before a plugin can replace it.
_log: structlog.typing.FilteringBoundLogger = structlog.get_logger("trivet")

BEAT = 1.0
"""Seconds between two signs of life that the loop gives to the watchdog."""


def run(settings: Settings, *, with_parent: bool) -> int:
    """Load and serve a program until SIGTERM or SIGINT. It logs as structlog is configured.

    Args:
        settings: the operator's.
        with_parent: whether a parent process is to watch over this one; the stop then ends in
            time whatever plugins do.

    Returns:
        The exit code of a clean stop.

    Raises:
        TrivetError: the program could not start or go on; the error has its exit code.
    """
    lifeline = adopted()
    listener = bind(settings.bind) if lifeline is None else lifeline.listener
    if lifeline is None and with_parent:
        lifeline = get_parent(settings, listener)
    end_copies()
    report = new_report() if lifeline is None else lifeline.report
    watchdog = Watchdog(
        budget=settings.shutdown.budget,
        hang_limit=0.0 if lifeline is None else settings.hang_limit,  # A debugger holds the loop.
        lifeline=None if lifeline is None else lifeline.stop,
        report=report,
    )
    try:
        program = load(settings)
        keep()
        with _telling_who_broke_it(program, watchdog):
            trio.run(serve, program, listener, watchdog, lifeline)
    finally:
        if lifeline is None:
            report.unlink()  # The parent would do it.
    if lifeline is not None:
        lifeline.end_cleanly()
    return 0


@contextmanager
def _telling_who_broke_it(program: Program, watchdog: Watchdog) -> Generator[None]:
    """Name who made the event loop itself fail, which no supervision of plugins survives."""
    try:
        yield
    except trio.TrioInternalError as error:
        whose = breaker_of(error, program.homes) or "somebody"
        text = "".join(traceback.format_exception(error))
        watchdog.say(f"{whose} has broken the event loop\n\n{text}")
        _log.critical("the event loop is broken", by=whose)
        raise


class Stop:
    """What asks for the stop, and how urgently."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._requests = 0
        self.serving = trio.CancelScope()
        """What is cancelled to begin the stop."""
        self.begun = trio.Event()

    def request(self) -> None:
        """Stop; a second time: without waiting for requests and inboxes; a third time: at once."""
        self._requests += 1
        if self._requests == 1:
            self.begun.set()
            self.serving.cancel()
        elif self._requests == 2:
            self._runtime.hurry()
        else:
            _exit(LOOP.exit_code)


async def serve(
    program: Program, listener: int, watchdog: Watchdog, lifeline: Lifeline | None
) -> None:
    """Start the plugins, then serve them over HTTP on the socket until a stop is asked for."""
    runtime = Runtime(program, contains_interrupts=True)  # Signals go to a receiver.
    stop = Stop(runtime)
    token, root = trio.lowlevel.current_trio_token(), trio.lowlevel.current_root_task()
    assert root is not None
    describe = partial(runtime.what_is_left, root)
    watchdog.attach(partial(token.run_sync_soon, stop.request), describe)
    # A system task: whatever is left in the nursery below, this one is not cancelled with it.
    trio.lowlevel.spawn_system_task(_leave_when_overrun, stop, program.settings, watchdog, describe)
    with unwrapped():
        async with trio.open_nursery() as nursery:
            # Without a limit the parent does not listen, and the pipe would fill.
            listens = lifeline if program.settings.hang_limit else None
            nursery.start_soon(_beat, watchdog, listens)
            await nursery.start(_stop_on_signal, stop)
            with stop.serving:
                async with running(runtime):
                    nursery.start_soon(_begin_when_stopping, runtime, stop)
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
    config = Config()
    config.bind = [address]
    try:
        (listener,) = config.create_sockets().insecure_sockets
    except OSError as error:
        raise StartError(f"cannot listen on {address}: {error.strerror or error}") from error
    return listener.detach()


async def _stop_on_signal(stop: Stop, *, task_status: trio.TaskStatus[None]) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        async for number in signals:
            _log.info("signal received", signal=signal.Signals(number).name)
            stop.request()


async def _begin_when_stopping(runtime: Runtime, stop: Stop) -> None:
    await runtime.stopping.wait()  # A critical plugin may have been the reason.
    stop.begun.set()


async def _beat(watchdog: Watchdog, lifeline: Lifeline | None) -> None:
    while True:
        watchdog.beat()
        if lifeline is not None:
            lifeline.beat()
        await trio.sleep(BEAT)


async def _leave_when_overrun(
    stop: Stop, settings: Settings, watchdog: Watchdog, describe: Callable[[], str]
) -> None:
    """The last ring inside the loop: when the stop's budget is over, name what is left."""
    await stop.begun.wait()
    watchdog.stop_begins()
    await trio.sleep(settings.shutdown.budget + LOOP.after)
    watchdog.say(f"{watchdog.reason}, and the event loop ends the process\n\n{describe()}")
    _exit(LOOP.exit_code)
