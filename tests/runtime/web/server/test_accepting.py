"""A listening socket that cannot be accepted from for a while, or does not listen any more."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator

import httpx
import pytest
import trio
from trio.testing import MockClock

from trivet import ListenerLostError, listening, open_runtime
from trivet._web._server._accepting import RETRY_INTERVAL, accept_all


class Listener(trio.abc.Listener[trio.abc.Stream]):
    """Errors, raised one after the other; then there is a connection."""

    def __init__(self, errors: Iterator[Exception]) -> None:
        self._errors = errors
        self.asked = 0

    async def accept(self) -> trio.abc.Stream:
        """Raise the next error, or accept."""
        self.asked += 1
        error = next(self._errors, None)
        if error is not None:
            raise error
        if self.asked > 100:
            await trio.sleep_forever()
        self.asked = 101
        return trio.testing.memory_stream_pair()[0]

    async def aclose(self) -> None:
        """Nothing is open."""


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS])
async def test_a_shortage_is_waited_for_and_told_once(
    number: int,
    autojump_clock: MockClock,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Other connections are served until there is room for one more; then it is accepted."""
    failures = 5
    listener = Listener(OSError(number, "none left") for _ in range(failures))
    came = trio.Event()

    async def handle(stream: trio.abc.Stream) -> None:
        came.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: accept_all(listener, handle, nursery, url="http://x"))
        await came.wait()
        nursery.cancel_scope.cancel()
    assert trio.current_time() == pytest.approx(failures * RETRY_INTERVAL)
    assert capsys.readouterr().out.count("no connection can be accepted for now") == 1


@pytest.mark.parametrize(
    "error", [OSError(errno.EINVAL, ""), OSError(errno.EBADF, ""), trio.ClosedResourceError()]
)
async def test_a_socket_that_is_gone_is_an_error_that_says_so(error: Exception) -> None:
    """A socket that does not listen any more raises at once."""

    async def handle(stream: trio.abc.Stream) -> None:
        pytest.fail("there is none")

    async with trio.open_nursery() as nursery:
        with pytest.raises(ListenerLostError, match="http://x does not listen any more"):
            await accept_all(Listener(iter([error])), handle, nursery, url="http://x")


async def test_a_lost_socket_stops_the_program_in_order() -> None:
    """Connections that are open when the socket is shut down are closed as by any stop."""
    ended = trio.Event()

    async def serve() -> None:
        async with open_runtime() as runtime, listening(runtime, "127.0.0.1:0") as urls:
            async with httpx.AsyncClient(base_url=urls[0]) as client:
                assert (await client.get("/livez")).status_code == 200
            shut_down(int(urls[0].rpartition(":")[2]))
            try:
                await trio.sleep_forever()
            finally:
                ended.set()

    with pytest.raises(ListenerLostError):
        await serve()
    assert ended.is_set()


def shut_down(port: int) -> None:
    """Shut down the socket of this process that listens on a port, as a plugin could."""
    for descriptor in range(3, 200):
        try:
            own = socket.socket(fileno=descriptor)
        except OSError:
            continue
        try:
            listens = own.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
            if listens and own.getsockname()[1] == port:
                own.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        finally:
            own.detach()


async def test_a_socket_that_is_lost_before_it_is_waited_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A socket that is shut down while the server starts is told as one that is later."""
    make = trio.SocketListener

    def lost(listener: trio.socket.SocketType) -> trio.SocketListener:
        listener.shutdown(socket.SHUT_RDWR)
        return make(listener)

    monkeypatch.setattr(trio, "SocketListener", lost)
    with pytest.RaisesGroup(ListenerLostError, flatten_subgroups=True):
        async with trio.open_nursery():
            async with open_runtime(plugins=[]) as runtime, listening(runtime, "127.0.0.1:0"):
                await trio.sleep_forever()
