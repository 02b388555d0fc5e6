"""The layers around a request, in front of a framework that is no Quart."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from trivet import Event, EventPlugin, Runtime
from trivet._web._service import Service
from trivet.testing import open_plugins


class Ping(Event):
    pass


class Pong(EventPlugin[Ping]):
    """A subscriber."""

    async def handle_event(self, event: Ping) -> None:
        pass


class Framework:
    """A framework that answers 299 to each request, and notes its path."""

    def __init__(self) -> None:
        self.paths: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.paths.append(scope["path"])
        await send({"type": "http.response.start", "status": 299, "headers": []})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def status_of(service: Service, method: str, path: str) -> int:
    """The status of the answer to a request without a body."""
    sent: list[dict[str, Any]] = []
    scope: Any = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(b"host", b"127.0.0.1")],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
    }

    async def receive() -> Any:
        await trio.sleep_forever()

    async def send(message: Any) -> None:
        sent.append(message)

    await service(scope, receive, send)
    status: int = sent[0]["status"]
    return status


def service_of(runtime: Runtime) -> tuple[Service, Framework]:
    """A service, and the framework behind it."""
    service, framework = Service(runtime, ["127.0.0.1:2"]), Framework()
    service.framework = framework
    return service, framework


@pytest.mark.parametrize("path", ["/livez", "/startupz", "/readyz", "/plugins"])
async def test_its_own_endpoints_do_not_come_to_the_framework(path: str) -> None:
    """Probes and statuses are answered before the framework."""
    async with open_plugins(Pong) as runtime:
        service, framework = service_of(runtime)
        assert await status_of(service, "GET", path) == 200
    assert framework.paths == []


@pytest.mark.parametrize(("method", "path"), [("DELETE", "/livez"), ("GET", "/x")])
async def test_every_other_request_comes_to_the_framework(method: str, path: str) -> None:
    """The framework answers other methods at the endpoints' paths, and all other paths."""
    async with open_plugins(Pong) as runtime:
        service, framework = service_of(runtime)
        assert await status_of(service, method, path) == 299
    assert framework.paths == [path]
