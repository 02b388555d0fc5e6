"""A service to be asked anything: `trivet serve`, as an operator starts it, and what it said."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

import psutil

PLUGINS = """
from typing import Any

import trio
from quart import Response, request, websocket
from trivet import BackgroundPlugin, Event, EventPlugin, EventStream, route, websocket_route


class Ordered(Event):
    order_id: str
    extra: Any = None


class Kept(Event):
    order_id: str
    extra: Any = None


class Picky(Event):
    order_id: int
    extra: dict[int, list[float]] | None = None

    def __attrs_post_init__(self) -> None:
        assert self.order_id >= 0, "an order has a number"


class Billing(EventPlugin[Ordered]):
    async def handle_event(self, event: Ordered) -> None:
        pass


class Keeper(EventPlugin[Kept]):
    async def handle_event(self, event: Kept) -> None:
        pass


class Purist(EventPlugin[Picky]):
    async def handle_event(self, event: Picky) -> None:
        pass


class Ticks:
    def __aiter__(self):
        return self

    async def __anext__(self) -> str:
        await trio.sleep(0.05)
        return "tick"


class Desk(BackgroundPlugin):
    @route("/", methods=["GET", "POST"])
    async def home(self) -> str:
        return "here"

    @route("/json", methods=["POST"])
    async def json(self) -> dict[str, str]:
        return {"is": type(await request.get_json()).__name__}

    @route("/text", methods=["POST"])
    async def text(self) -> str:
        return str(len(await request.get_data(as_text=True)))

    @route("/form", methods=["POST"])
    async def form(self) -> dict[str, int]:
        return {"fields": len(await request.form), "files": len(await request.files)}

    @route("/all", methods=["GET", "POST"])
    async def all(self) -> str:
        names = (
            "args authorization cookies range if_range accept_mimetypes accept_languages date host "
            "accept_encodings accept_charsets if_modified_since if_unmodified_since if_match path "
            "if_none_match url base_url root_url content_type mimetype mimetype_params is_json "
            "max_forwards cache_control user_agent referrer content_length content_encoding pragma "
            "full_path access_route"
        )
        return str([type(getattr(request, name)).__name__ for name in names.split()])

    @route("/rows")
    async def rows(self) -> Response:
        async def rows():
            for _ in range(50):
                yield b"a row of a large table\\n" * 40
        return Response(rows())

    @route("/news")
    async def news(self) -> EventStream:
        return EventStream(Ticks())

    @websocket_route("/echo")
    async def echo(self) -> None:
        while True:
            await websocket.send(await websocket.receive())
"""
SETTINGS = """
bind = "127.0.0.1:0"
active_plugins = ["shop"]
max_body = 1000000
[[tokens]]
name = "operator"
scopes = ["admin"]
secret = "0123456789abcdef"
[plugins.keeper.delivery]
durable = true
"""


class Service:
    """The process, within a block.

    Args:
        directory: an empty one, for its files.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._log = directory / "log"
        self._read = 0
        self.port = 0

    def __enter__(self) -> Service:
        (self._directory / "plugins").mkdir()
        (self._directory / "plugins" / "shop.py").write_text(PLUGINS)
        (self._directory / "trivet.toml").write_text(SETTINGS)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [str(Path(sys.executable).with_name("trivet")), "serve"],
                cwd=self._directory,
                stdout=log,
                stderr=log,
            )
        until = time.monotonic() + 60
        while not (
            found := re.search(r"serving .*http://127\.0\.0\.1:(\d+)", self._log.read_text())
        ):
            if self._process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(self._log.read_text())
            time.sleep(0.05)
        self.port = int(found[1])
        (self._program,) = psutil.Process(self._process.pid).children()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()

    def stop(self) -> int:
        """Ask the service to stop, and return its exit code."""
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(60)

    @property
    def descriptors(self) -> int:
        """The number of files and sockets that the service has open."""
        return self._program.num_fds()

    @property
    def megabytes(self) -> float:
        """The memory of the service, in megabytes."""
        return self._program.memory_info().rss / 1e6

    def complaints(self) -> list[str]:
        """Lines logged since the last call that no client's data may cause."""
        with self._log.open("rb") as log:
            log.seek(self._read)
            said = log.read()
            self._read += len(said)
        lines = said.decode(errors="replace").splitlines()
        bad = re.compile(
            r"Traceback|\[error|\[critical|connection failed|Exception in|never awaited"
        )
        return [line for line in lines if bad.search(line)]
