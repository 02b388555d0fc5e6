"""A crash of a route costs its own request alone, whatever the route raises."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import structlog
import trio
from quart import Response
from trio.testing import MockClock

from trivet import (
    App,
    BackgroundPlugin,
    Handler,
    MonitoringPlugin,
    MonitoringPoint,
    Runtime,
    Settings,
    create_app,
    route,
)
from trivet._program._loader import load
from trivet._runtime import running
from trivet.testing import client, open_plugins


async def kept_cancellation() -> trio.Cancelled:
    """A `Cancelled` that belongs to no scope any more."""
    kept: trio.Cancelled | None = None
    with trio.CancelScope() as scope:
        scope.cancel()
        try:
            await trio.lowlevel.checkpoint()
        except trio.Cancelled as cancelled:  # noqa: ASYNC103 - that is the point
            kept = cancelled
    assert kept is not None
    return kept


async def fault(kind: str) -> BaseException:
    """An error that does not derive from Exception."""
    if kind == "cancelled":
        return await kept_cancellation()
    if kind == "interrupts":
        return BaseExceptionGroup("mixed", [ValueError("spilt"), KeyboardInterrupt()])
    if kind == "group":
        return BaseExceptionGroup("mixed", [ValueError("spilt"), await kept_cancellation()])
    return {"exit": SystemExit, "interrupt": KeyboardInterrupt, "generator": GeneratorExit}[kind](
        "spilt"
    )


class Points(MonitoringPlugin):
    def __init__(self, app: App) -> None:
        self.points: list[MonitoringPoint] = []

    async def flush_points(self, points: list[MonitoringPoint]) -> None:
        self.points += points


class Breaking:
    """A body that breaks after its first piece."""

    def __init__(self, error: BaseException) -> None:
        self._error = error
        self._pieces = iter([b"one"])

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        for piece in self._pieces:
            return piece
        raise self._error


class Clumsy(BackgroundPlugin):
    """A route that raises the error that it is asked for."""

    @route("/method/<kind>")
    async def method(self, kind: str) -> str:
        raise await fault(kind)

    @route("/handler/<kind>")
    class Handling(Handler["Clumsy"]):
        """A handler class that raises the error that it is asked for."""

        async def get(self, kind: str) -> str:
            raise await fault(kind)

    @route("/body/<kind>")
    async def body(self, kind: str) -> Response:
        return Response(Breaking(await fault(kind)))

    @route("/slow")
    async def slow(self) -> str:
        await trio.sleep(10)
        return "done"

    @route("/tidies")
    async def tidies(self) -> str:
        try:
            await trio.sleep_forever()
        finally:
            raise SystemExit("spilt")

    @route("/mixes")
    async def mixes(self) -> str:
        try:
            return await trio.sleep_forever()
        except trio.Cancelled as cancelled:
            both = [cancelled, ValueError("spilt")]
            raise BaseExceptionGroup("mixed", both) from None  # noqa: ASYNC104 - it is in there


KINDS = ["exit", "generator", "cancelled", "group"]


@pytest.mark.parametrize("path", ["/method", "/handler"])
@pytest.mark.parametrize("kind", KINDS)
async def test_a_route_that_raises_a_base_exception(
    path: str, kind: str, autojump_clock: MockClock
) -> None:
    """A crash is a 500 with an error code, logged with its plugin, counted as an error; no request
    beside it notices."""
    others: list[int] = []

    async def ask_slowly() -> None:
        others.append((await client(runtime).get("/slow")).status_code)

    with structlog.testing.capture_logs() as logs:
        async with open_plugins(Clumsy, Points) as runtime:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask_slowly)
                await trio.testing.wait_all_tasks_blocked()
                response = await client(runtime).get(f"{path}/{kind}")
            await trio.testing.wait_all_tasks_blocked()
            errors = [point for point in runtime.get(Points).points if point.series == "errors"]
            assert runtime.hosts["clumsy"].restarts == 0
    assert response.status_code == 500
    assert (await response.get_json())["error_code"] == "internal_error"
    assert [error.fields["error_code"] for error in errors] == ["internal_error"]
    (line,) = [log for log in logs if log["event"] == "handler crashed"]
    assert line["plugin"] == "clumsy"
    assert line["route"] == f"GET:{path}/{{kind}}"
    assert line["exc_info"].__traceback__ is not None
    assert others == [200]


@pytest.mark.parametrize("kind", ["interrupt", "interrupts"])
async def test_an_interrupt_is_contained_where_signals_go_elsewhere(kind: str) -> None:
    """A KeyboardInterrupt is the route's fault in a program that receives signals in another
    way."""
    program = load(Settings(), plugins=[Clumsy])
    async with running(Runtime(program, contains_interrupts=True)) as runtime:
        response = await client(runtime).get(f"/method/{kind}")
    assert response.status_code == 500


@pytest.mark.parametrize("kind", ["interrupt", "interrupts"])
async def test_an_interrupt_goes_on_where_python_makes_it(kind: str) -> None:
    """A KeyboardInterrupt is Ctrl-C in any other program, and ends it."""
    with pytest.raises(KeyboardInterrupt):
        async with open_plugins(Clumsy) as runtime:
            await client(runtime).get(f"/method/{kind}")


@pytest.mark.parametrize("kind", ["exit", "generator", "cancelled"])
async def test_a_body_that_breaks_off_with_a_base_exception(
    kind: str, autojump_clock: MockClock
) -> None:
    """A crash in a response raises an exception in the server, which closes the connection."""
    with structlog.testing.capture_logs() as logs:
        async with open_plugins(Clumsy, Points) as runtime:
            with pytest.RaisesGroup(RuntimeError, flatten_subgroups=True):
                await client(runtime).get(f"/body/{kind}")
            await trio.testing.wait_all_tasks_blocked()
            series = [point.series for point in runtime.get(Points).points]
    assert series == ["requests", "errors"]
    (line,) = [log for log in logs if log["event"] == "request failed"]
    assert line["plugin"] == "clumsy"


async def test_a_cancellation_goes_on(autojump_clock: MockClock) -> None:
    """A cancelled request is cancelled, also when its route makes a fault of the cancellation."""
    with structlog.testing.capture_logs() as logs:
        async with open_plugins(Clumsy) as runtime:
            app = create_app(runtime)
            for path in ("/slow", "/tidies", "/mixes"):
                with trio.move_on_after(1) as scope:
                    await app.test_client().get(path)
                assert scope.cancelled_caught
    assert [log["event"] for log in logs].count("handler crashed") == 2
