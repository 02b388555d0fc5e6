"""Secrets planted in a real program are in none of its logs, answers, reports and files."""

from __future__ import annotations

import base64
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from textwrap import dedent
from urllib.parse import quote

import httpx
import pytest
import trio

pytestmark = pytest.mark.process

TRIVET = str(Path(sys.executable).with_name("trivet"))
IN_A_FILE = "pl4nted in-a/file"
IN_A_URL = "pl4nted-in-a-url"
IN_THE_ENVIRONMENT = "pl4nted-by-a-variable"
IN_A_TABLE = "pl4nted-in-a-table"
IN_AN_EVENT = "pl4nted-in-an-event"
OF_THE_OPERATOR = "pl4nted-for-an-operator"
SECRETS = (IN_A_FILE, IN_A_URL, IN_THE_ENVIRONMENT, IN_A_TABLE, OF_THE_OPERATOR)

SETTINGS = f"""
active_plugins = ["planted"]
bind = "127.0.0.1:0"
plugins_directory = "."

[[tokens]]
name = "operator"
scopes = ["admin"]
secret = {{ file = "admin" }}

[plugins.planted]
token = {{ file = "token" }}
url = "http://ann:{IN_A_URL}@127.0.0.1:1/"
headers = {{ Authorization = "Bearer {IN_A_TABLE}" }}

[plugins.planted.delivery]
durable = true
max_attempts = 2
retry_initial = 0.0

[store]
path = "store/trivet.sqlite3"

[stalls]
warn = 0.01
error = 0.02
"""

PLUGIN = """
import ctypes
import logging
import threading
import time
import warnings
from base64 import b64encode
from urllib.parse import quote

import attrs
import trio
from trivet import Event, EventPlugin, Secret, route


class Ask(Event):
    text: str
    number: int = 0


class Planted(EventPlugin[Ask]):
    token: Secret
    url: str
    key: Secret
    headers: dict[str, Secret]

    def __init__(self, app):
        self.said = " ".join([
            self.token.reveal(), quote(self.token.reveal()), repr(self.token.reveal().encode()),
            b64encode(f"ann:{self.token.reveal()}".encode()).decode(), self.url, self.key.reveal(),
            *(header.reveal() for header in self.headers.values()),
        ])

    async def initialize(self):
        self.log.info("starting", said=self.said, settings=[self.token, self.headers], plugin_=self)
        logging.getLogger("of.a.library").error("a library says " + self.said)
        warnings.warn(self.said)
        thread = threading.Thread(target=self.fail)
        thread.start()
        thread.join()
        Unraisable(self.said)

    def fail(self):
        raise ValueError(self.said)

    async def handle_event(self, event: Ask) -> None:
        raise ValueError(f"{self.said} of an event {event.number}")

    @route("/fails")
    async def fails(self):
        self.degrade(f"no answer: {self.said}")
        self.fail()

    @route("/holds")
    async def holds(self):
        time.sleep(0.1)
        return {"shown": repr([self.token, self.headers])}

    @route("/dies", methods=["POST"])
    async def dies(self):
        ctypes.string_at(0)

    async def close(self):
        self.fail()


class Unraisable:
    def __init__(self, said):
        self.said = said

    def __del__(self):
        raise ValueError(self.said)
"""


def found_in(text: bytes) -> list[str]:
    """The secrets within a text, plain or in one of their forms."""
    forms = {
        form: secret
        for secret in SECRETS
        for form in (secret, quote(secret), base64.b64encode(secret[3:].encode())[:-4].decode())
    }
    return [secret for form, secret in forms.items() if form.encode() in text]


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """A program with planted secrets; afterwards all of its files are searched."""
    (tmp_path / "trivet.toml").write_text(SETTINGS)
    (tmp_path / "planted.py").write_text(dedent(PLUGIN))
    (tmp_path / "token").write_text(f"{IN_A_FILE}\n")
    (tmp_path / "admin").write_text(f"{OF_THE_OPERATOR}\n")
    (tmp_path / "store").mkdir()
    given = set(tmp_path.iterdir())
    yield tmp_path
    made = [file for file in tmp_path.rglob("*") if file.is_file() and file not in given]
    assert {"log", "trivet.sqlite3"} <= {file.name for file in made}
    assert {file.name: found for file in made if (found := found_in(file.read_bytes()))} == {}


