"""A secret of the settings is masked wherever an exception's text is logged, stored or shown."""

from __future__ import annotations

import gc
import json
import logging
import os
import re
import sys
import threading
import warnings
import weakref
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterator
from html import escape
from io import StringIO, TextIOWrapper
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import quote, quote_plus

import attrs
import pytest
import structlog
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trivet import (
    BackgroundPlugin,
    DeliverySettings,
    Event,
    EventPlugin,
    LogSettings,
    PluginStatusEvent,
    StartError,
    StoreSettings,
    SupervisionSettings,
    route,
)
from trivet._faults._masking import LONGEST, MASK, Secrets, forget, know, mask, mask_beginning
from trivet._log._logging import configure_logging, masked
from trivet._log._writer import Stream, Writer
from trivet._store._dead_letters import DeadLetters
from trivet.testing import client, open_plugins

PASSWORD = "pa'ss wörd/+&\"9"
TOKEN = "t0ken-of-the-receiver"


class Owner:
    """An owner of secrets."""


@pytest.fixture
def owner() -> Iterator[Owner]:
    """Forgets its secrets after the test."""
    one = Owner()
    yield one
    forget(one)


def secret(value: object) -> Secrets:
    """A secret value."""
    secrets = Secrets()
    secrets.add(value)
    return secrets


def hidden(url: str) -> Secrets:
    """A setting that is none, with a URL."""
    secrets = Secrets()
    secrets.look_into({"address": [url]})
    return secrets


# Which texts, and in which forms.


@pytest.mark.parametrize(
    "form",
    [
        PASSWORD,
        quote(PASSWORD),
        quote(PASSWORD, safe=""),
        quote_plus(PASSWORD),
        re.sub("%..", lambda found: found[0].lower(), quote(PASSWORD, safe="")),
        repr(PASSWORD)[1:-1],
        ascii(PASSWORD)[1:-1],
        repr(PASSWORD.encode())[2:-1],
        json.dumps(PASSWORD)[1:-1],
        json.dumps(PASSWORD, ensure_ascii=False)[1:-1],
        escape(PASSWORD),
        PASSWORD.encode().hex(),
        PASSWORD.encode().hex().upper(),
        repr(repr(PASSWORD)[1:-1])[1:-1],
    ],
)
def test_a_secret_is_masked_however_it_is_written(owner: Owner, form: str) -> None:
    """A secret is masked in plain text, in a URL, in quotes and as JSON, also within a word."""
    know(owner, secret(PASSWORD))
    assert mask(f"at{form}, and {form}") == f"at{MASK}, and {MASK}"


@pytest.mark.parametrize("user", ["", "u", "me", "ann", "user", "operator"])
@pytest.mark.parametrize("encode", [b64encode, urlsafe_b64encode])
def test_a_secret_is_masked_in_base64(owner: Owner, user: str, encode: Any) -> None:
    """A secret is masked in base64 after a user name of any length, as HTTP writes it."""
    know(owner, secret(TOKEN))
    header = encode(f"{user}:{TOKEN}:more".encode()).decode()
    masked = mask(f"Authorization: Basic {header}")
    assert MASK in masked
    core = encode(TOKEN[2:-2].encode()).decode().rstrip("=")
    assert core not in masked
    assert len(masked) < len(f"Authorization: Basic {header}") - len(TOKEN)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("postgresql://ann%40x:hunter22@db/orders", "postgresql://***@db/orders"),
        ("password hunter22 is wrong", "password *** is wrong"),
        ("no role 'ann@x' in postgresql", "no role '***' in postgresql"),
        ("ann%40x", "***"),
        ("annabel and joann@xy", "annabel and joann@xy"),
        ("GET /orders?token=ab12cd34&sslmode=disable", "GET /orders?***"),
        ("retried with ab12cd34, disable", "retried with ***, disable"),
        ("sslmode=disable", "***"),
    ],
)
def test_of_a_url_user_password_and_query_are_masked(
    owner: Owner, text: str, expected: str
) -> None:
    """The user, password and query of a URL are masked, and its address is not."""
    url = "postgresql://ann%40x:hunter22@db/orders?token=ab12cd34&sslmode=disable"
    know(owner, hidden(url))
    assert mask(text) == expected
    assert mask(url) == "postgresql://***@db/orders?***"


