"""Other libraries' insides, and the loop that code finds on asyncio and beside it on Trio.

A library has the functions in C if it bound them before trio-asyncio was imported, as psycopg,
aiofiles and anyio do: `from asyncio import get_running_loop`.
"""

from __future__ import annotations

import _asyncio
import asyncio
import inspect
import os
import signal
import socket
import sys
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pkgutil import resolve_name

import anyio.lowlevel
import httpx
import pytest
import sniffio
import trio
from aiohttp import web
from trio.testing import MockClock

from trivet import App, AsyncioPlugin, BackgroundPlugin, Status, SupervisionSettings, route
from trivet._on_asyncio._patched_loop import CALLBACK_FIRST, CALLBACK_SECOND, INSIDE, Inside
from trivet.testing import client, open_plugins

IN_C: dict[str, Callable[[], object]] = {
    name: getattr(_asyncio, name)
    for name in ("get_running_loop", "_get_running_loop", "get_event_loop")
}
NEVER = SupervisionSettings(restart="temporary")

Told = asyncio.Future[dict[str, bool]]

# The insides of other libraries.


@pytest.mark.parametrize("inside", INSIDE, ids=lambda inside: f"{inside.owner}.{inside.name}")
def test_insides(inside: Inside) -> None:
    """Each private name exists in the installed version, with the signature that is counted on."""
    value = getattr(resolve_name(inside.owner), inside.name)
    if inside.signature is not None:
        signature = inspect.signature(value)
        bare = [each.replace(annotation=each.empty) for each in signature.parameters.values()]
        assert str(inspect.Signature(bare)) == inside.signature


def test_patched_methods_are_listed() -> None:
    """Each method whose callback is wrapped is in the list, with the callback at its place."""
    listed = {inside.name: inside.signature or "" for inside in INSIDE}
    for place, names in ((1, CALLBACK_FIRST), (2, CALLBACK_SECOND)):
        for name in names:
            assert listed[name].split(", ")[place].startswith("callback")


def test_a_new_task_asks_for_its_first_step_once() -> None:
    """A task calls `call_soon` of its loop once while it is made, with its context."""
    loop, context = asyncio.SelectorEventLoop(), copy_context()
    asked: list[tuple[Callable[[], object], object]] = []

    def keep(step: Callable[[], object], *, context: object) -> None:
        asked.append((step, context))

    async def nothing() -> None: ...

    call_soon, loop.call_soon = loop.call_soon, keep  # type: ignore[method-assign,assignment]
    task = asyncio.Task(nothing(), loop=loop, context=context)
    loop.call_soon = call_soon  # type: ignore[method-assign]
    ((step, its_context),) = asked
    assert its_context is context
    step()
    assert task.done()
    loop.close()


# The running loop.


def found(loop: object) -> dict[str, bool]:
    """The answer of each way to ask: whether it finds this loop, or finds asyncio."""
    ways: dict[str, Callable[[], object]] = {
        "asyncio.get_running_loop": asyncio.get_running_loop,
        "asyncio._get_running_loop": asyncio.events._get_running_loop,
        "asyncio.get_event_loop": asyncio.get_event_loop,
        **{f"_asyncio.{name}": ask for name, ask in IN_C.items()},
    }
    answers = {way: ask() is loop for way, ask in ways.items()}
    answers["sniffio"] = sniffio.current_async_library() == "asyncio"
    answers["all_tasks"] = bool(asyncio.all_tasks())
    return answers


