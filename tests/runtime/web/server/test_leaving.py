"""A server that leaves its clients to another process."""

from __future__ import annotations

import httpx
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trivet import Event, EventPlugin, Runtime, route
from trivet.testing import open_plugins, serving


class Greeting(Event):
    number: int = 0


class Greeter(EventPlugin[Greeting]):
    async def handle_event(self, event: Greeting) -> None: ...

    @route("/plain")
    async def plain(self) -> str:
        return "hello"

    @route("/waits")
    async def waits(self) -> str:
        await trio.lowlevel.checkpoint()
        return "hello"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/events/greeting"),
        ("GET", "/plain"),
        ("GET", "/waits"),
        ("GET", "/livez"),
        ("GET", "/openapi.json"),
        ("GET", "/nowhere"),
    ],
)
async def test_no_connection_is_kept(method: str, path: str) -> None:
    """Whichever way a request is answered, the response says that its connection is not kept, and
    the answer is the same as ever."""
    async with open_plugins(Greeter) as runtime, serving(runtime) as url:
        async with httpx.AsyncClient(base_url=url) as client:
            content = "{}" if method == "POST" else None
            headers = {"Content-Type": "application/json"} if content else {}
            before = await client.request(method, path, content=content, headers=headers)
            assert "connection" not in before.headers
            runtime.leaving.set()
            after = await client.request(method, path, content=content, headers=headers)
    assert (after.status_code, after.headers["connection"]) == (before.status_code, "close")


async def _serve(
    runtime: Runtime, scope: trio.CancelScope, *, task_status: trio.TaskStatus[str]
) -> None:
    with scope:
        async with serving(runtime) as url:
            task_status.started(url)
            await trio.sleep_forever()


async def test_a_client_that_has_connected_is_answered() -> None:
    """A request of a client that had connected is answered as ever, though it comes when the
    listening socket is closed."""
    scope = trio.CancelScope()
    async with open_plugins(Greeter) as runtime, trio.open_nursery() as nursery:
        url = httpx.URL(await nursery.start(_serve, runtime, scope))
        assert url.port is not None
        stream = await trio.open_tcp_stream(url.host, url.port)
        await wait_all_tasks_blocked(0.05)
        runtime.leaving.set()
        scope.cancel()
        await wait_all_tasks_blocked(0.005)
        with pytest.raises(OSError, match="connect"):
            await trio.open_tcp_stream(url.host, url.port)
        assert not runtime.stopping.is_set()
        async with stream:
            await stream.send_all(b"GET /plain HTTP/1.1\r\nHost: localhost\r\n\r\n")
            answer = b"".join([part async for part in stream])
        assert answer.startswith(b"HTTP/1.1 200")
        assert b"connection: close" in answer.lower()


async def test_a_stop_does_not_wait_for_clients() -> None:
    """A request to stop ends the wait for clients that send nothing."""
    scope = trio.CancelScope()
    async with open_plugins(Greeter) as runtime, trio.open_nursery() as nursery:
        url = httpx.URL(await nursery.start(_serve, runtime, scope))
        assert url.port is not None
        stream = await trio.open_tcp_stream(url.host, url.port)
        await wait_all_tasks_blocked(0.05)
        runtime.leaving.set()
        scope.cancel()
        await wait_all_tasks_blocked(0.005)
        begun = trio.current_time()
        runtime.begin_stop()
        async with stream:
            assert [part async for part in stream] == []
        assert trio.current_time() - begun < 4
