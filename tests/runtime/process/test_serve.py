"""`trivet serve` and `trivet.asgi:app` as processes: real sockets, real signals, exit codes."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from textwrap import dedent
from typing import Any

import attrs
import httpx
import msgspec
import pytest
import trio
import trustme

from trivet import listening, open_runtime

pytestmark = pytest.mark.process

SCRIPTS = Path(sys.executable).parent
ENDS_AFTER = "ENDS_AFTER"
"""The seconds that a program under test has, in place of 60."""

RECORDER = """
    import trio
    from trivet import Event, EventPlugin, route


    class Ping(Event):
        number: int


    class Recorder(EventPlugin[Ping]):
        pause: float = 0.0

        def __init__(self, app):
            self.seen = []

        async def handle_event(self, event: Ping) -> None:
            await trio.sleep(self.pause)
            self.seen.append(event.number)

        @route("/slow")
        async def slow(self):
            self.log.info("slow request")
            await trio.sleep(1)
            return {"seen": self.seen}

        async def close(self) -> None:
            self.log.info("recorder closes", seen=self.seen)
"""


@attrs.define
class Server:
    """A program under test."""

    process: trio.Process
    lines: list[dict[str, Any]] = attrs.field(factory=list[dict[str, Any]])
    text: list[str] = attrs.field(factory=list[str])
    changed: trio.Condition = attrs.field(factory=trio.Condition)
    url: str = ""
    silent: bool = False

    async def logged(self, event: str) -> dict[str, Any]:
        """Wait for a line of the log, by its event."""
        while True:
            async with self.changed:
                for line in self.lines:
                    if line.get("event") == event:
                        return line
                assert not self.silent, "\n".join(self.text)
                await self.changed.wait()

    async def has_said_all(self) -> None:
        """Wait until the program has closed standard error."""
        async with self.changed:
            while not self.silent:
                await self.changed.wait()

    async def read(self) -> None:
        """Collect what the program writes to standard error."""
        assert self.process.stderr is not None
        rest = b""
        async for chunk in self.process.stderr:
            *complete, rest = (rest + chunk).split(b"\n")
            for line in complete:
                self.text.append(line.decode())
                if line.startswith(b"{"):
                    self.lines.append(msgspec.json.decode(line))
            async with self.changed:
                self.changed.notify_all()
        async with self.changed:
            self.silent = True
            self.changed.notify_all()

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send the signal, and wait for the exit code."""
        self.process.send_signal(number)
        return await self.process.wait()


@pytest.fixture
def plugins(tmp_path: Path) -> Callable[..., Path]:
    """Write plugin files, and return their directory."""

    def write(**files: str) -> Path:
        for name, source in files.items():
            (tmp_path / f"{name}.py").write_text(dedent(source))
        return tmp_path

    return write


@asynccontextmanager
async def running(command: list[str], directory: Path, **environ: str) -> AsyncGenerator[Server]:
    """Run a program in a directory; its log is JSON."""
    inherited = {name: os.environ[name] for name in os.environ if not name.startswith("TRIVET_")}
    with trio.fail_after(float(environ.pop(ENDS_AFTER, 60))):
        async with trio.open_nursery() as nursery:
            process = await trio.lowlevel.open_process(
                [str(SCRIPTS / command[0]), *command[1:]],
                cwd=directory,
                env={**inherited, "TRIVET_LOG__FORMAT": "json", **environ},
                stderr=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
            )
            server = Server(process)
            nursery.start_soon(server.read)
            try:
                yield server
            finally:
                if process.poll() is None:
                    process.kill()
                with trio.move_on_after(5, shield=True):
                    await process.wait()


@asynccontextmanager
async def serving(*names: str, directory: Path, **environ: str) -> AsyncGenerator[Server]:
    """Run `trivet serve` with these plugins on a free port."""
    command = ["trivet", "serve", *names, "--plugins", str(directory), "--bind", "127.0.0.1:0"]
    async with running(command, directory, **environ) as server:
        server.url = (await server.logged("serving"))["urls"][0]
        yield server


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_drains_closes_and_exits_with_0(
    plugins: Callable[..., Path], number: signal.Signals
) -> None:
    """The program handles every accepted event before it ends."""
    environ = {"TRIVET_PLUGINS__RECORDER__PAUSE": "0.01"}
    async with serving("recorder", directory=plugins(recorder=RECORDER), **environ) as server:
        async with httpx.AsyncClient(base_url=server.url) as client:
            for count in range(30):
                answer = await client.post("/events/ping", json={"number": count})
                assert answer.status_code == 202, answer.text
            code = await server.stop(number)
        assert code == 0
        assert (await server.logged("recorder closes"))["seen"] == list(range(30))