class Places:
    """Places where code runs on asyncio; each calls `found`."""

    @staticmethod
    async def in_the_first_step(loop: asyncio.AbstractEventLoop, told: Told) -> None:
        told.set_result(found(loop))

    @staticmethod
    async def after_a_wait(loop: asyncio.AbstractEventLoop, told: Told) -> None:
        await asyncio.sleep(0)
        told.set_result(found(loop))

    @staticmethod
    async def in_a_task(loop: asyncio.AbstractEventLoop, told: Told) -> None:
        async def ask() -> None:
            assert asyncio.current_task() is task
            if sys.version_info >= (3, 12):
                assert _asyncio.current_task() is task
            told.set_result(found(loop))

        task = asyncio.create_task(ask())
        await task

    @staticmethod
    async def in_call_soon(loop: asyncio.AbstractEventLoop, told: Told) -> None:
        loop.call_soon(lambda: told.set_result(found(loop)))

    @staticmethod
    async def in_call_later(loop: asyncio.AbstractEventLoop, told: Told) -> None:
        loop.call_later(0.001, lambda: told.set_result(found(loop)))

    @staticmethod
    async def in_call_at(loop: asyncio.AbstractEventLoop, told: Told) -> None:
        loop.call_at(loop.time() + 0.001, lambda: told.set_result(found(loop)))

    @staticmethod
    async def in_call_soon_threadsafe(loop: asyncio.AbstractEventLoop, told: Told) -> None:
        def call() -> None:
            loop.call_soon_threadsafe(lambda: told.set_result(found(loop)))

        await loop.run_in_executor(None, call)

    @staticmethod
    async def in_a_futures_callback(loop: asyncio.AbstractEventLoop, told: Told) -> None:
        future = loop.create_future()
        future.add_done_callback(lambda _: told.set_result(found(loop)))
        future.set_result(None)

    @staticmethod
    async def in_a_reader(loop: asyncio.AbstractEventLoop, told: Told) -> None:
        ours, theirs = socket.socketpair()

        def read() -> None:
            loop.remove_reader(ours)
            told.set_result(found(loop))

        with ours, theirs:
            loop.add_reader(ours, read)
            theirs.send(b"x")
            await told

    @staticmethod
    async def in_a_writer(loop: asyncio.AbstractEventLoop, told: Told) -> None:
        ours, theirs = socket.socketpair()

        def write() -> None:
            loop.remove_writer(ours)
            told.set_result(found(loop))

        with ours, theirs:
            loop.add_writer(ours, write)
            await told

    @staticmethod
    async def in_a_protocol(loop: asyncio.AbstractEventLoop, told: Told) -> None:
        class Hearing(asyncio.Protocol):
            def data_received(self, data: bytes) -> None:
                told.set_result(found(loop))

        ours, theirs = socket.socketpair()
        with theirs:
            transport, _ = await loop.create_connection(Hearing, sock=ours)
            theirs.send(b"x")
            await told
            transport.close()

    @staticmethod
    async def in_a_signals_handler(loop: asyncio.AbstractEventLoop, told: Told) -> None:
        loop.add_signal_handler(signal.SIGUSR2, lambda: told.set_result(found(loop)))
        os.kill(os.getpid(), signal.SIGUSR2)
        await told
        loop.remove_signal_handler(signal.SIGUSR2)

    @staticmethod
    async def in_a_generator_left_alone(loop: asyncio.AbstractEventLoop, told: Told) -> None:
        async def numbers() -> AsyncGenerator[int]:
            try:
                yield 1
            finally:
                await asyncio.sleep(0)
                told.set_result(found(loop))

        async for _ in numbers():  # noqa: ASYNC900
            break


Place = Callable[[asyncio.AbstractEventLoop, Told], Awaitable[None]]
PLACES = [name for name in vars(Places) if not name.startswith("_")]


class Asking(AsyncioPlugin, BackgroundPlugin):
    """A plugin whose loop is looked for."""

    async def initialize(self) -> None:
        self.loop = asyncio.get_running_loop()

    async def ask(self, place: Place) -> dict[str, bool]:
        told: Told = self.loop.create_future()
        await place(self.loop, told)
        return await told

    @route("/ask/<string:place>")
    async def answer(self, place: str) -> dict[str, bool]:
        return await self.run_on_asyncio(self.ask, getattr(Places, place))


@pytest.mark.parametrize("by_route", [False, True], ids=["plugin", "route"])
@pytest.mark.parametrize("place", PLACES)
async def test_code_on_asyncio_finds_its_loop(place: str, by_route: bool) -> None:
    """Each way to ask finds the loop, at each place, in the plugin's code and in a request."""
    async with open_plugins(Asking) as runtime:
        asking = runtime.get(Asking)
        if by_route:
            answers = await (await client(runtime).get(f"/ask/{place}")).get_json()
        else:
            answers = await asking.run_on_asyncio(asking.ask, getattr(Places, place))
    assert answers == dict.fromkeys(answers, True)
    assert len(answers) == 8


