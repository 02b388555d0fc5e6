"""The most common choice: FastAPI on uvicorn, with its fast extras.

python tests/bench/answering/peer.py
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel


class Ordered(BaseModel):
    """An event that comes by HTTP."""

    order_id: str
    note: str


queue: asyncio.Queue[Ordered] = asyncio.Queue(1000)


async def read() -> None:
    """Read events, and do nothing with them."""
    while True:
        await queue.get()


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
    """Read events as long as the application serves."""
    async with asyncio.TaskGroup() as tasks:
        reading = tasks.create_task(read())
        yield
        reading.cancel()


app = FastAPI(lifespan=lifespan)


@app.post("/events/ordered", status_code=202)
async def take(ordered: Ordered) -> dict[str, object]:
    """Pass an event to the reader."""
    await queue.put(ordered)
    return {"fates": {"taker": "queued"}}


def main() -> None:
    """Serve, and print the address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host, port = listener.getsockname()
        sys.stderr.write(f"http://{host}:{port}\n")
        sys.stderr.flush()
        config = uvicorn.Config(app, log_level="warning", access_log=False)
        uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
