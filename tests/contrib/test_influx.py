from __future__ import annotations

import base64
import gzip
import json
import math
import re
import socket
import threading
import tomllib
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

import attrs
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from influxdb_client.client.write.point import (  # pyright: ignore[reportMissingTypeStubs]
    Point as OfficialPoint,
)
from line_protocol_parser import (  # pyright: ignore[reportMissingTypeStubs]
    parse_line,  # pyright: ignore[reportUnknownVariableType]
)
from structlog.testing import capture_logs

import trivet_contrib.influx
from trivet import (
    ConfigurationError,
    Delivery,
    Event,
    Fate,
    MonitoringEvent,
    MonitoringPoint,
    Runtime,
    StartError,
    load_settings,
    open_runtime,
)
from trivet.testing import open_plugins
from trivet_contrib._http._answers import reason_in, redacted
from trivet_contrib._http._sink import SinkError, SinkRefusedError
from trivet_contrib.influx import Influx
from trivet_contrib.influx._lines import MOST, PointError, Value, to_line

from .suite import revealed, until_handled, until_trouble

pytestmark = pytest.mark.real_time

README = Path(trivet_contrib.influx.__file__).with_name("README.md").read_text()
NOON = datetime(2025, 1, 31, 12, tzinfo=UTC)
NANOSECONDS = 1738324800_000_000_000


def parsed(line: str) -> dict[str, Any]:
    """A line as the parser reads it."""
    parse: Any = parse_line  # pyright: ignore[reportUnknownVariableType]
    return cast("dict[str, Any]", parse(line))


@attrs.frozen
class Request:
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    text: str

    @property
    def points(self) -> list[dict[str, Any]]:
        return [parsed(line) for line in self.text.splitlines()]

    @property
    def values(self) -> list[Any]:
        return [point["fields"]["value"] for point in self.points]