class OnTrio(BackgroundPlugin):
    """Calls on Trio httpx and anyio, which find out where they are; and asyncio, by mistake."""

    url: str = ""

    @route("/fetched")
    async def fetched(self) -> str:
        async with httpx.AsyncClient() as session:
            await anyio.lowlevel.checkpoint()
            return (await session.get(self.url)).text

    async def mistake(self) -> None:
        await asyncio.sleep(1)


class Serving(AsyncioPlugin, BackgroundPlugin):
    """Runs a server of aiohttp."""

    async def initialize(self) -> None:
        server = web.Application()
        server.router.add_get("/", self._here)
        runner = web.AppRunner(server)
        await runner.setup()
        self.close_server = runner.cleanup
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port, *_ = runner.addresses[0]
        self.url = f"http://{host}:{port}"

    async def _here(self, request: web.Request) -> web.Response:
        return web.Response(text="here")

    async def fetch(self) -> str:
        async with httpx.AsyncClient() as session:
            return (await session.get(self.url)).text

    async def close(self) -> None:
        await self.close_server()


async def test_httpx_on_both_sides() -> None:
    """Httpx finds asyncio in one plugin and Trio in another, however their steps alternate."""
    async with open_plugins(Serving, OnTrio) as runtime:
        serving = runtime.get(Serving)
        runtime.get(OnTrio).url = serving.url
        texts: list[str] = []

        async def on_asyncio() -> None:
            texts.append(await serving.run_on_asyncio(serving.fetch))

        async def on_trio() -> None:
            answer = await client(runtime).get("/fetched")
            texts.append(await answer.get_data(as_text=True))

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(on_asyncio)
                nursery.start_soon(on_trio)
        async with httpx.AsyncClient() as session:  # As a test may, beside its plugins.
            texts.append((await session.get(serving.url)).text)
    assert texts == ["here"] * 11


async def test_asyncio_called_on_trio() -> None:
    """Code on Trio finds no running loop beside plugins on asyncio, nor after a call back."""
    asked: list[object] = []

    async def ask() -> None:
        asked.extend([_asyncio_runs(), sniffio.current_async_library()])

    async with open_plugins(Asking, OnTrio) as runtime:
        with pytest.raises(RuntimeError, match="no running event loop"):
            await runtime.get(OnTrio).mistake()
        asking = runtime.get(Asking)
        await asking.run_on_asyncio(asking.run_on_trio, ask)
        await ask()
    assert asked == [None, "trio"] * 2


def _asyncio_runs() -> object:
    return IN_C["_get_running_loop"]()


async def test_loop_around_trio() -> None:
    """An asyncio loop that hosts Trio is the running one again after each callback."""
    told: list[object] = []

    def in_asyncio() -> None:
        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:  # asyncio's own.
            runner.run(hosting(told))

    await trio.to_thread.run_sync(in_asyncio)
    assert told == ["ended", True, True]


async def hosting(told: list[object]) -> None:
    """Run Trio as a guest, with a plugin."""
    host = asyncio.get_running_loop()
    ended = host.create_future()

    async def guest() -> str:
        async with open_plugins(Asking) as runtime:
            asking = runtime.get(Asking)
            answers = await asking.run_on_asyncio(asking.ask, Places.in_call_soon)
            answers |= await asking.run_on_asyncio(asking.ask, Places.in_the_first_step)
            told.append(answers == dict.fromkeys(answers, True))
        told.append(_asyncio_runs() is host)
        return "ended"

    trio.lowlevel.start_guest_run(
        guest,
        run_sync_soon_threadsafe=host.call_soon_threadsafe,
        done_callback=ended.set_result,
    )
    told.insert(0, (await ended).unwrap())


