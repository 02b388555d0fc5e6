"""A request as a route reads it: text, JSON, forms, headers; and parts of a response."""

from __future__ import annotations

import io
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any

import pytest
import structlog
import trio
from quart import request
from werkzeug.exceptions import RequestEntityTooLarge

from trivet import BackgroundPlugin, route
from trivet._web._bodies import Body
from trivet._web._quart._forms import LimitedFormParser
from trivet.testing import client, open_plugins

quart: Any = import_module("quart")
asked: Any = request  # Quart has no types for some of it.
FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data; boundary=b"
HEAD = b"--b\r\nContent-Disposition: form-data; name=a"
FIELD, FILE = HEAD + b"\r\n\r\n", HEAD + b"; filename=f\r\n\r\n"
MEGABYTE = 1024 * 1024


class Reader(BackgroundPlugin):
    @route("/text", methods=["POST"])
    async def text(self) -> str:
        return str(len(await request.get_data(as_text=True)))

    @route("/json", methods=["POST"])
    async def json(self) -> dict[str, str]:
        return {"is": type(await request.get_json()).__name__}

    @route("/silent", methods=["POST"])
    async def silent(self) -> dict[str, str]:
        return {"is": type(await request.get_json(silent=True)).__name__}

    @route("/form", methods=["POST"])
    async def form(self) -> dict[str, Any]:
        files = {name: len(file.read()) for name, file in (await asked.files).items()}
        return {"fields": dict(await asked.form), "files": files}

    @route("/who")
    async def who(self) -> str:
        return str(request.authorization is None)

    @route("/digits/<kind>")
    async def digits(self, kind: str) -> Any:
        if kind == "file":
            stream = io.BytesIO(b"0123456789")
            return await quart.send_file(stream, mimetype="text/plain", conditional=True)
        response = await quart.make_response(b"0123456789")
        return await response.make_conditional(request, accept_ranges=True, complete_length=10)


@asynccontextmanager
async def asking() -> AsyncGenerator[Any]:
    """A client, whose requests leave no traceback in the log."""
    with structlog.testing.capture_logs() as logs:
        async with open_plugins(Reader) as runtime:
            yield client(runtime)
    assert not [log for log in logs if log.get("exc_info")]


JSON = [
    (b"[1]", 200),
    (b'"' + b"x" * 4 * MEGABYTE + b'"', 200),
    (b"\xff", 400),
    (b'"\xff"', 400),
    (b"[", 400),
    (b"", 400),
    (b"[" * 40_000 + b"]" * 40_000, 400),
    (b"[" + b"9" * 5000 + b"]", 400),
    (b"[" + b"1," * 60_000 + b"1]", 413),
    (b"[" + b"[]," * 60_000 + b"1]", 413),
    (b'"' + b"\\n" * 2 * MEGABYTE + b'"', 413),
]


async def test_a_body_of_json() -> None:
    """A body that is no JSON is a 400, and one that would hold the loop is a 413."""
    async with asking() as ask:
        for body, status in JSON:
            headers = {"Content-Type": "application/json"}
            answer = await ask.post("/json", data=body, headers=headers)
            assert (body[:10], answer.status_code) == (body[:10], status)
            quiet = await ask.post("/silent", data=body, headers=headers)
            assert (body[:10], quiet.status_code) == (body[:10], 413 if status == 413 else 200)


async def test_an_empty_body_of_json() -> None:
    """The problem of an empty body says that it is empty."""
    async with asking() as ask:
        headers = {"Content-Type": "application/json"}
        answer = await ask.post("/json", data=b"", headers=headers)
        assert (await answer.get_json())["detail"] == "the body is empty, and no JSON"


async def test_a_body_of_text() -> None:
    """A body that is no text is a 400."""
    async with asking() as ask:
        assert (await ask.post("/text", data=b"\xff")).status_code == 400
        assert (await ask.post("/text", data=b"tea")).status_code == 200


FORMS: list[tuple[str, bytes, int, dict[str, Any]]] = [
    (FORM, b"a=1&b=%C3%A9+%41", 200, {"fields": {"a": "1", "b": "é A"}}),
    (FORM, b"a&=b&&c=", 200, {"fields": {"a": "", "": "b", "c": ""}}),
    (FORM, b"a=" + b"%41" * 5000, 200, {"fields": {"a": "A" * 5000}}),
    (FORM, b"a=%ff%", 200, {"fields": {"a": "\ufffd%"}}),
    (FORM, b"a&" * 2000, 413, {}),
    (FORM, b"a=" + b"x" * MEGABYTE, 413, {}),
    (MULTIPART, FIELD + b"1\r\n--b--\r\n", 200, {"fields": {"a": "1"}}),
    (MULTIPART, FILE + b"x" * MEGABYTE + b"\r\n--b--\r\n", 200, {"files": {"a": MEGABYTE}}),
    (MULTIPART, FIELD + b"1\r\n--b--\r\n" + b"z" * MEGABYTE, 200, {"fields": {"a": "1"}}),
    (MULTIPART, (FIELD + b"1\r\n") * 2000 + b"--b--", 413, {}),
    (MULTIPART, FIELD + b"x" * MEGABYTE + b"\r\n--b--", 413, {}),
    (MULTIPART, b"--b\r\n" + b"A: b\r\n" * 10_000 + b"\r\n", 413, {}),
    (MULTIPART, b"x" * MEGABYTE, 413, {}),
    ("multipart/form-data", FIELD, 200, {}),
    (MULTIPART, b"--b\r\nX: y\r\n\r\nz\r\n--b--", 200, {}),
]