class Store(ThreadingHTTPServer):
    """A stand-in for InfluxDB that takes all lines of a request or none, and notes them."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.status = 204
        self.first: list[int] = []  # Statuses of the first answers, before that one.
        self.answer: dict[str, str] = {}
        self.said = b""
        self.bad = "nothing is bad"
        """A text that no line may contain."""
        self.most = 1000
        """Lines of a request, at most."""
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.requests: list[Request] = []

    @property
    def taken(self) -> list[Any]:
        """The values that were written, of the requests that were not refused."""
        return [value for request in self.requests for value in request.values]


class Answering(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        assert isinstance(self.server, Store)
        server = self.server
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        url = urlsplit(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        request = Request(url.path, query, headers, body.decode())
        server.may_answer.wait()
        status = server.first.pop(0) if server.first and body else server.status
        said = server.said
        if status == 204 and len(request.points) > server.most:
            status = 413
        if status == 204 and server.bad in request.text:
            status, said = 422, b'{"code": "invalid", "message": "field type conflict"}'
        if body:  # A request without points asks whether the sender may write.
            server.requests.append(request if status == 204 else attrs.evolve(request, text=""))
        self.send_response(status)
        for name, value in server.answer.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(said) if status != 204 else 0))
        self.end_headers()
        if status != 204:
            self.wfile.write(said)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def store() -> Iterator[Store]:
    """A store in a thread of its own, for one test."""
    with Store() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.may_answer.set()
        server.shutdown()
        thread.join()


def settings(store: Store, **others: object) -> dict[str, dict[str, Any]]:
    """The settings in `[plugins.influx]`, for version 2."""
    table = {"url": store.url, "bucket": "b", "org": "o", "token": "s3cret"}
    return {"influx": {**table, "delivery": batches(100), **others}}


def batches(size: int, **delivery: object) -> dict[str, object]:
    """A delivery section."""
    return {"batch_size": size, "batch_age": 0.05, **delivery}


RETRY = {"retry": True, "retry_initial": 0}


def measured(value: Value, **tags: Value) -> MonitoringEvent:
    """An event with one point."""
    return MonitoringEvent([MonitoringPoint("requests", NOON, tags, {"value": value})])


async def publish(runtime: Runtime, *values: Value) -> list[Fate | None]:
    """Publish an event for each value, and wait for their ends; returns their fates."""
    deliveries = [Delivery[Event].of(measured(value)) for value in values]
    outcomes = await runtime.publish_many(deliveries, wait=True)
    return [outcome.fates.get("influx") for outcome in outcomes]


# Lines.


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def nanoseconds(time: datetime) -> int:
    """Nanoseconds since 1970."""
    return (time - EPOCH) // timedelta(microseconds=1) * 1000


NAMES = st.text(min_size=1)
FIELDS = st.dictionaries(
    NAMES,
    st.one_of(
        st.text(),
        st.booleans(),
        st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=False),
        st.integers(-(2**63), 2**63 - 1),
    ),
    min_size=1,
)
TIMES = st.integers(-9 * 10**15, 9 * 10**15).map(
    lambda microseconds: EPOCH + timedelta(microseconds=microseconds)
)
UNSAID = {"\n": r"\n", "\r": r"\r", "\t": r"\t", "\0": r"\0"}


def as_written(text: str, special: str | None = None) -> str:
    """A text as it is read back, with the replacements that the README names."""
    if special is not None:
        characters = list(text)
        for place in reversed(range(len(text))):
            follows = text[place + 1] if place + 1 < len(text) else ""
            ambiguous = not follows or follows in special or follows in UNSAID
            if text[place] == "\\" and (ambiguous or characters[place + 1] == "/" != follows):
                characters[place] = "/"
        text = "".join(characters)
    for character, words in UNSAID.items():
        text = text.replace(character, words)
    return text


@given(NAMES, st.dictionaries(NAMES, st.text()), FIELDS, TIMES)
@example("a\\", {"b\\": "c\\", "d\\,": "e\\ \\="}, {"f\\": "g\\"}, NOON)
@example("a\\\\ ", {"\\\\\n": "\\\\"}, {"\\=": '"\\n\n"'}, NOON)
def test_written_points_are_read_back(
    series: str, tags: dict[str, str], fields: dict[str, Value], time: datetime
) -> None:
    """Names, tags, strings, numbers and times come out of a parser as they went in."""
    assume(not series.startswith("#"))
    line = to_line(MonitoringPoint(series, time, dict(tags), fields), {})
    read = parsed(line)
    assert read["measurement"] == as_written(series, ", ")
    assert read["tags"] == {
        as_written(name, ",= "): as_written(value, ",= ") for name, value in tags.items() if value
    }
    assert read["fields"] == {
        as_written(name, ",= "): as_written(value) if isinstance(value, str) else value
        for name, value in fields.items()
    }
    assert {type(value) for value in read["fields"].values()} == {
        type(value) for value in fields.values()
    }
    assert read["time"] == nanoseconds(time)


NOT_PLAIN = "\\\n\r\t\0\x0b\x0c#"
PLAIN = st.text(st.characters(exclude_characters=NOT_PLAIN, exclude_categories=["C"]), min_size=1)
STRINGS = st.text(st.characters(exclude_characters="\n\r\t\0", exclude_categories=["Cs"]))


@given(
    PLAIN,
    st.dictionaries(PLAIN, PLAIN),
    st.dictionaries(PLAIN, st.one_of(STRINGS, st.booleans(), st.integers(-9, 9)), min_size=1),
    TIMES,
)
def test_lines_are_those_of_the_official_client(
    series: str, tags: dict[str, str], fields: dict[str, Value], time: datetime
) -> None:
    """A point is written as InfluxData's own serializer writes it."""
    create: Any = OfficialPoint
    official = create(series)
    for name, tag in tags.items():
        official.tag(name, tag)
    for name, value in fields.items():
        official.field(name, value)
    official.time(nanoseconds(time))
    ordered = dict(sorted(fields.items()))
    line = to_line(MonitoringPoint(series, time, dict(tags), ordered), {})
    assert line == official.to_line_protocol()


