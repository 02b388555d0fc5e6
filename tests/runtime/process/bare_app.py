"""A bare Quart-Trio application with work in the background, as its documentation shows it.

    python tests/runtime/process/bare_app.py crashes|stays|ends

Its work crashes, or cannot be cancelled, or is no trouble. Hypercorn serves it, until a signal.
"""

from __future__ import annotations

import math
import signal
import sys
from functools import partial
from typing import cast

import hypercorn.trio
import trio
from hypercorn.config import Config
from hypercorn.typing import ASGIFramework
from quart_trio import QuartTrio

app = QuartTrio("bare")


@app.before_serving
async def begin() -> None:
    """Start the work."""
    app.add_background_task(work)  # pyright: ignore[reportUnknownMemberType]


@app.get("/readyz")
async def ready() -> str:
    """The health check, which cannot know better."""
    return "ready"


@app.get("/large")
async def large() -> bytes:
    """A larger answer than a connection holds."""
    return b"x" * (64 * 1024 * 1024)


async def work() -> None:
    """The service's own work."""
    if sys.argv[1] == "crashes":
        raise ValueError("the work is over")
    with trio.CancelScope(shield=sys.argv[1] == "stays"):
        await trio.sleep(0 if sys.argv[1] == "ends" else math.inf)


async def main() -> None:
    """Serve, and say where."""
    config = Config()
    config.bind = ["127.0.0.1:0"]
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        serve = partial(
            hypercorn.trio.serve,  # pyright: ignore[reportUnknownMemberType]
            cast("ASGIFramework", app),
            config,
            shutdown_trigger=stop.wait,
        )
        (url,) = cast("list[str]", await nursery.start(serve))
        with trio.open_signal_receiver(signal.SIGTERM) as signals:
            sys.stdout.write(f"{url}\n")
            sys.stdout.flush()
            async for _ in signals:
                stop.set()
                break


if __name__ == "__main__":
    trio.run(main)
