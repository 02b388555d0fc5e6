"""The most common choices on uvicorn, with its fast extras: FastAPI, or Starlette alone.

python tests/bench/answering/peer.py fastapi
python tests/bench/answering/peer.py starlette
python tests/bench/answering/peer.py starlette CERTIFICATE
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
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route


class Ordered(BaseModel):
    """An event that comes by HTTP."""

    order_id: str
    note: str


queue: asyncio.Queue[object] = asyncio.Queue(1000)


async def read() -> None:
    """Read events, and do nothing with them."""
    while True:
        await queue.get()


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncGenerator[None]:
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


@app.get("/hello")
async def hello() -> dict[str, object]:
    """Answer as the plugin does."""
    return {"hello": "world"}


async def take_alone(request: Request) -> JSONResponse:
    """Pass a document to the reader."""
    await queue.put(await request.json())
    return JSONResponse({"fates": {"taker": "queued"}}, 202)


async def hello_alone(_: Request) -> JSONResponse:
    """Answer as the plugin does."""
    return JSONResponse({"hello": "world"})


alone = Starlette(
    routes=[
        Route("/events/ordered", take_alone, methods=["POST"]),
        Route("/hello", hello_alone),
    ],
    lifespan=lifespan,
)


def main() -> None:
    """Serve, and print the address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host, port = listener.getsockname()
        chosen = alone if sys.argv[1] == "starlette" else app
        certificate = sys.argv[2] if sys.argv[2:] else None
        sys.stderr.write(f"{'https' if certificate else 'http'}://{host}:{port}\n")
        sys.stderr.flush()
        config = uvicorn.Config(
            chosen, log_level="warning", access_log=False, ssl_certfile=certificate
        )
        uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
