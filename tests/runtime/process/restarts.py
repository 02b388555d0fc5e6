"""Restarts of a whole program under load: no request is refused, no accepted event is lost.

    python -m tests.runtime.process.restarts --restarts 100 --clients 50

Half of the clients connect anew for each request; the others keep their connection as long as the
server does, and send nothing on one that the server has closed.
"""

from __future__ import annotations

import argparse
import signal
import tempfile
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from textwrap import dedent

import attrs
import httpx
import trio

from .test_serve import ENDS_AFTER, Server, serving

COUNTER = """
    from pathlib import Path
    from trivet import DeliverySettings, Event, EventPlugin, route


    class Counted(Event, delivery=DeliverySettings(durable=True)):
        number: int


    class Counter(EventPlugin[Counted]):
        VERSION = 1

        async def initialize(self):
            self.file = await self.enter(Path("handled").open("a", buffering=1))

        async def handle_event(self, event: Counted) -> None:
            self.file.write(f"{event.number}\\n")

        @route("/version")
        async def version(self):
            return {"version": self.VERSION}
"""
MARGIN = "TRIVET_STORE__SYNCHRONOUS"


def children(parent: int) -> list[int]:
    """The children of a process."""
    return [*map(int, Path(f"/proc/{parent}/task/{parent}/children").read_text().split())]


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that tells nobody."""
    while not condition():  # noqa: ASYNC110
        await trio.sleep(0.01)


async def restarted(server: Server) -> None:
    """Ask for a restart by the signal, and wait until the new program serves."""
    (old,) = children(server.process.pid)
    seen = served(server)
    server.process.send_signal(signal.SIGUSR2)
    await new_program(server, seen)
    assert old not in children(server.process.pid)


def served(server: Server) -> int:
    """The number of programs that have begun to serve."""
    return sum(line.get("event") == "serving" for line in server.lines)


async def new_program(server: Server, seen: int) -> None:
    """Wait until more than `seen` programs have begun to serve."""
    async with server.changed:
        while served(server) <= seen:
            assert not server.silent, "\n".join(server.text)
            await server.changed.wait()


@attrs.define
class Load:
    """Clients that publish, each of them one event after the other."""

    url: str
    accepted: set[int] = attrs.field(factory=set[int])
    fates: Counter[str] = attrs.field(factory=Counter[str])
    waits: list[float] = attrs.field(factory=list[float])
    number: int = 0
    is_over: bool = False

    async def connect_anew(self) -> None:
        """Publish on a new connection each time."""
        while not self.is_over:
            async with httpx.AsyncClient(base_url=self.url, timeout=60) as client:
                await self.publish(client)

    async def stay_connected(self) -> None:
        """Publish on one connection, for as long as the server keeps it."""
        async with httpx.AsyncClient(base_url=self.url, timeout=60) as client:
            while not self.is_over:
                await self.publish(client)

    async def publish(self, client: httpx.AsyncClient) -> None:
        """Publish one event, and note what became of it."""
        self.number += 1
        number, begun = self.number, trio.current_time()
        try:
            response = await client.post("/events/counted", json={"number": number})
        except httpx.TransportError as error:
            self.fates[repr(error)] += 1
            return
        self.waits.append(trio.current_time() - begun)
        self.fates[str(response.status_code)] += 1
        if response.is_success:
            self.accepted.add(number)

    def has_answered(self, requests: int) -> bool:
        """Whether more requests than that were answered."""
        return len(self.waits) > requests

    @property
    def account(self) -> str:
        """The fates of the requests, and how long the clients waited."""
        waits = sorted(self.waits)
        middle, late = waits[len(waits) // 2], waits[len(waits) * 99 // 100]
        return (
            f"{dict(self.fates)}; half of the requests took {middle:.3f} s at most, "
            f"99 % {late:.3f} s, the slowest {waits[-1]:.3f} s"
        )


async def storm(directory: Path, restarts: int, clients: int) -> Load:
    """Restart a program again and again while clients publish; returns their account.

    Raises:
        AssertionError: an event that was accepted is not handled.
    """
    (directory / "counter.py").write_text(dedent(COUNTER))
    environ = {"TRIVET_STORE__SYNCHRONOUS": "normal", ENDS_AFTER: str(60 + 10 * restarts)}
    async with serving("counter", directory=directory, **environ) as server:
        load = Load(server.url)
        async with trio.open_nursery() as nursery:
            for each in range(clients):
                nursery.start_soon(load.stay_connected if each % 2 else load.connect_anew)
            for _ in range(restarts):
                answered = len(load.waits) + clients
                await until(partial(load.has_answered, answered))
                await restarted(server)
            load.is_over = True
        assert await server.stop() == 0
    handled = {*map(int, (directory / "handled").read_text().split())}
    assert load.accepted <= handled, f"lost: {sorted(load.accepted - handled)}"
    return load


def main() -> None:
    """Print the account of many restarts; exit code 1 where a request was refused or lost."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--restarts", type=int, default=100)
    parser.add_argument("--clients", type=int, default=50)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        load = trio.run(storm, Path(directory), given.restarts, given.clients)
    print(  # noqa: T201
        f"{given.restarts} restarts, {given.clients} clients: {load.account}"
    )
    if set(load.fates) != {"202"}:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
