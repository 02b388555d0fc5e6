"""For people who run their own server: `hypercorn -k trio trivet.asgi:app`.

Owns the answer to the ASGI lifespan.
Never knows which server asks; it has to run on Trio.

The settings are those of `trivet.toml` and the environment; `TRIVET_CONFIG` names another file.
"""

from __future__ import annotations

import os

import structlog
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, Scope
from quart_trio import QuartTrio

from ._faults._errors import CriticalPluginError, TrivetError
from ._log._logging import configure_logging, never_waiting_stderr
from ._program._loader import load
from ._program._settings import load_settings
from ._runtime import Runtime, running
from ._web._app import build_app

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger("trivet")


class LifespanApp:
    """An ASGI application whose program runs between lifespan startup and shutdown."""

    def __init__(self) -> None:
        self._app: QuartTrio | None = None

    async def __call__(
        self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable
    ) -> None:
        """Answer the lifespan here, and hand everything else to the Quart application."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif self._app is None:
            raise RuntimeError("the server has to support the ASGI lifespan")
        else:
            await self._app(scope, receive, send)

    async def _live(self, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
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

    async def _run(self, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        settings = load_settings()
        configure_logging(settings.log, never_waiting_stderr())
        settings.find_modules()
        async with running(Runtime(load(settings))) as runtime:
            self._app = build_app(runtime)
            await send({"type": "lifespan.startup.complete"})
            await receive()


app: LifespanApp = LifespanApp()
