"""The plugins' routes, and the responses to their errors."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import attrs
import pytest
import trio
from quart import Response, abort, request
from trio.testing import MockClock
from werkzeug.exceptions import HTTPException, Unauthorized

from trivet import App, BackgroundPlugin, Handler, Status, SupervisionSettings, create_app, route
from trivet.testing import client, open_plugins


class Teapot(BackgroundPlugin):
    """Routes as authors write them."""

    def __init__(self, app: App) -> None:
        self.cups: list[tuple[str, int]] = []

    @route("/teapot")
    async def tea(self) -> tuple[str, int]:
        return "I am teapot", 418

    @route("/teapot/<kind>/<int:cup>", methods=["GET", "PUT"])
    async def pour(self, kind: str, cup: int) -> dict[str, Any]:
        self.cups.append((kind, cup))
        return {"method": request.method, "kind": kind, "cup": cup}

    @route("/kettle/<name>")
    class Kettle(Handler["Teapot"]):
        """A handler class."""

        async def get(self, name: str) -> str:
            return f"{name} of {self.plugin.name}"

        async def delete(self, name: str) -> tuple[str, int]:
            self.plugin.cups.append((name, 0))
            return "", 204


async def test_routes_are_where_their_authors_put_them() -> None:
    """A method under `@route` answers at its path, with its variables and its methods."""
    async with open_plugins(Teapot) as runtime:
        asking = client(runtime)
        response = await asking.get("/teapot")
        assert response.status_code == 418
        assert await response.get_data(as_text=True) == "I am teapot"
        response = await asking.put("/teapot/green/7")
        assert await response.get_json() == {"method": "PUT", "kind": "green", "cup": 7}
        assert runtime.get(Teapot).cups == [("green", 7)]


async def test_a_handler_class_answers_by_method() -> None:
    """A `Handler` class under `@route` has the plugin, answers what it defines, and HEAD as GET."""
    async with open_plugins(Teapot) as runtime:
        asking = client(runtime)
        assert await (await asking.get("/kettle/big")).get_data(as_text=True) == "big of teapot"
        assert (await asking.delete("/kettle/big")).status_code == 204
        assert runtime.get(Teapot).cups == [("big", 0)]
        assert (await asking.head("/kettle/big")).status_code == 200
        response = await asking.post("/kettle/big")
    assert response.status_code == 405
    assert set(response.headers["Allow"].split(", ")) == {"DELETE", "GET", "HEAD", "OPTIONS"}


async def test_an_unknown_path_is_a_problem_document() -> None:
    """A 404 is JSON after RFC 9457: title, status, detail and Trivet's error code."""
    async with open_plugins(Teapot) as runtime:
        response = await client(runtime).get("/coffee")
    assert response.status_code == 404
    assert response.mimetype == "application/problem+json"
    assert await response.get_json() == {
        "title": "Not Found",
        "status": 404,
        "detail": "nothing is at /coffee",
        "error_code": "unknown_path",
    }


class Frail(BackgroundPlugin):
    """A plugin that runs as often as it is told to, and then fails."""

    supervision = SupervisionSettings(max_restarts=1, backoff_initial=60, backoff_max=60)

    async def run(self) -> None:
        raise OSError("no water")

    @route("/frail")
    async def answer(self) -> str:
        return "running"


async def test_a_plugin_that_backs_off_says_when_to_try_again(autojump_clock: MockClock) -> None:
    """A plugin that backs off answers 503 with the seconds to its restart, and no time once
    failed."""
    async with open_plugins(Frail) as runtime:
        asking = client(runtime)
        await trio.testing.wait_all_tasks_blocked()
        waits = runtime.hosts["frail"].retry_in
        assert waits is not None
        response = await asking.get("/frail")
        assert response.status_code == 503
        assert response.mimetype == "application/problem+json"
        assert waits <= int(response.headers["Retry-After"]) < waits + 1
        problem = await response.get_json()
        assert (problem["error_code"], problem["plugin"]) == ("plugin_unavailable", "frail")
        assert problem["plugin_status"] == "backing_off"

        await runtime.hosts["frail"].wait_for_status(Status.FAILED)
        response = await asking.get("/frail")
    assert response.status_code == 503
    assert "Retry-After" not in response.headers
    assert (await response.get_json())["plugin_status"] == "failed"


@pytest.mark.parametrize("status", [Status.STARTING, Status.STOPPING, Status.STOPPED])
async def test_a_plugin_that_does_not_run(status: Status) -> None:
    """Only the routes of a running plugin are answered by it."""
    async with open_plugins(Teapot) as runtime:
        host = runtime.hosts["teapot"]
        host.status = status
        response = await client(runtime).get("/teapot")
        host.status = Status.RUNNING
    assert response.status_code == 503
    assert "Retry-After" in response.headers


@attrs.define
class FaultError(Exception):
    secret: str


class CalmError(HTTPException):
    code = 420