@given(
    st.text(),
    st.dictionaries(st.text(), st.text()),
    st.dictionaries(st.text(), st.text() | st.floats()),
)
def test_a_line_is_one_line(series: str, tags: dict[str, str], fields: dict[str, Any]) -> None:
    """Any point is one line, or is refused: no content can begin a second line."""
    try:
        line = to_line(MonitoringPoint(series, NOON, dict(tags), fields), {})
    except PointError:
        return
    assert not re.search(r"[\n\r\0]", line)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (1, "1i"),
        (1.0, "1.0"),
        (1e300, "1e+300"),
        (True, "true"),
        ("a", '"a"'),
        (MOST, f"{MOST}i"),
        (MOST + 1, "9.223372036854776e+18"),
    ],
)
def test_a_value_keeps_its_type(value: Value, written: str) -> None:
    """A value is written in its own type, but for an integer too large for InfluxDB, a float."""
    line = to_line(MonitoringPoint("s", NOON, {}, {"f": value}), {})
    assert line == f"s f={written} {NANOSECONDS}"


def test_fields_that_are_no_numbers_are_left_out() -> None:
    """Fields that are not finite numbers, and tags without a value, are left out."""
    fields: dict[str, Value] = {"a": math.nan, "b": -math.inf, "c": 10**400, "": 1, "d": 1.5}
    line = to_line(MonitoringPoint("s", NOON, {"empty": "", "": "x", "t": 0}, fields), {"h": "w"})
    assert line == f"s,h=w,t=0 d=1.5 {NANOSECONDS}"


def test_a_points_own_tag_comes_first() -> None:
    """An operator's tag does not replace a point's own tag."""
    point = MonitoringPoint("s", NOON, {"host": "own"}, {"f": 1})
    line = to_line(point, {"host": "web-1", "a": "b"})
    assert line.startswith("s,a=b,host=own ")


@pytest.mark.parametrize(
    "point",
    [
        MonitoringPoint("", NOON, {}, {"f": 1}),
        MonitoringPoint("#s", NOON, {}, {"f": 1}),
        MonitoringPoint("s", NOON, {}, {}),
        MonitoringPoint("s", NOON, {}, {"f": math.nan}),
        MonitoringPoint("s", datetime(1066, 10, 14, tzinfo=UTC), {}, {"f": 1}),
        MonitoringPoint("s", datetime(2300, 1, 1, tzinfo=UTC), {}, {"f": 1}),
    ],
)
def test_a_point_that_cannot_be_said_is_refused(point: MonitoringPoint) -> None:
    """A point that cannot be written is refused, and not written as something else."""
    with pytest.raises(PointError):
        to_line(point, {})


def test_a_time_has_its_offset() -> None:
    """A time with any UTC offset is written as its moment."""
    time = datetime(2025, 1, 31, 14, tzinfo=timezone(timedelta(hours=2)))
    assert to_line(MonitoringPoint("s", time, {}, {"f": 1}), {}).endswith(f" {NANOSECONDS}")


# Requests.


@pytest.mark.parametrize("compressed", [True, False])
async def test_points_are_written_by_version_2(store: Store, compressed: bool) -> None:
    """A batch is one request with the bucket, the organization and the token."""
    writing = settings(store, gzip=compressed, tags={"host": "w"}, delivery=batches(2))
    async with open_plugins(Influx, settings=writing) as runtime:
        assert await publish(runtime, 1, 2) == [Fate.HANDLED] * 2
        event = MonitoringEvent(
            [MonitoringPoint("a", NOON, {"x": "y"}, {"value": value}) for value in (3, 4)]
        )
        await runtime.publish(event, wait=True)
    first, second = store.requests
    assert first.path == "/api/v2/write"
    assert first.query == {"bucket": "b", "org": "o", "precision": "ns"}
    assert first.headers["authorization"] == "Token s3cret"
    assert first.headers.get("content-encoding") == ("gzip" if compressed else None)
    assert (first.values, second.values) == ([1, 2], [3, 4])
    assert second.points[0] == {
        "measurement": "a",
        "tags": {"host": "w", "x": "y"},
        "fields": {"value": 3},
        "time": NANOSECONDS,
    }


