"""The ASGI application for another server: `hypercorn -k trio trivet.asgi:app`.

Owns the answer to the ASGI lifespan.
Never knows which server calls; it has to run on Trio.

The settings are those of `trivet.toml` and the environment; `TRIVET_CONFIG` names another file.
"""

from __future__ import annotations

import os

import structlog
import trio

from ._faults._errors import CriticalPluginError, TrivetError
from ._log._logging import configure_logging, never_waiting_stderr
from ._process._python_warnings import warnings_in_the_log
from ._program._loader import load
from ._program._reading import load_settings
from ._runtime import Runtime, running
from ._web import warn_of_open_doors
from ._web._app import Application, build_app
from ._web._asgi import Receive, Scope, Send

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger("trivet")


NOT_ON_TRIO = (
    "trivet.asgi needs a server that runs on Trio: `trivet serve`, or `hypercorn -k trio "
    "trivet.asgi:app`; a service on asyncio runs a program by `trivet.aio.open_runtime`"
)


class LifespanApp:
    """An ASGI application whose program runs between lifespan startup and shutdown."""

    def __init__(self) -> None:
        self._app: Application | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the lifespan here, and pass every other scope on to the Quart application."""
        if scope["type"] == "lifespan":
            await (self._live if trio.lowlevel.in_trio_run() else _refuse)(receive, send)
        elif self._app is None:
            raise RuntimeError("the server has to support the ASGI lifespan")
        else:
            await self._app.asgi_app(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            await self._run(receive, send)
        except CriticalPluginError as error:
            # The server would go on answering without the plugins, and exit with 0 in the end.
            _log.critical("ending the program", reason=str(error))
            os._exit(error.exit_code)
        except TrivetError as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
        else:
            await send({"type": "lifespan.shutdown.complete"})

    async def _run(self, receive: Receive, send: Send) -> None:
        settings = load_settings()
        configure_logging(settings.log, never_waiting_stderr())
        settings.find_modules()
        program = load(settings)
        with warnings_in_the_log(program.homes):
            async with running(Runtime(program)) as runtime:
                warn_of_open_doors(runtime)
                self._app = build_app(runtime)
                await send({"type": "lifespan.startup.complete"})
                await receive()


async def _refuse(receive: Receive, send: Send) -> None:
    """Fail the start on asyncio, where the program could not run."""
    await receive()
    await send({"type": "lifespan.startup.failed", "message": NOT_ON_TRIO})


app: LifespanApp = LifespanApp()
