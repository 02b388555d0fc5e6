"""A service without Trivet: Quart-Trio on hypercorn, and events taken by hand.

python tests/bench/answering/bare.py
"""

from __future__ import annotations

import json
import math
import sys
from datetime import UTC, datetime
from functools import partial
from typing import cast

import attrs
import hypercorn.trio
import trio
from hypercorn.config import Config
from hypercorn.typing import ASGIFramework
from quart import request
from quart_trio import QuartTrio


@attrs.frozen
class Ordered:
    """An event that comes by HTTP."""

    order_id: str
    note: str
    time: datetime = attrs.field(factory=lambda: datetime.now(UTC))


app = QuartTrio("bare")
into, out_of = trio.open_memory_channel[Ordered](1000)


@app.get("/hello")
async def hello() -> dict[str, object]:
    """Answer as the plugin does."""
    return {"hello": "world"}


@app.post("/events/ordered")
async def take() -> tuple[dict[str, object], int]:
    """Decode an event, and pass it to the reader."""
    await into.send(Ordered(**json.loads(await request.get_data())))
    return {"fates": {"taker": "queued"}}, 202


async def read() -> None:
    """Read events, and do nothing with them."""
    async for _ in out_of:
        pass


async def main() -> None:
    """Serve, and print the address."""
    config = Config()
    config.bind = ["127.0.0.1:0"]
    config.loglevel = "WARNING"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        serve = partial(
            hypercorn.trio.serve,  # pyright: ignore[reportUnknownMemberType]
            cast("ASGIFramework", app),
            config,
            shutdown_trigger=partial(trio.sleep, math.inf),
        )
        (url,) = cast("list[str]", await nursery.start(serve))
        sys.stderr.write(f"{url}\n")
        sys.stderr.flush()


if __name__ == "__main__":
    trio.run(main)