class Program:
    """The program, whose output is in files."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.environ = {**os.environ, "TRIVET_PLUGINS__PLANTED__KEY": IN_THE_ENVIRONMENT}

    @property
    def log(self) -> str:
        """The log so far."""
        return (self.directory / "log").read_text()

    async def logged(self, text: str, times: int = 1) -> None:
        """Wait until the log has a text so many times."""
        while self.log.count(text) < times:  # noqa: ASYNC110 - it is a file
            await trio.sleep(0.01)

    @property
    def url(self) -> str:
        """The address of the server that was started last."""
        return self.log.rpartition("urls=['")[2].partition("'")[0]

    @asynccontextmanager
    async def serving(self) -> AsyncGenerator[httpx.AsyncClient]:
        """Serve within the block, and stop at its end."""
        with (self.directory / "log").open("ab") as log:
            process = await trio.lowlevel.open_process(
                [TRIVET, "serve"], cwd=self.directory, env=self.environ, stderr=log, stdout=log
            )
        try:
            with trio.fail_after(60):
                await self.logged("serving")
                async with httpx.AsyncClient(timeout=60) as client:
                    yield client
                process.send_signal(signal.SIGTERM)
                await process.wait()
        finally:
            if process.poll() is None:
                process.kill()
            with trio.move_on_after(5, shield=True):
                await process.wait()

    async def run(self, *arguments: str) -> str:
        """The output of a command."""
        done = await trio.run_process(
            [TRIVET, *arguments],
            cwd=self.directory,
            env=self.environ,
            capture_stdout=True,
            stderr=subprocess.STDOUT,
            check=False,
        )
        output: bytes = done.stdout or b""
        return output.decode()


async def dead_letters(client: httpx.AsyncClient, url: str) -> int:
    """The number of events that the plugin has given up."""
    headers = {"Authorization": f"Bearer {OF_THE_OPERATOR}"}
    found = (await client.get(f"{url}/-/dead-letters", headers=headers)).json()
    return int(found["count"])


async def test_no_planted_secret_comes_out(directory: Path) -> None:
    """A program that says its secrets wherever it can shows none, but those in a stored event."""
    program, answers = Program(directory), list[str]()
    async with program.serving() as client:
        url = program.url
        event = {"text": IN_AN_EVENT, "number": 4711}
        for _ in range(2):
            answers.append((await client.post(f"{url}/events/ask", json=event)).text)
        wrong = {"text": "a", "number": IN_AN_EVENT}
        answers.append((await client.post(f"{url}/events/ask", json=wrong)).text)
        answers.append((await client.get(f"{url}/fails")).text)
        answers.append((await client.get(f"{url}/holds")).text)
        contracts = "openapi.json", "asyncapi.json"
        for path in ("plugins", "readyz", "livez", "nowhere", "metrics", *contracts):
            answers.append((await client.get(f"{url}/{path}")).text)
        headers = {"Authorization": f"Bearer {OF_THE_OPERATOR}"}
        restarted = await client.post(f"{url}/-/plugins/planted/restart", headers=headers)
        answers.append(restarted.text)
        for path in ("plugins", "plugins/planted", "tasks", "events", "diagnostics"):
            asked = await client.get(f"{url}/-/{path}", headers=headers)
            assert asked.status_code == 200
            answers.append(asked.text)
        assert restarted.status_code == 202
        await program.logged("[error    ] event failed")
        with trio.fail_after(60):
            while await dead_letters(client, url) < 2:
                await trio.lowlevel.checkpoint()
    assert IN_AN_EVENT in await program.run("dead-letters", "show", "1")
    letters = [await program.run("dead-letters", *rest) for rest in (["list"], ["show", "1"])]
    answers += letters
    assert found_in("".join(answers).encode()) == []
    assert IN_AN_EVENT not in "".join(answers[:-1]) + program.log
    for text in (
        "ValueError: ***",
        "repeated=",
        "a library says",
        "UserWarning",
        "Unraisable",
        "Thread-",
    ):
        assert text in program.log, text
    assert "ValueError" in letters[0]


async def test_a_crash_tells_no_planted_secret(directory: Path) -> None:
    """The report of a program that died by a signal has its stack, and no secret."""
    program = Program(directory)
    async with program.serving() as client:
        with pytest.raises(httpx.HTTPError):
            await client.post(f"{program.url}/dies")
        await program.logged("serving", 2)
    assert "SIGSEGV" in program.log


async def test_an_error_at_the_start_tells_no_planted_secret(directory: Path) -> None:
    """A start that fails with a secret in its exception says so without it."""
    program = Program(directory)
    async with program.serving():
        pass
    text = PLUGIN.replace("Unraisable(self.said)", "self.fail()", 1)
    (directory / "planted.py").write_text(dedent(text))
    said = await program.run("serve")
    assert "did not start" in said
    assert found_in(said.encode()) == []
