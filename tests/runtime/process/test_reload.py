"""Reloads of `trivet serve` by real signals, also in the middle of something else."""

from __future__ import annotations

import os
import signal
import ssl
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
import trio
import trustme

from .restarts import children
from .test_serve import RECORDER, Server, plugins, running

__all__ = ["plugins"]  # A fixture.

pytestmark = pytest.mark.process

SETTINGS = 'plugins_directory = "."\nbind = "127.0.0.1:0"\nactive_plugins = {names}\n'
SLOW = """
    import trio
    from trivet import EventPlugin
    from .recorder import Ping

    class Slow(EventPlugin[Ping]):
        async def handle_event(self, event: Ping) -> None:
            self.log.info("slow handler", number=event.number)
            await trio.sleep(3600)
"""


def write_settings(directory: Path, *names: str, more: str = "") -> None:
    """Write the settings of a program with these plugins."""
    text = SETTINGS.format(names=list(names)) + more
    (directory / "trivet.toml").write_text(text)


async def reloaded(server: Server, outcome: str = "reloaded") -> None:
    """Ask for a reload by the signal, and wait for its outcome."""
    server.lines.clear()
    server.process.send_signal(signal.SIGHUP)
    await server.logged(outcome)


@pytest.mark.parametrize("signals", [1, 2])
async def test_a_stop_while_a_plugin_that_is_gone_drains(
    plugins: Callable[..., Path], signals: int
) -> None:
    """The plugin leaves by the deadlines of the stop, and the others handle what they accepted."""
    directory = plugins(recorder=RECORDER, slow=SLOW)
    more = "[shutdown]\nrequests = 1\ndrain = 4\nclose = 1\n"
    write_settings(directory, "recorder", "slow", more=more)
    async with running(["trivet", "serve"], directory) as server:
        url = (await server.logged("serving"))["urls"][0]
        async with httpx.AsyncClient(base_url=url) as client:
            await client.post("/events/ping", json={"number": 7})
        await server.logged("slow handler")
        write_settings(directory, "recorder", more=more)
        server.process.send_signal(signal.SIGHUP)
        async with httpx.AsyncClient(base_url=url) as client:
            while "slow" in (await client.get("/plugins")).json()["plugins"]:
                await trio.sleep(0.01)
            await client.post("/events/ping", json={"number": 8})
        begun = trio.current_time()
        for _ in range(signals):
            server.process.send_signal(signal.SIGTERM)
            await trio.sleep(0.1)
        assert await server.process.wait() == 0
        if signals == 2:
            assert trio.current_time() - begun < 4
        assert (await server.logged("recorder closes"))["seen"] == [7, 8]


async def test_a_stop_during_a_reload(plugins: Callable[..., Path]) -> None:
    """A new instance that hangs in `initialize` is given up, and the old one drains."""
    hangs = RECORDER.replace(
        "        async def handle_event",
        "        async def initialize(self):\n            self.log.info('hangs')\n"
        "            await trio.sleep(3600)\n\n        async def handle_event",
    )
    directory = plugins(recorder=RECORDER)
    write_settings(directory, "recorder")
    async with running(["trivet", "serve"], directory) as server:
        url = (await server.logged("serving"))["urls"][0]
        plugins(recorder=hangs)
        server.process.send_signal(signal.SIGHUP)
        await server.logged("hangs")
        async with httpx.AsyncClient(base_url=url) as client:
            await client.post("/events/ping", json={"number": 7})
        assert await server.stop() == 0
        assert (await server.logged("recorder closes"))["seen"] == [7]


async def test_signals_without_a_pause(plugins: Callable[..., Path]) -> None:
    """Many signals, each with other code, end in the last code, in the same process."""
    directory = plugins(recorder=RECORDER)
    write_settings(directory, "recorder")
    async with running(["trivet", "serve"], directory) as server:
        url = (await server.logged("serving"))["urls"][0]
        before = children(server.process.pid)
        for number in range(200):
            plugins(recorder=RECORDER.replace('{"seen": self.seen}', f'{{"seen": {number}}}'))
            server.process.send_signal(signal.SIGHUP)
        await trio.sleep(0.1)
        await reloaded(server)
        async with httpx.AsyncClient(base_url=url, timeout=30) as client:
            while (await client.get("/slow")).json() != {"seen": 199}:
                await trio.sleep(0.01)
        assert children(server.process.pid) == before
        assert await server.stop() == 0


@pytest.mark.parametrize(
    "fault", ["raise KeyboardInterrupt", "raise BaseException('x')", "import sys; sys.exit(3)"]
)
async def test_code_that_would_end_the_program(plugins: Callable[..., Path], fault: str) -> None:
    """The program serves on in the same process, whatever new code raises at its import."""
    directory = plugins(recorder=RECORDER)
    write_settings(directory, "recorder")
    async with running(["trivet", "serve"], directory) as server:
        url = (await server.logged("serving"))["urls"][0]
        before = children(server.process.pid)
        plugins(recorder=fault)
        await reloaded(server, "reload refused: nothing has changed")
        async with httpx.AsyncClient(base_url=url, timeout=30) as client:
            answer = await client.post("/events/ping", json={"number": 7})
            assert answer.status_code == 202
        assert children(server.process.pid) == before
        assert await server.stop() == 0
        assert (await server.logged("recorder closes"))["seen"] == [7]


