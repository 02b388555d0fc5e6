"""`trivet restart`: a new program takes the old one's place on the same sockets."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import httpx
import pytest

from .restarts import COUNTER, children, new_program, restarted, storm, until
from .test_serve import plugins, running, serving

__all__ = ["plugins"]

pytestmark = pytest.mark.process


async def test_a_new_program_takes_over(plugins: Callable[..., Path]) -> None:
    """The new program has the new code and the same address; the parent stays the same."""
    directory = plugins(counter=COUNTER)
    async with serving("counter", directory=directory) as server:
        async with httpx.AsyncClient(base_url=server.url) as client:
            assert (await client.get("/version")).json() == {"version": 1}
            plugins(counter=COUNTER.replace("VERSION = 1", "VERSION = 1 + 1"))
            await restarted(server)
            assert (await client.get("/version")).json() == {"version": 2}
        assert len(children(server.process.pid)) == 1
        assert await server.stop() == 0
        await server.has_said_all()
        text = "\n".join(server.text)
        assert text.index("the new program is checked") < text.index('"plugin ended"')


NEW = {
    "does not import": "import there_is_no_such_module",
    "ends at its import": "import os\nos._exit(3)",
    "dies at its import": "import os\nos.abort()",
    "hangs at its import": "import time\ntime.sleep(1e6)",
    "is not checked": "from trivet import EventPlugin\nclass Counter(EventPlugin): ...",
    "cannot be made": """
        from trivet import BackgroundPlugin
        class Counter(BackgroundPlugin):
            def __init__(self, app):
                raise OSError("no instance")
    """,
}


def limit_for(source: str) -> str:
    """The seconds for which a program may hang: few where it does, many on a busy machine."""
    return "8" if "sleep(1e6)" in source else "60"


@pytest.mark.parametrize("new", NEW.values(), ids=NEW)
async def test_a_new_program_that_does_not_come_up(plugins: Callable[..., Path], new: str) -> None:
    """Up to the check a fault of the new program changes nothing: the old one serves on, and
    another attempt may follow."""
    directory = plugins(counter=COUNTER)
    environ = {"TRIVET_HANG_LIMIT": limit_for(new)}
    async with serving("counter", directory=directory, **environ) as server:
        before = children(server.process.pid)
        plugins(counter=new)
        server.process.send_signal(signal.SIGUSR2)
        async with httpx.AsyncClient(base_url=server.url) as client:
            await server.logged("no new program takes over: see the lines above")
            assert (await client.get("/version")).json() == {"version": 1}
            assert "; the old one serves on" in "\n".join(server.text)
            assert children(server.process.pid) == before
            plugins(counter=COUNTER.replace("VERSION = 1", "VERSION = 1 + 2"))
            await restarted(server)
            assert (await client.get("/version")).json() == {"version": 3}
        assert await server.stop() == 0


LATE = {
    "raises": 'raise OSError("not yet")',
    "dies": "os.abort()",
    "hangs": "import time; time.sleep(1e6)",
}


@pytest.mark.parametrize("fault", LATE.values(), ids=LATE)
async def test_a_new_program_that_does_not_start(plugins: Callable[..., Path], fault: str) -> None:
    """A new one that fails when the old program has gone is started again, and clients wait."""
    directory = plugins(counter=COUNTER)
    environ = {"TRIVET_HANG_LIMIT": limit_for(fault), "TRIVET_RESTARTS__BACKOFF_MAX": "0"}
    async with serving("counter", directory=directory, **environ) as server:
        failing = COUNTER.replace(
            "async def initialize(self):",
            f"""async def initialize(self):
            import os
            if not Path("failed").exists():
                Path("failed").touch()
                {fault}""",
        )
        plugins(counter=failing.replace("VERSION = 1", "VERSION = 1 + 1"))
        server.process.send_signal(signal.SIGUSR2)
        await server.logged("a new program takes over")
        async with httpx.AsyncClient(base_url=server.url, timeout=30) as client:
            assert (await client.get("/version")).json() == {"version": 2}
        assert (directory / "failed").exists()
        assert await server.stop() == 0


async def test_no_request_is_lost_under_load(tmp_path: Path) -> None:
    """Clients wait while a new program takes over: none is refused, and each event that was
    accepted is handled, by the old program or the new one."""
    load = await storm(tmp_path, restarts=3, clients=12)
    assert set(load.fates) == {"202"}, load.account


TOKEN = "a-token-of-an-operator"
SETTINGS = f"""
    active_plugins = ["counter"]
    plugins_directory = "."
    bind = "127.0.0.1:0"
    tokens = [{{ name = "olga", scopes = ["admin", "read"], secret = "{TOKEN}" }}]