class Broken(BackgroundPlugin):
    """Everything that can go wrong in an author's route."""

    @route("/crash")
    async def crash(self) -> str:
        raise FaultError("swordfish")

    @route("/group")
    async def group(self) -> str:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.crash)
            nursery.start_soon(self.crash)
        return "unreachable"

    @route("/none")
    async def nothing(self) -> None:
        """A handler without a return value."""

    @route("/abort/<int:status>")
    async def abort(self, status: int) -> str:
        abort(status, "because")

    @route("/abort-in-a-nursery")
    async def abort_in_a_nursery(self) -> str:
        async with trio.open_nursery():
            abort(409)

    @route("/invented")
    async def invented(self) -> str:
        raise CalmError("later")

    @route("/own")
    async def own(self) -> tuple[str, int]:
        return "<h1>gone</h1>", 410

    @route("/own-response")
    async def own_response(self) -> str:
        raise Unauthorized(response=Response("who?", 401))

    @route("/stream")
    async def stream(self) -> Response:
        return Response(Pieces())

    @route("/body", methods=["POST"])
    async def body(self) -> dict[str, Any]:
        return {"length": len(await request.get_data())}


class Pieces:
    """A body that breaks after its first piece."""

    def __init__(self) -> None:
        self._pieces = iter([b"one"])

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        for piece in self._pieces:
            return piece
        raise FaultError("swordfish")


@pytest.mark.parametrize("path", ["/crash", "/group", "/none"])
@pytest.mark.parametrize(
    "config", [{}, {"TESTING": True}, {"DEBUG": True}, {"PROPAGATE_EXCEPTIONS": True}], ids=str
)
async def test_a_crash_tells_the_client_nothing(path: str, config: Mapping[str, bool]) -> None:
    """A crash is a JSON 500 whatever Quart's settings say, without a word of the traceback."""
    async with open_plugins(Broken) as runtime:
        app = create_app(runtime)
        for key, value in config.items():
            app.config[key] = value
        response = await app.test_client().get(path)
    assert response.status_code == 500
    assert response.mimetype == "application/problem+json"
    assert await response.get_json() == {
        "title": "Internal Server Error",
        "status": 500,
        "detail": "the handler crashed",
        "error_code": "internal_error",
    }


@pytest.mark.parametrize(("path", "count"), [("/crash", 1), ("/group", 2)])
async def test_a_crash_is_logged_whole(
    path: str, count: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """The log of a crash has the request's id, the plugin, the route, and every exception."""
    async with open_plugins(Broken) as runtime:
        headers = {"Luna-Request-Id": "1700000000,abc"}
        await client(runtime).get(path, headers=headers)
    log = capsys.readouterr().out
    assert log.count("FaultError: swordfish") >= count
    for fact in ("handler crashed", "1700000000,abc", "broken", f"GET:{path}"):
        assert fact in log


@pytest.mark.parametrize("status", [400, 404, 413, 418, 503])
async def test_an_abort_of_an_author(status: int) -> None:
    """An author's `abort` is a problem document with its status and description."""
    async with open_plugins(Broken) as runtime:
        response = await client(runtime).get(f"/abort/{status}")
    assert response.status_code == status
    assert response.mimetype == "application/problem+json"
    problem = await response.get_json()
    assert problem["status"] == status
    assert problem["error_code"] == f"http_{status}"
    assert problem["detail"] == "because"


async def test_a_status_of_an_authors_own_invention() -> None:
    """A status without a phrase is a problem document all the same."""
    async with open_plugins(Broken) as runtime:
        response = await client(runtime).get("/invented")
    assert response.status_code == 420
    assert await response.get_json() == {
        "title": "Error",
        "status": 420,
        "detail": "later",
        "error_code": "http_420",
    }


async def test_an_abort_from_within_a_nursery() -> None:
    """An author's `abort` in a nursery is answered as any other, and is no crash."""
    async with open_plugins(Broken) as runtime:
        response = await client(runtime).get("/abort-in-a-nursery")
    assert response.status_code == 409
    assert (await response.get_json())["error_code"] == "http_409"


async def test_a_response_of_an_author_is_left_alone() -> None:
    """A response of the author's own, returned or raised, is sent as it is, failure or not."""
    async with open_plugins(Broken) as runtime:
        response = await client(runtime).get("/own")
        assert (response.status_code, response.mimetype) == (410, "text/html")
        assert await response.get_data(as_text=True) == "<h1>gone</h1>"
        response = await client(runtime).get("/own-response")
        assert (response.status_code, response.mimetype) == (401, "text/html")
        assert await response.get_data(as_text=True) == "who?"


async def test_a_response_that_breaks_off() -> None:
    """A crash after the beginning of a response is passed on, so that the server closes the
    connection."""
    async with open_plugins(Broken) as runtime:
        with pytest.RaisesGroup(FaultError, flatten_subgroups=True):
            await client(runtime).get("/stream")


async def test_an_authors_body_is_limited_too() -> None:
    """A body of more than `max_body` bytes is 413 in a plugin's route as well."""
    async with open_plugins(Broken, max_body=10) as runtime:
        asking = client(runtime)
        response = await asking.post("/body", data=b"0123456789")
        assert await response.get_json() == {"length": 10}
        response = await asking.post("/body", data=b"0123456789.")
    assert response.status_code == 413
    assert (await response.get_json())["error_code"] == "http_413"
