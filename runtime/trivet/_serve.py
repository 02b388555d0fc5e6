"""`trivet serve`: a program behind its own HTTP server, until a signal says stop.

Owns the signals, the server and the process's end.
Never knows the command line that asked for it.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import hypercorn.trio
import structlog
import trio
from hypercorn.config import Config

from ._errors import ConfigurationError, StartError, StopOverrunError
from ._loader import Program
from ._runtime import Runtime, run_program, unwrapped
from ._web._app import build_app

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger("trivet")

OVERRUN_GRACE = 0.5
"""Seconds after the last deadline of a stop in which what was cancelled may still end."""


def run(program: Program) -> int:
    """Serve the program until SIGTERM or SIGINT. It logs as structlog is configured.

    Returns:
        The exit code of a clean stop.

    Raises:
        TrivetError: the program could not start or go on; the error has its exit code.
    """
    trio.run(serve, program)
    return 0


async def serve(program: Program) -> None:
    """Start the plugins, then serve them over HTTP; the first signal begins the stop."""
    bind = _bind(program.settings.bind)
    serving = trio.CancelScope()
    with unwrapped():
        async with trio.open_nursery() as nursery:
            await nursery.start(_cancel_on_signal, serving)
            with serving:
                async with run_program(program) as runtime:
                    nursery.start_soon(_leave_when_overrun, runtime)  # noqa: ASYNC111 - and its end
                    async with listening(runtime, bind) as urls:
                        _log.info("serving", urls=urls, plugins=list(runtime.hosts))
                        await trio.sleep_forever()
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def listening(runtime: Runtime, bind: str) -> AsyncGenerator[list[str]]:
    """Serve the runtime over HTTP within this block; yields the URLs that were bound.

    To leave it begins the runtime's stop: the listening socket closes, and the requests that are
    being answered may finish within `[shutdown] requests`.

    Args:
        runtime: what to serve.
        bind: `HOST:PORT` (port 0 is any free one), `unix:PATH`, or `fd://NUMBER`.
    """
    config = Config()
    config.bind = [bind]
    config.graceful_timeout = runtime.program.settings.shutdown.requests
    config.loglevel = "WARNING"
    app = build_app(runtime)
    stop = trio.Event()
    serving = trio.CancelScope(shield=True)
    async with trio.open_nursery() as nursery:

        async def serve_http(*, task_status: trio.TaskStatus[list[str]]) -> None:
            """Serve; a cancellation is no reason to end, `stop` is."""
            with serving:
                await hypercorn.trio.serve(  # pyright: ignore[reportUnknownMemberType]
                    app,
                    config,
                    shutdown_trigger=stop.wait,
                    task_status=task_status,
                )

        urls = await nursery.start(serve_http)
        try:
            yield urls
        finally:
            plan = runtime.begin_stop()
            stop.set()
            with trio.CancelScope(shield=True, deadline=plan.requests_until):
                await app.quiet()
            # What is open still is idle, or has a next request that hypercorn will not look at
            # any more, and yet would wait for.
            serving.cancel()


def _bind(address: str) -> str:
    """Take the address before anything starts; the socket is handed on as `fd://NUMBER`."""
    config = Config()
    config.bind = [address]
    try:
        (listener,) = config.create_sockets().insecure_sockets
    except ValueError as error:
        raise ConfigurationError(f"bind = {address!r} is not HOST:PORT") from error
    except OSError as error:
        raise StartError(f"cannot listen on {address}: {error.strerror or error}") from error
    return f"fd://{listener.detach()}"


async def _cancel_on_signal(scope: trio.CancelScope, *, task_status: trio.TaskStatus[None]) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        async for number in signals:
            _log.info("signal received", signal=signal.Signals(number).name)
            scope.cancel()


async def _leave_when_overrun(runtime: Runtime) -> None:
    """The last ring inside the loop: when the stop's budget is over, name what is left."""
    await runtime.stopping.wait()
    await trio.sleep_until(runtime.begin_stop().over + OVERRUN_GRACE)
    for host in runtime.hosts.values():
        if not host.ended.is_set():
            _log.critical("plugin overran the stop", plugin=host.name, stack=host.stack())
    sys.stderr.flush()
    os._exit(StopOverrunError.exit_code)