def test_a_secret_url_is_masked_whole_and_by_its_path(owner: Owner) -> None:
    """The path of a webhook's URL is its secret."""
    know(owner, secret("https://hooks.example/T00/B00/xyz"))
    assert (
        mask("posting to https://hooks.example/T00/B00/xyz failed") == f"posting to {MASK} failed"
    )
    assert mask("404 at /T00/B00/xyz") == f"404 at {MASK}"


def test_short_and_common_words_are_left(owner: Owner) -> None:
    """A secret below four characters, and a number in a parameter, are not masked."""
    secrets = secret(["abc", "", "abcd"])
    secrets.look_into("http://h/?limit=1000&read=true")
    know(owner, secrets)
    assert mask("abc abcd 1000 true") == f"abc {MASK} 1000 true"


def test_the_name_of_a_plugin_is_no_secret(owner: Owner) -> None:
    """A user that is called as a plugin is masked in its URL only."""
    secrets = hidden("amqp://orders:hunter22@h/")
    secrets.names.add("orders")
    know(owner, secrets)
    assert (
        mask("plugin=orders url=amqp://orders:hunter22@h/") == f"plugin=orders url=amqp://{MASK}@h/"
    )


def test_every_line_of_a_secret_is_one(owner: Owner) -> None:
    """A key in PEM is found when the log has indented it."""
    know(owner, secret("-----BEGIN KEY-----\nMIIEvQIBADANBg\n-----END KEY-----\n"))
    assert mask("    MIIEvQIBADANBg") == f"    {MASK}"


def test_the_fields_say_what_is_secret() -> None:
    """A field that is not shown is secret with all that is in it, in nested settings, too."""

    @attrs.frozen
    class Login:
        name: str
        password: str = attrs.field(repr=False)

    @attrs.frozen
    class All:
        login: Login
        plain: str
        pin: int = attrs.field(repr=False)
        headers: dict[str, list[str]] = attrs.field(repr=False)
        shown: str = attrs.field(repr=lambda value: "…")

    secrets = Secrets()
    secrets.of_instance(All(Login("ann", "hunter22"), "plain", 4711, {"a": ["b-secret"]}, "odd"))
    assert secrets.whole == {"hunter22", "4711", "b-secret", "odd"}


def test_secrets_are_forgotten_with_their_owner() -> None:
    """An owner that is gone leaves nothing that is masked for ever."""
    one = Owner()
    know(one, secret(TOKEN))
    assert mask(TOKEN) == MASK
    del one
    gc.collect()
    assert mask(TOKEN) == TOKEN


def test_two_owners_keep_their_secrets_apart() -> None:
    """A secret that one owner forgets may still be another's."""
    one, two = Owner(), Owner()
    know(one, secret([TOKEN, "only-mine"]))
    know(two, secret(TOKEN))
    forget(one)
    assert mask(f"{TOKEN} only-mine") == f"{MASK} only-mine"
    forget(two)


# Where an exception's text goes.


class Ask(Event):
    number: int = 0


class Client(EventPlugin[Ask]):
    """Says its secrets wherever it fails."""

    delivery = DeliverySettings(durable=True, max_attempts=2)
    supervision = SupervisionSettings(max_restarts=0)
    url: str = "http://ann-user:hunter22@h/?token=ab12cd34"
    token: str = attrs.field(default=TOKEN, repr=False)
    when: str = "handled"
    _derived: str = attrs.field(default="own-secret", repr=False)

    def _fail(self, when: str) -> None:
        if self.when == when:
            raise ValueError(f"{self.url} {self.token!r} {self._derived} {quote(self.token)}")

    async def initialize(self) -> None:
        self._fail("started")

    async def handle_event(self, event: Ask) -> None:
        self._fail("handled")

    @route("/fails")
    async def fails(self) -> str:
        self.degrade(f"no answer by {self.url} with {self.token}")
        self._fail("asked")
        return ""

    async def close(self) -> None:
        self._fail("closed")