async def test_the_parent_goes_by_the_limits_of_a_reload(plugins: Callable[..., Path]) -> None:
    """A program that may not be restarted any more is not, when it is killed after the reload."""
    directory = plugins(recorder=RECORDER)
    write_settings(directory, "recorder")
    async with running(["trivet", "serve"], directory) as server:
        await server.logged("serving")
        write_settings(directory, "recorder", more="[restarts]\nmax_restarts = 0\n")
        await reloaded(server)
        os.kill(children(server.process.pid)[0], signal.SIGKILL)
        assert await server.process.wait() == 137
        await server.has_said_all()
        assert "too often: giving up" in "\n".join(server.text)


async def test_the_watchdog_goes_by_the_limits_of_a_reload(plugins: Callable[..., Path]) -> None:
    """A loop that is held is ended after the new `hang_limit`, which was none before."""
    held = RECORDER.replace(
        "self.seen.append", "import time\n            time.sleep(1e6)\n            #"
    )
    directory = plugins(recorder=held)
    write_settings(directory, "recorder", more="[restarts]\nmax_restarts = 0\n")
    (directory / "trivet.toml").write_text(
        "hang_limit = 0\n" + (directory / "trivet.toml").read_text()
    )
    async with running(["trivet", "serve"], directory) as server:
        url = (await server.logged("serving"))["urls"][0]
        text = (directory / "trivet.toml").read_text()
        (directory / "trivet.toml").write_text(text.replace("hang_limit = 0", "hang_limit = 2"))
        await reloaded(server)
        async with httpx.AsyncClient(base_url=url) as client:
            with suppress(httpx.TransportError):
                await client.post("/events/ping", json={"number": 1})
        assert await server.process.wait() == 71


async def test_a_plugin_that_a_reload_has_brought_is_known_to_safe_mode(
    plugins: Callable[..., Path],
) -> None:
    """A death of the program is put down to it by its file."""
    bad = """
        import os
        from trivet import EventPlugin
        from .recorder import Ping

        class Bad(EventPlugin[Ping]):
            async def handle_event(self, event: Ping) -> None:
                os.abort()
    """
    directory = plugins(recorder=RECORDER, bad=bad)
    more = "[restarts]\ndisable_after = 1\nbackoff_max = 0\n"
    write_settings(directory, "recorder", more=more)
    async with running(["trivet", "serve"], directory) as server:
        url = (await server.logged("serving"))["urls"][0]
        write_settings(directory, "recorder", "bad", more=more)
        await reloaded(server)
        async with httpx.AsyncClient(base_url=url) as client:
            with suppress(httpx.TransportError):
                await client.post("/events/ping", json={"number": 1})
        assert (await server.logged("plugin starts disabled"))["plugin"] == "bad"
        await server.logged("serving")
        assert await server.stop() == 0


async def test_a_new_program_is_asked_for_while_none_runs(plugins: Callable[..., Path]) -> None:
    """The parent, which waits after a death, starts one at once; a reload waits with it."""
    directory = plugins(recorder=RECORDER)
    more = "[restarts]\nbackoff_initial = 100000\nbackoff_max = 100000\n"
    write_settings(directory, "recorder", more=more)
    async with running(["trivet", "serve"], directory) as server:
        await server.logged("serving")
        server.lines.clear()
        os.kill(children(server.process.pid)[0], signal.SIGKILL)
        await said(server, "starting again in")
        server.process.send_signal(signal.SIGHUP)
        await said(server, "reads its settings when it is started")
        server.process.send_signal(signal.SIGUSR2)
        await server.logged("serving")
        assert await server.stop() == 0


async def said(server: Server, words: str) -> None:
    """Wait until the parent has said this."""
    async with server.changed:
        while not any(words in line for line in server.text):
            await server.changed.wait()


async def test_a_certificate_and_a_secret_are_renewed_in_their_files(
    plugins: Callable[..., Path],
) -> None:
    """The log names both; new connections have the new certificate, and need the new token."""
    directory = plugins(recorder=RECORDER)
    first, second = trustme.CA(), trustme.CA()

    def renew(authority: trustme.CA, secret: str) -> ssl.SSLContext:
        authority.issue_cert("localhost", "127.0.0.1").private_key_and_cert_chain_pem.write_to_path(
            directory / "pair.pem"
        )
        (directory / "token").write_text(secret)
        trusting = ssl.create_default_context()
        authority.configure_trust(trusting)  # pyright: ignore[reportUnknownMemberType]
        return trusting

    before = renew(first, "the-first-token-of-all")
    more = (
        'tokens = [{ name = "olga", scopes = ["read"], secret = { file = "token" } }]\n'
        '[tls]\ncertificate = "pair.pem"\n'
    )
    write_settings(directory, "recorder", more=more)
    async with running(["trivet", "serve"], directory) as server:
        url = (await server.logged("serving"))["urls"][0]

        async def status(trusting: ssl.SSLContext, secret: str) -> int:
            headers = {"Authorization": f"Bearer {secret}"}
            async with httpx.AsyncClient(base_url=url, verify=trusting, headers=headers) as client:
                return (await client.get("/plugins")).status_code

        assert await status(before, "the-first-token-of-all") == 200
        after = renew(second, "another-token-of-them")
        await reloaded(server)
        line = await server.logged("reloaded")
        assert (line["tls"], line["tokens"]) == ("changed", "changed")
        assert await status(after, "another-token-of-them") == 200
        assert await status(after, "the-first-token-of-all") == 401
        with pytest.raises(httpx.ConnectError):
            await status(before, "another-token-of-them")
        await reloaded(server)
        assert "tls" not in await server.logged("reloaded")
        assert await server.stop() == 0