async def test_a_form() -> None:
    """A form has fields and files, within limits: 413 beyond; a body that is no form is an empty
    one."""
    async with asking() as ask:
        for media_type, body, status, facts in FORMS:
            answer = await ask.post("/form", data=body, headers={"Content-Type": media_type})
            assert (body[:60], answer.status_code) == (body[:60], status)
            if status == 200:
                assert await answer.get_json() == {"fields": {}, "files": {}, **facts}


class Steps(trio.abc.Instrument):
    """The processor time of the longest step of a task."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._begun = float("inf")

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """Begin a step."""
        self._begun = time.thread_time()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """End a step."""
        self.longest = max(self.longest, time.thread_time() - self._begun)


HEAVY = {
    "parts": (HEAD + b"\r\n\r\n\r\n") * 100_000,
    "files": (FILE + b"\r\n") * 100_000,
    "parameters": (HEAD + b";x=y" * 1500 + b"\r\n\r\n\r\n") * 100,
    "headers": (HEAD + b"\r\n" + b"a:\n" * 2000 + b"\r\n\r\n\r\n") * 100,
    "nearly boundaries": FILE + b"\r\n--" * 1_000_000,
    "line ends": FILE + b"\r" * 4_000_000,
    "no boundary": b"\r\n-" * 1_000_000,
    "pairs": b"a&" * 2_000_000,
    "escapes": b"a=" + b"%41" * 160_000,
}


@pytest.mark.usefixtures("no_old_garbage")
@pytest.mark.parametrize("name", HEAVY)
async def test_a_form_does_not_hold_the_loop(name: str) -> None:
    """A form never keeps other tasks waiting for more than 50 ms of processor time."""
    whole, steps = HEAVY[name], Steps()
    body = Body(len(whole), None)
    mimetype = FORM if name in ("pairs", "escapes") else "multipart/form-data"

    async def send() -> None:
        for at in range(0, len(whole), 65536):
            await body.wait_for_room()
            body.append(whole[at : at + 65536])
            await trio.lowlevel.checkpoint()
        body.set_complete()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        trio.lowlevel.add_instrument(steps)
        try:
            parser: Any = LimitedFormParser()
            _, files = await parser.parse(body, mimetype, len(whole), {"boundary": "b"})
            for file in files.values():
                file.close()
        except RequestEntityTooLarge:
            assert name not in ("nearly boundaries", "line ends", "escapes")
        finally:
            trio.lowlevel.remove_instrument(steps)
        nursery.cancel_scope.cancel()
    assert steps.longest < 0.05


AUTHORIZATIONS = [
    "Basic \xff",
    "Bearer \xff",
    "Basic =",
    "Basic Zm9v",
    "\xff",
    "Basic",
    "Digest \xff",
]


async def test_any_authorization() -> None:
    """An Authorization header never makes a route crash."""
    async with asking() as ask:
        for value in AUTHORIZATIONS:
            answer = await ask.get("/who", headers={"Authorization": value})
            assert (value, answer.status_code) == (value, 200)


RANGES = [
    ("bytes=0-", 206, b"0123456789"),
    ("bytes=2-3", 206, b"23"),
    ("bytes=8-99", 206, b"89"),
    ("bytes=-3", 206, b"789"),
    ("bytes=-99", 206, b"0123456789"),
    ("bytes=10-", 416, None),
    ("bytes=5-2", 416, None),
    ("bytes=-0", 416, None),
    ("bytes=0-0,2-3", 416, None),
    ("bytes=", 416, None),
]


@pytest.mark.parametrize("kind", ["file", "data"])
async def test_a_part_of_an_answer(kind: str) -> None:
    """A valid range is answered, also one that counts from the end."""
    async with asking() as ask:
        for asked, status, content in RANGES:
            answer = await ask.get(f"/digits/{kind}", headers={"Range": asked})
            assert (asked, answer.status_code) == (asked, status)
            if content is not None:
                assert await answer.get_data() == content