async def test_points_are_written_by_version_1(store: Store) -> None:
    """A request names the database and the retention policy, and has the password in a header."""
    table = {"url": f"{store.url}/below", "database": "d", "retention_policy": "week"}
    login = {"username": "u", "password": "s3cret"}
    async with open_plugins(Influx, settings={"influx": table | login}) as runtime:
        await publish(runtime, 1)
    (request,) = store.requests
    assert request.path == "/below/write"
    assert request.query == {"db": "d", "rp": "week", "precision": "ns"}
    assert request.headers["authorization"] == f"Basic {base64.b64encode(b'u:s3cret').decode()}"
    assert request.values == [1]


async def test_an_event_without_points_is_no_request(store: Store) -> None:
    """An event without points makes no request."""
    async with open_plugins(Influx, settings=settings(store)) as runtime:
        outcome = await runtime.publish(MonitoringEvent([]), wait=True)
    assert outcome.fates == {"influx": Fate.HANDLED}
    assert store.requests == []


async def test_the_stop_writes_the_rest(store: Store) -> None:
    """A batch that is not full is written at the stop."""
    writing = settings(store, delivery={"batch_size": 100, "batch_age": 3600.0})
    async with open_plugins(Influx, settings=writing) as runtime:
        for value in range(3):
            await runtime.publish(measured(value))
    assert [request.values for request in store.requests] == [[0, 1, 2]]


# Answers.


@pytest.mark.parametrize("status", [408, 429, 500, 503])
async def test_a_temporary_failure_is_tried_again(store: Store, status: int) -> None:
    """A failed batch is tried again by the runtime's policy, until InfluxDB takes it."""
    store.first = [status, status]
    writing = settings(store, delivery=batches(1, **RETRY))
    async with open_plugins(Influx, settings=writing) as runtime:
        assert await publish(runtime, 1) == [Fate.HANDLED]
    assert len(store.requests) == 3
    assert store.taken == [1]


@pytest.mark.parametrize(
    ("status", "version", "named"),
    [
        (401, 2, "`token`"),
        (403, 2, "`token`"),
        (404, 2, "`url`, `bucket` and `org`"),
        (401, 1, "`username` and `password`"),
        (404, 1, "`url` and `database`"),
        (302, 1, "`url`"),
    ],
)
async def test_settings_that_are_wrong_are_named(
    store: Store, status: int, version: int, named: str
) -> None:
    """Wrong credentials are an error at the start; later the points wait, and the status names
    the settings."""
    writing = settings(store, delivery=batches(2, **RETRY))
    if version == 1:
        url, delivery = store.url, batches(2, **RETRY)
        writing = {"influx": {"url": url, "database": "d", "delivery": delivery}}
    store.status = status
    with pytest.raises(StartError, match=rf"plugins\.influx: .* {status} \(see {named} of"):
        async with open_plugins(Influx, settings=writing):
            pass
    store.status = 204
    async with open_plugins(Influx, settings=writing) as runtime:
        store.status = status
        for value in (1, 2):
            await runtime.publish(measured(value))
        host = runtime.hosts["influx"]
        await until_trouble(runtime, "influx", f"{status}")
        assert host.trouble == f"InfluxDB answered {status} (see {named} of 'influx')"
        store.status = 204
        await until_handled(runtime, "influx", 2)
        assert host.trouble is None
    assert store.taken == [1, 2]


@pytest.mark.parametrize("status", [200, 202])
async def test_an_answer_of_another_server(store: Store, status: int) -> None:
    """Only 204 means that points are written; after another good status they wait."""
    async with open_plugins(
        Influx, settings=settings(store, delivery=batches(100, **RETRY))
    ) as runtime:
        store.status = status
        await runtime.publish(measured(1))
        await until_trouble(runtime, "influx", f"answered {status}")
        assert runtime.statistics()["influx"].handled == 0
        store.status = 204
        await until_handled(runtime, "influx", 1)