"""


async def test_an_operator_asks_over_http(plugins: Callable[..., Path]) -> None:
    """`POST /-/restart` answers when it is decided: 409 where the old program serves on, 202 where
    the new one takes over; it needs a token for `admin`."""
    directory = plugins(counter=COUNTER)
    (directory / "trivet.toml").write_text(dedent(SETTINGS))
    async with running(["trivet", "serve"], directory) as server:
        url = (await server.logged("serving"))["urls"][0]
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with httpx.AsyncClient(base_url=url, timeout=30, headers=headers) as client:
            assert (
                await client.post("/-/restart", headers={"Authorization": ""})
            ).status_code == 401
            plugins(counter="import there_is_no_such_module")
            refused = await client.post("/-/restart")
            assert (refused.status_code, refused.json()["error_code"]) == (409, "order_refused")
            assert "this one serves on" in refused.json()["detail"]
            plugins(counter=COUNTER.replace("VERSION = 1", "VERSION = 1 + 1"))
            done = await client.post("/-/restart", params={"reason": "new code"})
            assert (done.status_code, done.headers["connection"]) == (202, "close")
            assert (await client.get("/version")).json() == {"version": 2}
        said = await server.logged("an operator has acted")
        assert (said["action"], said["token"], said["reason"]) == ("restart", "olga", "new code")
        assert await server.stop() == 0


async def test_files_that_change(plugins: Callable[..., Path]) -> None:
    """With `--reload` a changed file has a new program take over, also where a client is idle; a
    file with a fault leaves the old one as it is; and an interrupt ends the program."""
    directory = plugins(counter=COUNTER)
    command = ["trivet", "serve", "counter", "--plugins", ".", "--bind", "127.0.0.1:0", "--reload"]
    async with running(command, directory) as server:
        url = (await server.logged("serving"))["urls"][0]
        async with httpx.AsyncClient(base_url=url, timeout=30) as client:
            assert (await client.get("/version")).json() == {"version": 1}
            plugins(counter="this is no Python")
            await server.logged("no new program takes over: see the lines above")
            assert (await client.get("/version")).json() == {"version": 1}
            plugins(counter=COUNTER.replace("VERSION = 1", "VERSION = 1 + 1"))
            await new_program(server, 1)
            assert (await client.get("/version")).json() == {"version": 2}
            assert await server.stop(signal.SIGINT) == 0
        changed = [line["files"] for line in server.lines if line["event"] == "files have changed"]
        assert changed == [["counter.py"], ["counter.py"]]


async def test_a_stop_while_a_new_program_is_under_way(plugins: Callable[..., Path]) -> None:
    """A request to stop ends both programs, and the exit code is 0."""
    directory = plugins(counter=COUNTER)
    async with serving("counter", directory=directory) as server:
        plugins(counter="import time\nprint('importing')\ntime.sleep(1e6)")
        server.process.send_signal(signal.SIGUSR2)
        await until(lambda: len(children(server.process.pid)) == 2)
        both = children(server.process.pid)
        assert await server.stop() == 0
        assert not any(map(os.path.exists, (f"/proc/{pid}" for pid in both)))  # noqa: ASYNC240


async def test_an_old_program_that_does_not_end(plugins: Callable[..., Path]) -> None:
    """An old program that overruns its stop is ended by force, and the new one serves."""
    held = COUNTER.replace(
        "async def handle_event",
        """async def close(self):
            import time
            time.sleep(1e6)

        async def handle_event""",
    )
    directory = plugins(counter=held)
    limits = {f"TRIVET_SHUTDOWN__{each}": "0.2" for each in ("REQUESTS", "DRAIN", "CLOSE")}
    async with serving("counter", directory=directory, **limits) as server:
        plugins(counter=COUNTER.replace("VERSION = 1", "VERSION = 1 + 1"))
        await restarted(server)
        assert "the old program ended with code 71" in "\n".join(server.text)
        async with httpx.AsyncClient(base_url=server.url) as client:
            assert (await client.get("/version")).json() == {"version": 2}
        assert await server.stop() == 0


async def test_other_addresses_are_refused(plugins: Callable[..., Path]) -> None:
    """New settings with another address are a fault of the new program: the sockets are kept."""
    directory = plugins(counter=COUNTER)
    settings = directory / "trivet.toml"
    settings.write_text(
        f'active_plugins = ["counter"]\nplugins_directory = "."\nbind = "unix:{directory}/a"'
    )
    async with running(["trivet", "serve"], directory) as server:
        await server.logged("serving")
        settings.write_text(settings.read_text().replace("/a", "/b"))
        server.process.send_signal(signal.SIGUSR2)
        await server.logged("no new program takes over: see the lines above")
        assert "a restart keeps the sockets" in "\n".join(server.text)
        settings.write_text(settings.read_text().replace("/b", "/a"))
        await restarted(server)
        transport = httpx.AsyncHTTPTransport(uds=f"{directory}/a")
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            assert (await client.get("/version")).status_code == 200
        assert await server.stop() == 0
