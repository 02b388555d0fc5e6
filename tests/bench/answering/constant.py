"""One constant answer as an ASGI application, on the server of Trivet or on uvicorn.

python tests/bench/answering/constant.py trivet
python tests/bench/answering/constant.py uvicorn
"""

from __future__ import annotations

import socket
import sys
from typing import Any

import trio
import uvicorn

from trivet._web._server._listening import Server

HEADERS = [(b"content-length", b"2"), (b"content-type", b"text/plain")]


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answer every request with the same two bytes."""
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": b"ok"})


def say(url: str) -> None:
    """Print the address."""
    sys.stderr.write(f"{url}\n")
    sys.stderr.flush()


async def on_trivet() -> None:
    """Serve until the process ends."""
    server = Server(app, max_connections=1000, max_message=1000, contains_interrupts=False)
    async with trio.open_nursery() as nursery:
        (url,) = await nursery.start(server.serve, "127.0.0.1:0")
        say(url)


def on_uvicorn() -> None:
    """Serve on uvloop and httptools, which uvicorn takes where they are installed."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        say(f"http://127.0.0.1:{listener.getsockname()[1]}")
        config = uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off")
        uvicorn.Server(config).run([listener])


if __name__ == "__main__":
    if sys.argv[1:] == ["trivet"]:
        trio.run(on_trivet)
    else:
        on_uvicorn()