@pytest.mark.parametrize("status", [400, 500])
async def test_a_start_asks_only_whether_one_may_write(store: Store, status: int) -> None:
    """Other answers to a request without points do not keep the plugin from starting."""
    store.status = status
    async with open_plugins(Influx, settings=settings(store)) as runtime:
        store.status = 204
        assert await publish(runtime, 1) == [Fate.HANDLED]


async def test_a_point_that_is_refused_costs_nobody_else(store: Store) -> None:
    """A refused batch is halved until the refused event is found, and the others are written."""
    store.bad = "value=5i"
    writing = settings(store, delivery=batches(8, **RETRY))
    with capture_logs() as logs:
        async with open_plugins(Influx, settings=writing) as runtime:
            fates = await publish(runtime, *range(8))
            assert runtime.hosts["influx"].trouble is None
    assert fates == [Fate.FAILED if value == 5 else Fate.HANDLED for value in range(8)]
    assert store.taken == [0, 1, 2, 3, 4, 6, 7]
    assert len(store.requests) == 7
    assert messages(logs) == ["InfluxDB answered 422: field type conflict"]


async def test_a_batch_that_is_too_large_is_halved(store: Store) -> None:
    """A batch that is answered 413 is halved until all its points are written."""
    store.most = 3
    async with open_plugins(Influx, settings=settings(store, delivery=batches(8))) as runtime:
        assert await publish(runtime, *range(8)) == [Fate.HANDLED] * 8
    assert store.taken == list(range(8))


async def test_a_point_that_cannot_be_said_costs_nobody_else(store: Store) -> None:
    """An event that cannot be written is refused before the request, and the others are written."""
    writing = settings(store, delivery=batches(3))
    with capture_logs() as logs:
        async with open_plugins(Influx, settings=writing) as runtime:
            assert await publish(runtime, 1, math.nan, 3) == [
                Fate.HANDLED,
                Fate.FAILED,
                Fate.HANDLED,
            ]
    assert store.taken == [1, 3]
    (error,) = failures(logs)
    assert isinstance(error, SinkRefusedError)


async def test_written_events_are_not_tried_again(store: Store) -> None:
    """Only the rest of a batch that fails half way is tried again."""
    store.first = [400, 204, 503]
    writing = settings(store, delivery=batches(2, **RETRY))
    async with open_plugins(Influx, settings=writing) as runtime:
        assert await publish(runtime, 1, 2) == [Fate.HANDLED] * 2
    assert store.taken == [1, 2]


async def test_no_answer_in_time_is_a_failure(store: Store) -> None:
    """A server that keeps silent for longer than `timeout` costs an attempt."""
    with capture_logs() as logs:
        async with open_plugins(Influx, settings=settings(store, timeout=0.05)) as runtime:
            store.may_answer.clear()
            assert await publish(runtime, 1) == [Fate.FAILED]
            assert runtime.hosts["influx"].trouble == "no answer within 0.05 s"
    assert messages(logs) == ["no answer within 0.05 s"]


async def test_a_server_that_is_away_fails_the_event_only() -> None:
    """The plugin starts without InfluxDB, and says so before there are points."""
    with socket.socket() as bound, capture_logs() as logs:
        bound.bind(("127.0.0.1", 0))  # A bound port without a listener.
        table = {"url": f"http://127.0.0.1:{bound.getsockname()[1]}", "database": "d"}
        async with open_plugins(Influx, settings={"influx": table}) as runtime:
            host = runtime.hosts["influx"]
            assert host.trouble is not None
            assert host.trouble.startswith("InfluxDB is unavailable: ConnectError")
            assert await publish(runtime, 1) == [Fate.FAILED]
            assert host.restarts == 0
    assert messages(logs)[0].startswith("no answer: ConnectError")


@pytest.mark.parametrize(
    "said",
    [b'{"message": "no s3cret here"}', b'{"error": "\\u001b[31ms3cret\\n"}', b"s3cret"],
)
async def test_no_message_has_the_credentials(store: Store, said: bytes) -> None:
    """A secret is not logged, even if the server repeats it."""
    store.said = said
    with capture_logs() as logs:
        async with open_plugins(Influx, settings=settings(store)) as runtime:
            store.status = 401
            await publish(runtime, 1)
            text = repr(runtime.get(Influx))
    (error,) = failures(logs)
    told = "".join(traceback.format_exception(error)) + repr(logs) + text
    assert "s3cret" not in told
    assert "\x1b" not in told