async def test_a_request_that_is_being_answered_at_the_stop_is_answered(
    plugins: Callable[..., Path],
) -> None:
    """The server stops accepting, and finishes the requests that it has begun."""
    async with serving("recorder", directory=plugins(recorder=RECORDER)) as server:
        answers: list[httpx.Response] = []

        async def ask() -> None:
            async with httpx.AsyncClient(base_url=server.url) as client:
                answers.append(await client.get("/slow"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await server.logged("slow request")
            assert await server.stop() == 0
        assert answers[0].json() == {"seen": []}
        async with httpx.AsyncClient(base_url=server.url) as late:
            with pytest.raises(httpx.ConnectError):
                await late.get("/livez")


async def test_an_idle_keep_alive_client_does_not_hold_up_the_stop(
    plugins: Callable[..., Path],
) -> None:
    """An open connection without a request is closed at once, not after its time-out."""
    directory = plugins(recorder=RECORDER)
    # Requests may take longer than this test waits: only closing idle connections passes.
    environ = {"TRIVET_SHUTDOWN__REQUESTS": "600"}
    async with serving("recorder", directory=directory, **environ) as server:
        async with httpx.AsyncClient(base_url=server.url) as client:
            assert (await client.get("/livez")).status_code == 200
            with trio.fail_after(60):
                assert await server.stop() == 0


async def test_a_busy_keep_alive_client_does_not_hold_up_the_stop(
    plugins: Callable[..., Path],
) -> None:
    """The stop does not wait for a client whose next request is there already."""
    directory = plugins(recorder=RECORDER)
    # Requests may take longer than this test waits.
    environ = {"TRIVET_SHUTDOWN__REQUESTS": "600"}
    async with serving("recorder", directory=directory, **environ) as server:

        async def ask_on() -> None:
            async with httpx.AsyncClient(base_url=server.url) as client:
                with suppress(httpx.TransportError):
                    while True:
                        await client.get("/livez")
                        asked.set()

        asked = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask_on)
            await asked.wait()
            with trio.fail_after(60):
                assert await server.stop() == 0


async def test_streams_and_websockets_are_told_of_the_stop(plugins: Callable[..., Path]) -> None:
    """At SIGTERM an event stream gets its last event, and a websocket 1012, long before the
    limit."""
    source = """
        import trio
        from quart import websocket
        from trivet import BackgroundPlugin, EventStream, route, websocket_route

        async def ticks():
            while True:
                yield "tick"
                await trio.sleep(0.1)

        class Feed(BackgroundPlugin):
            @route("/ticks")
            async def ticks(self):
                return EventStream(ticks())

            @websocket_route("/feed/<channel>")
            async def feed(self, channel):
                await websocket.send(channel)
                await trio.sleep_forever()
    """
    handshake = (
        b"GET /feed/news HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
        b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    # Requests may take longer than this test waits.
    environ = {"TRIVET_SHUTDOWN__REQUESTS": "60"}
    async with serving("feed", directory=plugins(feed=source), **environ) as server:
        port = int(server.url.rpartition(":")[2])
        async with httpx.AsyncClient(base_url=server.url) as client:
            async with (
                await trio.open_tcp_stream("127.0.0.1", port) as socket,
                client.stream("GET", "/ticks") as response,
            ):
                await socket.send_all(handshake)
                received = b""
                while not received.endswith(b"\x81\x04news"):
                    received += await socket.receive_some()
                lines = response.aiter_lines()
                assert await anext(lines) == "data: tick"
                server.process.send_signal(signal.SIGTERM)
                assert "event: stopping" in [line async for line in lines]
                # The frame that closes: its opcode, its length, its code.
                assert await socket.receive_some() == b"\x88\x02" + (1012).to_bytes(2)
        assert await server.process.wait() == 0


async def test_a_configuration_error_exits_with_2(plugins: Callable[..., Path]) -> None:
    """The message is on standard error, without a traceback."""
    directory = plugins(recorder=RECORDER)
    command = ["trivet", "serve", "recoder", "--plugins", str(directory)]
    async with running(command, directory) as server:
        assert await server.process.wait() == 2
    assert "did you mean 'recorder'?" in "".join(server.text)
    assert "Traceback" not in "".join(server.text)


async def test_warnings_of_the_settings_go_to_the_log(plugins: Callable[..., Path]) -> None:
    """A warning about settings is logged in the settings' format, and the service runs."""
    directory = plugins(recorder=RECORDER)
    async with serving("recorder", directory=directory, TRIVET_PORT="80") as server:
        line = await server.logged("unknown environment variable")
        assert (line["level"], line["variable"]) == ("warning", "TRIVET_PORT")
        assert await server.stop() == 0


async def test_a_plugin_that_does_not_start_exits_with_3(plugins: Callable[..., Path]) -> None:
    """The message names the plugin."""
    source = """
        from trivet import BackgroundPlugin

        class Broken(BackgroundPlugin):
            async def initialize(self) -> None:
                raise ConnectionError("no broker")
    """
    directory = plugins(broken=source)
    command = ["trivet", "serve", "broken", "--plugins", ".", "--bind", "127.0.0.1:0"]
    async with running(command, directory) as server:
        assert await server.process.wait() == 3
    assert "'broken' did not start: ConnectionError: no broker" in "".join(server.text)


async def test_a_setting_that_only_its_use_shows_to_be_wrong(plugins: Callable[..., Path]) -> None:
    """The message names the file and the key, whatever the plugin is called."""
    source = """
        from trivet import BackgroundPlugin, WrongSettingError

        class Reader(BackgroundPlugin):
            url: str

            async def initialize(self) -> None:
                raise WrongSettingError("url", f"there is no database {self.url!r}")
    """
    directory = plugins(reader=source)
    settings = '[plugins.orders]\nuse = "reader"\nurl = "shop"\n'
    (directory / "trivet.toml").write_text(f'plugins_directory = "."\n{settings}')
    command = ["trivet", "serve", "orders", "--bind", "127.0.0.1:0"]
    async with running(command, directory) as server:
        assert await server.process.wait() == 3
    told = "plugin 'orders' did not start: trivet.toml: plugins.orders.url: there is no database"
    assert told in "".join(server.text)


async def test_a_wrong_setting_of_the_environment(plugins: Callable[..., Path]) -> None:
    """The message names the variable, not the settings' file, where a variable gave the value."""
    source = """
        from trivet import BackgroundPlugin, WrongSettingError

        class Reader(BackgroundPlugin):
            url: str = ""

            async def initialize(self) -> None:
                raise WrongSettingError("url", "there is no such database")
    """
    directory = plugins(reader=source)
    (directory / "trivet.toml").write_text('plugins_directory = "."\n')
    command = ["trivet", "serve", "reader", "--bind", "127.0.0.1:0"]
    environ = {"TRIVET_PLUGINS__READER__URL": "shop"}
    async with running(command, directory, **environ) as server:
        assert await server.process.wait() == 3
    told = "plugin 'reader' did not start: TRIVET_PLUGINS__READER__URL: there is no such database"
    assert told in "".join(server.text)


async def test_a_signal_to_the_parent_alone(plugins: Callable[..., Path]) -> None:
    """The log says why the program stops, also where only the parent process hears the signal."""
    async with serving("recorder", directory=plugins(recorder=RECORDER)) as server:
        assert await server.stop() == 0
        await server.has_said_all()
    said = [line["event"] for line in server.lines]
    told = said.index("signal received by the parent process")
    assert told < said.index("stopping")


async def test_a_program_without_plugins(plugins: Callable[..., Path]) -> None:
    """A program without plugins serves its probes, and a warning says how to name plugins."""
    async with serving(directory=plugins()) as server:
        warning = await server.logged("no plugin is active")
        assert "`active_plugins`" in warning["hint"]


async def test_an_address_that_is_taken_exits_with_3(plugins: Callable[..., Path]) -> None:
    """The address is bound before any plugin starts."""
    directory = plugins(recorder=RECORDER)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        bind = f"127.0.0.1:{taken.getsockname()[1]}"
        command = ["trivet", "serve", "recorder", "--plugins", ".", "--bind", bind]
        async with running(command, directory) as server:
            assert await server.process.wait() == 3
    text = "".join(server.text)
    assert f"cannot listen on {bind}" in text
    assert "choose another by `bind` or `--bind`" in text
    assert "recorder closes" not in "".join(server.text)


async def test_a_critical_plugin_that_gives_up_exits_with_4(plugins: Callable[..., Path]) -> None:
    """The others are closed in order, and the message names the culprit."""
    source = """
        import trio
        from trivet import BackgroundPlugin, SupervisionSettings, route

        class Vital(BackgroundPlugin):
            supervision = SupervisionSettings(critical=True, max_restarts=0)

            async def run(self) -> None:
                self.poisoned = trio.Event()
                await self.poisoned.wait()
                raise ValueError("gone")

            @route("/poison")
            async def poison(self):
                self.poisoned.set()
                return {}
    """
    directory = plugins(vital=source, recorder=RECORDER)
    async with serving("recorder", "vital", directory=directory) as server:
        async with httpx.AsyncClient(base_url=server.url) as client:
            assert (await client.get("/poison")).status_code == 200
        assert await server.process.wait() == 4
        await server.logged("recorder closes")
    assert "plugin 'vital' gave up: ValueError: gone" in "".join(server.text)


async def test_hypercorn_runs_the_asgi_application(plugins: Callable[..., Path]) -> None:
    """Under `hypercorn -k trio trivet.asgi:app` the program lives within the lifespan."""
    directory = plugins(recorder=RECORDER)
    settings = 'active_plugins = ["recorder"]\nplugins_directory = "."\n'
    (directory / "trivet.toml").write_text(settings)
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = ["hypercorn", "-k", "trio", "trivet.asgi:app", "--bind", address]
    async with running(command, directory) as server:
        async with httpx.AsyncClient(base_url=f"http://{address}") as client:
            answer = await eventually(client, "/readyz")
            assert answer.json()["status"] == "ready"
            answer = await client.post("/events/ping?wait=true", json={"number": 1})
            assert answer.json()["fates"] == {"recorder": "handled"}
        assert await server.stop() == 0
        assert (await server.logged("recorder closes"))["seen"] == [1]


async def test_a_server_on_asyncio_is_told_what_to_use(tmp_path: Path) -> None:
    """Under a server on asyncio the start of `trivet.asgi:app` fails, and says what to use."""
    command = ["uvicorn", "trivet.asgi:app", "--port", "0"]
    async with running(command, tmp_path) as server:
        with trio.fail_after(60):
            assert await server.process.wait() != 0
    assert "trivet.asgi needs a server that runs on Trio: `trivet serve`" in "".join(server.text)


async def eventually(client: httpx.AsyncClient, path: str) -> httpx.Response:
    """Ask until the server listens."""
    while True:
        try:
            return await client.get(path)
        except httpx.ConnectError:
            await trio.sleep(0.05)


async def test_a_server_whose_start_is_cancelled_does_not_hang() -> None:
    """An embedder that is cancelled before the address is bound goes on with the stop."""
    async with open_runtime() as runtime:
        with trio.fail_after(60), trio.CancelScope() as scope:
            scope.cancel()
            async with listening(runtime, "127.0.0.1:0"):
                pytest.fail("the block must not be entered")
    assert scope.cancelled_caught


SINK = """
    from trivet import Event, EventPlugin


    class Sink(EventPlugin[Event]):
        to: str

        async def handle_event(self, event: Event) -> None:
            self.log.info("sent", to=self.to)
"""

INSTANCES = """
    active_plugins = ["orders", "audit"]
    plugins_directory = "."
    event_types = ["shop"]
    bind = "127.0.0.1:0"
    [plugins.orders]
    use = "sink"
    to = "o"
    [plugins.orders.delivery]
    events = ["order_placed"]
    [plugins.audit]
    use = "{use}"
    to = "a"
    [plugins.audit.delivery]
    events = ["order_cancelled"]
"""

SHOP_EVENTS = """
    from trivet import Event


    class OrderPlaced(Event):
        number: int


    class OrderCancelled(Event):
        number: int
"""


async def test_a_file_of_settings_makes_instances_of_a_plugin(
    plugins: Callable[..., Path],
) -> None:
    """One class runs under two names, each with its events; the log and /plugins have the names."""
    directory = plugins(sink=SINK, shop=SHOP_EVENTS)
    (directory / "trivet.toml").write_text(dedent(INSTANCES.format(use="sink")))
    async with running(["trivet", "serve"], directory) as server:
        url = (await server.logged("serving"))["urls"][0]
        async with httpx.AsyncClient(base_url=url) as client:
            answer = await client.post("/events/order_placed?wait=true", json={"number": 1})
            assert answer.json()["fates"] == {"orders": "handled"}
            described = (await client.get("/plugins")).json()["plugins"]
        assert await server.stop() == 0
    assert {name: each["class"] for name, each in described.items()} == {
        "orders": "Sink",
        "audit": "Sink",
    }
    (sent,) = [line for line in server.lines if line.get("event") == "sent"]
    assert (sent["plugin"], sent["to"]) == ("orders", "o")


async def test_an_instance_of_nothing_ends_with_2(plugins: Callable[..., Path]) -> None:
    """The message names the file, the key and the nearest plugin; nothing was started."""
    directory = plugins(sink=SINK, shop=SHOP_EVENTS)
    (directory / "trivet.toml").write_text(dedent(INSTANCES.format(use="snik")))
    async with running(["trivet", "serve"], directory) as server:
        assert await server.process.wait() == 2
        await server.has_said_all()
    (line,) = server.text
    assert line.startswith("trivet: trivet.toml: plugins.audit.use: no plugin 'snik' in ")
    assert line.endswith("did you mean 'sink'?")


async def test_tls_by_settings(plugins: Callable[..., Path]) -> None:
    """`[tls]` has the program serve TLS, and a wrong certificate ends the start with code 2."""
    directory, ca = plugins(recorder=RECORDER), trustme.CA()
    ca.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(
        str(directory / "server.pem")
    )
    settings = 'bind = "127.0.0.1:0"\nactive_plugins = ["recorder"]\nplugins_directory = "."\n'
    file = directory / "trivet.toml"
    file.write_text(f'{settings}[tls]\ncertificate = "server.pem"')
    async with running(["trivet", "serve"], directory) as server:
        (url,) = (await server.logged("serving"))["urls"]
        context = ssl.create_default_context(cadata=ca.cert_pem.bytes().decode())
        async with httpx.AsyncClient(base_url=url, verify=context) as client:
            assert (await client.get("/livez")).status_code == 200
        assert await server.stop() == 0
    file.write_text(f'{settings}[tls]\ncertificate = "trivet.toml"')
    async with running(["trivet", "serve"], directory) as server:
        assert await server.process.wait() == 2
        await server.has_said_all()
        assert "tls.certificate: trivet.toml: there is no certificate" in "\n".join(server.text)


AS_SYSTEMD = """
import os, socket, sys
listener = socket.create_server(("127.0.0.1", 0))
os.dup2(listener.fileno(), 3)
os.set_inheritable(3, True)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
os.execv(sys.argv[1], sys.argv[1:])
"""
"""A program that hands a socket over to the program that it becomes, as systemd does."""


def kill_child(parent: int) -> None:
    """Kill the only child of a process."""
    (child,) = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    os.kill(int(child), signal.SIGKILL)


async def test_several_addresses_outlive_a_child(plugins: Callable[..., Path]) -> None:
    """A socket of systemd's and a Unix socket are handed on to the child that follows a dead
    one."""
    directory = plugins(recorder=RECORDER)
    path = directory / "socket"
    command = [sys.executable, "-c", AS_SYSTEMD, str(SCRIPTS / "trivet"), "serve", "recorder"]
    environ = {"TRIVET_PLUGINS_DIRECTORY": ".", "TRIVET_BIND": f"systemd,unix:{path}"}
    environ |= {"TRIVET_RESTARTS__BACKOFF_MAX": "0"}
    async with running(command, directory, **environ) as server:
        urls = (await server.logged("serving"))["urls"]
        assert urls[1] == f"http://unix:{path}"
        transport = httpx.AsyncHTTPTransport(uds=str(path))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            assert (await client.get("/livez")).status_code == 200
        server.lines.clear()
        kill_child(server.process.pid)
        assert (await server.logged("serving"))["urls"] == urls
        async with httpx.AsyncClient(base_url=urls[0]) as client:
            assert (await client.get("/livez")).status_code == 200
        assert await server.stop() == 0


AS_SYSTEMD_WITH_NAMES = """
import fcntl, os, socket, sys
names = sys.argv[1].split(":")
listeners = [socket.create_server(("127.0.0.1", 0)) for _ in names]
above = [fcntl.fcntl(listener.fileno(), fcntl.F_DUPFD, 20) for listener in listeners]
for number, listener in enumerate(above, 3):
    os.dup2(listener, number, inheritable=True)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDNAMES": sys.argv[1]}
os.environ["LISTEN_FDS"] = str(len(names))
os.execv(sys.argv[2], sys.argv[2:])
"""
"""A program that hands sockets over, each with a name, to the program that it becomes."""


async def test_management_has_a_socket_of_systemd(plugins: Callable[..., Path]) -> None:
    """The socket with the name in `management_bind` is for management and the others are not; all
    are handed on to the child that follows a dead one."""
    directory = plugins(recorder=RECORDER)
    names = "public.socket:manage:public.socket"
    command = [sys.executable, "-c", AS_SYSTEMD_WITH_NAMES, names, str(SCRIPTS / "trivet"), "serve"]
    environ = {"TRIVET_PLUGINS_DIRECTORY": ".", "TRIVET_RESTARTS__BACKOFF_MAX": "0"}
    environ |= {"TRIVET_BIND": "systemd", "TRIVET_MANAGEMENT_BIND": "systemd:manage"}
    async with running([*command, "recorder"], directory, **environ) as server:
        first = await server.logged("serving")
        assert [len(first["urls"]), len(first["management"])] == [2, 1]
        server.lines.clear()
        kill_child(server.process.pid)
        said = await server.logged("serving")
        assert (said["urls"], said["management"]) == (first["urls"], first["management"])
        for url in said["urls"]:
            async with httpx.AsyncClient(base_url=url) as client:
                assert (await client.post("/events/ping", json={"number": 1})).is_success
                assert (await client.get("/plugins")).status_code == 404
        async with httpx.AsyncClient(base_url=said["management"][0]) as client:
            assert (await client.get("/plugins")).status_code == 200
            assert (await client.post("/events/ping", json={})).status_code == 404
        assert await server.stop() == 0


STRANGER = """
    from trivet import BackgroundPlugin

    class Stranger(BackgroundPlugin):
        async def initialize(self) -> None:
            raise SystemExit("it has begun to work")
"""


async def test_a_socket_of_systemd_that_others_reach(plugins: Callable[..., Path]) -> None:
    """No plugin begins to work where systemd listens for other machines, and there are no tokens:
    the start ends with 2 and says what to write."""
    as_systemd = AS_SYSTEMD.replace("127.0.0.1", "0.0.0.0")
    directory = plugins(stranger=STRANGER)
    command = [sys.executable, "-c", as_systemd, str(SCRIPTS / "trivet"), "serve", "stranger"]
    environ = {"TRIVET_PLUGINS_DIRECTORY": ".", "TRIVET_BIND": "systemd"}
    async with running(command, directory, **environ) as server:
        assert await server.process.wait() == 2
        await server.has_said_all()
    said = "\n".join(server.text)
    assert "bind: other machines reach 0.0.0.0:" in said
    assert "there are no tokens: write [[tokens]]" in said
    assert "it has begun to work" not in said


@pytest.mark.parametrize(
    ("names", "bind", "said"),
    [
        ("a", "systemd:b", "cannot listen on systemd:b: systemd has handed over no such socket"),
        ("a:b", "systemd:a", "no address names a socket that systemd has handed over"),
    ],
)
async def test_wrong_names_of_sockets(
    plugins: Callable[..., Path], names: str, bind: str, said: str
) -> None:
    """A name that no socket of systemd's has, and a socket whose name no address has, end the
    start."""
    command = [sys.executable, "-c", AS_SYSTEMD_WITH_NAMES, names, str(SCRIPTS / "trivet"), "serve"]
    environ = {"TRIVET_BIND": bind}
    if bind == "systemd:b":
        environ["TRIVET_MANAGEMENT_BIND"] = "systemd"
    async with running(command, plugins(), **environ) as server:
        assert await server.process.wait() == 3
        await server.has_said_all()
        assert said in "\n".join(server.text)