class Refuses(BackgroundPlugin):
    """Says its secret before there is an instance."""

    token: str = attrs.field(default=TOKEN, repr=False)

    def __init__(self, app: object) -> None:
        raise ValueError(self.token)


class Crashes(BackgroundPlugin):
    """Is given up at once."""

    supervision = SupervisionSettings(restart="temporary")
    token: str = attrs.field(default=TOKEN, repr=False)

    async def run(self) -> None:
        raise ValueError(self.token)


class Hears(EventPlugin[PluginStatusEvent]):
    heard: list[str] = attrs.field(factory=list[str])

    async def handle_event(self, event: PluginStatusEvent) -> None:
        self.heard.append(str(event.reason))


SECRETS = ("ann-user", "hunter22", "ab12cd34", TOKEN, "own-secret", quote(TOKEN))


def is_clean(text: str) -> bool:
    """Whether there is something masked in it, and no secret."""
    return MASK in text and not any(each in text for each in SECRETS)


@pytest.fixture(params=["console", "json"])
def logged(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[StringIO]:
    """The text that is written to the log of `trivet serve`."""
    written = StringIO()
    monkeypatch.setattr(sys, "stderr", written)
    configure_logging(LogSettings(level="debug", format=request.param))
    yield written
    structlog.reset_defaults()


@pytest.mark.parametrize(
    "secret", [TOKEN, PASSWORD, quote(PASSWORD), b64encode(TOKEN.encode()).decode()]
)
def test_no_part_of_a_secret_is_at_the_end_of_a_beginning(owner: Owner, secret: str) -> None:
    """A text is cut so that no beginning of a secret is left, wherever the cut is in the secret."""
    secrets = Secrets()
    secrets.add(TOKEN)
    secrets.add(PASSWORD)
    know(owner, secrets)
    for before in range(100 - 2 * len(secret), 101):
        shown = mask_beginning("\n" * before + secret + "\n" * 1000, 100)
        assert set(shown.partition("…")[0]) <= {"\n", "*"}, before
        assert shown.endswith(f"({before + len(secret) + 900} more characters)")


def test_a_text_that_is_not_long_is_shown_whole(owner: Owner) -> None:
    """A text of the limit's length is masked, and not cut."""
    secrets = Secrets()
    secrets.add(TOKEN)
    know(owner, secrets)
    assert mask_beginning(TOKEN, len(TOKEN)) == MASK
    assert mask_beginning("a" * 100, 100) == "a" * 100
    assert mask_beginning("a" * LONGEST * 2).startswith("a" * (LONGEST - 100))


@pytest.mark.parametrize("when", ["handled", "asked", "closed"])
async def test_no_log_line_has_a_secret(
    logged: StringIO, autojump_clock: MockClock, when: str
) -> None:
    """Fields, tracebacks and the last attempt: the secret of an exception's text is masked."""
    with trio.fail_after(3600):
        async with open_plugins(Client, settings={"client": {"when": when}}) as runtime:
            await runtime.publish(Ask(), wait=True)
            await client(runtime).get("/fails")
    assert "ValueError" in logged.getvalue()
    assert is_clean(logged.getvalue())


async def test_a_dead_letter_has_no_secret(tmp_path: Path) -> None:
    """No secret is in the reason of a dead letter, or in the history of its attempts."""
    path = tmp_path / "store.sqlite3"
    store = StoreSettings(path=path)
    table = {"client": {"delivery": {"retry_initial": 0.0}}}
    async with open_plugins(Client, store=store, settings=table) as runtime:
        await runtime.publish(Ask(), wait=True)
    with DeadLetters(path) as letters:
        (letter,) = letters.list()
    assert is_clean(letter.reason)
    assert is_clean(str(letter.history))


async def test_no_status_has_a_secret(autojump_clock: MockClock) -> None:
    """`GET /plugins`, `/readyz` and status events show reasons, and none of them a secret."""
    async with open_plugins(Client, Crashes, Hears) as runtime:
        await wait_all_tasks_blocked()
        await client(runtime).get("/fails")
        await wait_all_tasks_blocked()
        shown = [
            await (await client(runtime).get(path)).get_data(as_text=True)
            for path in ("/plugins", "/readyz")
        ]
        heard = [reason for reason in runtime.get(Hears).heard if "ValueError" in reason]
        assert is_clean(shown[0])
        assert not any(each in shown[1] for each in SECRETS)
        assert heard
        assert all(is_clean(reason) for reason in heard)
        assert is_clean(str(runtime.hosts["crashes"].error))


async def test_no_error_of_a_start_has_a_secret(logged: StringIO) -> None:
    """Exceptions of `initialize` and `__init__` are masked in the error and in the log."""
    for plugin, table in ((Client, {"when": "started"}), (Refuses, {})):
        with pytest.raises(StartError) as caught:
            async with open_plugins(plugin, settings={plugin.name: table}):
                pass
        assert is_clean(str(caught.value))
    assert is_clean(logged.getvalue())


class Stderr:
    """Standard error as `trivet serve` has it, within a block; then the text that came out."""

    def __enter__(self) -> Stderr:
        self.said = ""
        self._reader, self._end = os.pipe()
        stream = cast("BinaryIO", Stream(Writer(self._end, print), masked))
        self._patch = pytest.MonkeyPatch()
        text = TextIOWrapper(stream, "utf-8", "backslashreplace", line_buffering=True)
        self._patch.setattr(sys, "stderr", text)
        for module, hook in ((sys, "unraisablehook"), (threading, "excepthook")):
            self._patch.setattr(module, hook, getattr(module, f"__{hook}__"))  # Not pytest's.
        return self

    def __exit__(self, *_: object) -> None:
        self._patch.undo()
        self.said = os.read(self._reader, 65536).decode("utf-8", "replace")
        os.close(self._reader)
        os.close(self._end)


def test_pythons_own_tracebacks_are_masked(owner: Owner) -> None:
    """An exception that nobody catches is printed by Python, masked."""
    know(owner, secret(TOKEN))
    with Stderr() as stderr:
        sys.__excepthook__(ValueError, ValueError(TOKEN), None)
    assert f"ValueError: {MASK}" in stderr.said


def test_the_tracebacks_of_threads_are_masked(owner: Owner) -> None:
    """An exception that nobody catches in a thread is printed masked."""
    know(owner, secret(TOKEN))
    thread = threading.Thread(target=int, args=[TOKEN])
    with Stderr() as stderr:
        thread.start()
        thread.join()
    assert MASK in stderr.said
    assert TOKEN not in stderr.said


def test_the_tracebacks_of_finalisers_are_masked(owner: Owner) -> None:
    """An exception that nobody could catch is printed masked."""

    class Leaves:
        def __del__(self) -> None:
            raise ValueError(TOKEN)

    know(owner, secret(TOKEN))
    with Stderr() as stderr:
        Leaves()
    assert f"ValueError: {MASK}" in stderr.said
    assert TOKEN not in stderr.said


def test_the_words_of_libraries_are_masked(owner: Owner) -> None:
    """Warnings, Python's own log and bytes that are no text are masked on standard error."""
    know(owner, secret(TOKEN))
    assert logging.lastResort is not None
    with Stderr() as stderr:
        logging.lastResort.handle(logging.LogRecord("a", 40, "a.py", 1, TOKEN, None, None))
        sys.stderr.write(warnings.formatwarning(TOKEN, UserWarning, "a.py", 1))
        sys.stderr.buffer.write(b"\xff " + TOKEN.encode() + b"\n")
    assert (stderr.said.count(MASK), TOKEN in stderr.said) == (3, False)


def test_a_secret_that_is_not_utf8_is_masked(owner: Owner) -> None:
    """A secret that is not UTF-8, as from the environment, is masked."""
    know(owner, secret("pass\udcffword"))
    assert mask("it is pass\udcffword") == f"it is {MASK}"


def test_a_deep_recursion_does_not_hear_of_the_end_of_an_owner() -> None:
    """An owner's end calls nothing, so that it cannot fail where the recursion is at its limit."""
    owner = Owner()
    know(owner, secret(PASSWORD))
    assert all(reference.__callback__ is None for reference in weakref.getweakrefs(owner))
    del owner
    other = Owner()
    know(other, secret(TOKEN))
    assert mask(PASSWORD) == PASSWORD
    forget(other)