@given(st.binary())
def test_any_answer_is_a_line(body: bytes) -> None:
    """A server's reason becomes one line of bounded length."""
    assert re.fullmatch(r"[^\x00-\x1f\x7f-\x9f]{0,300}", redacted(reason_in(body), []))


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"code": "invalid", "message": "no bucket"}, "no bucket"),
        ({"error": "database not found"}, "database not found"),
        ("text", "text"),
        ([1], ""),
        ({"message": 1}, ""),
    ],
)
def test_the_reason_is_found(body: object, reason: str) -> None:
    """The reason is found in answers of version 2 and of version 1."""
    assert reason_in(json.dumps(body).encode()) == reason


# Settings.


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({}, "bucket: set either this"),
        ({"bucket": "b", "database": "d"}, "bucket: set either this"),
        ({"database": "d", "password": "s3cret"}, "password: it has no effect without `username`"),
        ({"database": "d", "token": "s3cret"}, "token: it has no effect without `bucket`"),
        ({"bucket": "b", "username": "u"}, "username: it has no effect without `database`"),
        ({"bucket": "", "token": "t"}, "bucket: "),
        ({"bucket": "b", "token": "s3cret\n"}, "token: a token has neither spaces"),
        ({"database": "d", "username": "a:b"}, "username: a user's name"),
        ({"bucket": "b", "url": "ftp://h"}, "url: an http or https URL"),
        ({"bucket": "b", "url": "http://u:s3cret@h"}, "url: credentials belong in"),
        ({"bucket": "b", "url": "http://h?token=s3cret"}, "url: credentials belong in"),
        ({"bucket": "b", "timeout": 0}, "timeout: "),
    ],
)
async def test_settings_that_cannot_be_meant_are_refused(table: dict[str, Any], said: str) -> None:
    """A wrong setting is an error with its name, and without a possible secret."""
    refused = {"influx": {"url": "http://127.0.0.1:1", **table}}
    with pytest.raises(ConfigurationError) as caught:
        async with open_plugins(Influx, settings=refused):
            pass
    assert str(caught.value).startswith(f"plugins.influx.{said}")
    assert "s3cret" not in str(caught.value)


def code_blocks(language: str) -> list[str]:
    """The README's blocks in this language."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("sample", code_blocks("toml"), ids=["version 2", "version 1"])
async def test_the_readmes_settings_work(tmp_path: Path, sample: str) -> None:
    """The README's samples start the plugin, by its name, with the settings that they show."""
    shown = tomllib.loads(sample)["plugins"]["influx"]
    active = "" if "active_plugins" in sample else 'active_plugins = ["influx"]\n'
    (tmp_path / "trivet.toml").write_text(active + sample)
    async with open_runtime(load_settings(tmp_path / "trivet.toml", environ={})) as runtime:
        plugin = runtime.get(Influx)
        for name in shown.keys() - {"delivery"}:
            assert revealed(getattr(plugin, name)) == shown[name]


def test_the_readmes_line_is_one() -> None:
    """The README's sample line is the line of such a point."""
    (block,) = re.findall(r"^requests,.*$", README, re.MULTILINE)
    tags: dict[str, Value] = {"service": "shop", "route": "GET:/teapot", "status_code": 418}
    point = MonitoringPoint("requests", NOON, tags, {"execution_time": 0.0042})
    assert to_line(point, {"host": "web-1"}) == block


def failures(logs: list[Any]) -> list[SinkError]:
    """The errors with which events have failed, as logged."""
    return [entry["exc_info"] for entry in logs if entry["event"] == "event failed"]


def messages(logs: list[Any]) -> list[str]:
    """The texts of those errors."""
    return [str(error) for error in failures(logs)]