async def test_tools_of_asyncio() -> None:
    """Queues, locks, time-outs, groups, threads, executors, streams, processes work together."""

    class Working(AsyncioPlugin, BackgroundPlugin):
        async def work(self) -> list[object]:
            queue: asyncio.Queue[str] = asyncio.Queue(1)
            lock, event = asyncio.Lock(), asyncio.Event()

            async def put(text: str) -> None:
                async with lock:
                    await queue.put(text)
                event.set()

            async with asyncio.TaskGroup() as group:
                group.create_task(put("a"))
                group.create_task(put("b"))
                got: list[object] = [await queue.get(), await queue.get()]
            await event.wait()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await asyncio.Event().wait()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asyncio.Event().wait(), 0.01)
            got.append(await asyncio.to_thread(threading.current_thread) is threading.main_thread())
            with ThreadPoolExecutor(1) as executor:
                run = asyncio.get_running_loop().run_in_executor
                got.append(await run(executor, sum, (1, 2)))
                with pytest.raises(ValueError, match="invalid literal"):
                    await run(executor, int, "x")
            program = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
            got.append((await program.communicate(b"cat"))[0])
            got.append(await self._echoed(b"streams\n"))
            return got

        async def _echoed(self, line: bytes) -> bytes:
            async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                writer.write(await reader.readline())
                await writer.drain()
                writer.close()

            async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
                address = server.sockets[0].getsockname()
                reader, writer = await asyncio.open_connection(*address)
                writer.write(line)
                echoed = await reader.readline()
                writer.close()
                await writer.wait_closed()
                return echoed

    async with open_plugins(Working) as runtime:
        working = runtime.get(Working)
        assert await working.run_on_asyncio(working.work) == [
            "a",
            "b",
            False,
            3,
            b"cat",
            b"streams\n",
        ]


async def test_exit_in_a_reader() -> None:
    """`sys.exit` in the callback of a socket fails the plugin; the program goes on."""
    ours, theirs = socket.socketpair()

    class Exiting(AsyncioPlugin, BackgroundPlugin):
        supervision = NEVER

        async def run(self) -> None:
            asyncio.get_running_loop().add_reader(ours, sys.exit, 3)
            await asyncio.Event().wait()

    with ours, theirs:
        theirs.send(b"x")
        async with open_plugins(Exiting, Asking) as runtime:
            host = runtime.hosts["exiting"]
            await host.wait_for_status(Status.FAILED)
            assert isinstance(host.failure, SystemExit)


async def test_a_coroutine_is_no_callback(autojump_clock: MockClock) -> None:
    """A coroutine function as a callback fails the plugin; the error names `create_task`."""

    class Mistaken(AsyncioPlugin, BackgroundPlugin):
        supervision = NEVER

        async def run(self) -> None:
            asyncio.get_running_loop().call_soon(self.work)
            await asyncio.Event().wait()

        async def work(self) -> None: ...

    async with open_plugins(Mistaken) as runtime:
        host = runtime.hosts["mistaken"]
        await host.wait_for_status(Status.FAILED)
        assert isinstance(host.failure, TypeError)
        assert "create_task" in str(host.failure)


async def test_callbacks_from_finalizers() -> None:
    """A callback that a `__del__` asks for is called, wherever the garbage was found."""

    class Littering(AsyncioPlugin, BackgroundPlugin):
        def __init__(self, app: App) -> None:
            super().__init__(app)
            self.asked = self.called = 0

        async def litter(self) -> None:
            loop = asyncio.get_running_loop()

            def finalize(*_: object) -> None:
                if _asyncio_runs() is None and self.asked < 2_000:
                    self.asked += 1
                    loop.call_soon(self._call)

            sys.setprofile(finalize)  # At each call and return.
            try:
                while self.asked < 2_000:
                    await asyncio.sleep(1e-6)
            finally:
                sys.setprofile(None)
            self.asked += 1
            await asyncio.to_thread(loop.call_soon, self._call)  # Garbage is found in threads too.
            while self.called < self.asked:
                await asyncio.sleep(1e-6)

        def _call(self) -> None:
            self.called += 1

    async with open_plugins(Littering) as runtime:
        littering = runtime.get(Littering)
        await littering.run_on_asyncio(littering.litter)
        assert runtime.hosts["littering"].status is Status.RUNNING
    assert littering.called == littering.asked
