from __future__ import annotations

import json
import re
import socket
import threading
import tomllib
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import attrs
import pytest
from structlog.testing import capture_logs

import trivet_contrib.webhook
from trivet import (
    ConfigurationError,
    Event,
    EventPlugin,
    Fate,
    SendingEvent,
    current_delivery,
    load_settings,
    open_runtime,
)
from trivet.testing import open_plugins, serving
from trivet_contrib.webhook import Webhook, WebhookError

README = Path(trivet_contrib.webhook.__file__).with_name("README.md").read_text()
NOON = datetime(2025, 1, 31, 12, tzinfo=UTC)


class Greeting(Event):
    text: str


@attrs.frozen
class Request:
    path: str
    headers: dict[str, str]
    document: dict[str, Any]
    connection: int


class Receiver(ThreadingHTTPServer):
    """A real HTTP server that notes every POST, and answers as it is told."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.url = f"http://127.0.0.1:{self.server_port}/hook"
        self.status = 202
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.requests: list[Request] = []


class Answering(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        assert isinstance(self.server, Receiver)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        port: int = self.client_address[1]
        self.server.requests.append(Request(self.path, headers, json.loads(body), port))
        self.server.may_answer.wait()
        self.send_response(self.server.status)
        self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver in a thread of its own, for one test."""
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.may_answer.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port at which nobody listens, and nobody will."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port: int = bound.getsockname()[1]
        yield port


def settings(url: str, **others: object) -> dict[str, dict[str, object]]:
    """What stands in `[plugins.webhook]`."""
    return {"webhook": {"url": url, **others}}


async def test_an_event_is_posted_as_a_structured_cloudevent(receiver: Receiver) -> None:
    """The receiver gets the envelope as attributes and the payload as data, and 202 is handled."""
    async with open_plugins(
        Webhook, settings=settings(receiver.url), event_types=[Greeting], service="shop"
    ) as runtime:
        outcome = await runtime.publish(Greeting("hello"), wait=True, id="g-1", time=NOON)
    assert outcome.fates == {"webhook": Fate.HANDLED}
    (request,) = receiver.requests
    assert request.path == "/hook"
    assert request.headers["content-type"] == "application/cloudevents+json"
    assert request.document == {
        "specversion": "1.0",
        "id": "g-1",
        "source": "shop",
        "type": "greeting",
        "time": "2025-01-31T12:00:00Z",
        "datacontenttype": "application/json",
        "data": {"text": "hello"},
    }


async def test_key_and_trace_context_travel_along(receiver: Receiver) -> None:
    """An event's key and trace context are the extension attributes of those meanings."""
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    async with open_plugins(
        Webhook, settings=settings(receiver.url), event_types=[Greeting]
    ) as runtime:
        await runtime.publish(Greeting("hello"), wait=True, key="k", traceparent=trace)
    document = receiver.requests[0].document
    assert (document["partitionkey"], document["traceparent"]) == ("k", trace)


async def test_events_are_posted_in_order_over_one_connection(receiver: Receiver) -> None:
    """The receiver sees the order of publishing, and the connection is kept alive."""
    texts = [str(number) for number in range(20)]
    async with open_plugins(
        Webhook, settings=settings(receiver.url), event_types=[Greeting]
    ) as runtime:
        for text in texts:
            await runtime.publish(Greeting(text))
    assert [request.document["data"]["text"] for request in receiver.requests] == texts
    assert len({request.connection for request in receiver.requests}) == 1


async def test_the_operators_headers_are_sent(receiver: Receiver) -> None:
    """Headers of the settings accompany each event; the content type stays the document's."""
    headers = {"Authorization": "Bearer s3cret", "content-type": "text/plain"}
    async with open_plugins(
        Webhook, settings=settings(receiver.url, headers=headers), event_types=[Greeting]
    ) as runtime:
        await runtime.publish(Greeting("hello"), wait=True)
    sent = receiver.requests[0].headers
    assert sent["authorization"] == "Bearer s3cret"
    assert sent["content-type"] == "application/cloudevents+json"


@pytest.mark.parametrize("status", [301, 307, 404, 503])
async def test_any_other_answer_fails_that_one_event(receiver: Receiver, status: int) -> None:
    """An answer outside 200 to 299 fails the event; it is not repeated, no redirect is followed,
    and the next event is posted."""
    async with open_plugins(
        Webhook, settings=settings(receiver.url), event_types=[Greeting]
    ) as runtime:
        receiver.status = status
        refused = await runtime.publish(Greeting("refused"), wait=True)
        receiver.status = 204
        taken = await runtime.publish(Greeting("taken"), wait=True)
    assert refused.fates == {"webhook": Fate.FAILED}
    assert taken.fates == {"webhook": Fate.HANDLED}
    assert [request.document["data"]["text"] for request in receiver.requests] == [
        "refused",
        "taken",
    ]


async def test_no_answer_in_time_fails_the_event(receiver: Receiver) -> None:
    """A receiver that keeps silent for longer than `timeout` costs the event."""
    receiver.may_answer.clear()
    with capture_logs() as logs:
        async with open_plugins(
            Webhook, settings=settings(receiver.url, timeout=0.05), event_types=[Greeting]
        ) as runtime:
            outcome = await runtime.publish(Greeting("hello"), wait=True)
    assert outcome.fates == {"webhook": Fate.FAILED}
    assert [str(error) for error in failures(logs)] == ["no answer within 0.05 s"]


async def test_a_receiver_that_is_away_fails_the_event_only(closed_port: int) -> None:
    """The plugin starts without its receiver, and an event that nobody took has failed."""
    with capture_logs() as logs:
        async with open_plugins(
            Webhook,
            settings=settings(f"http://127.0.0.1:{closed_port}/"),
            event_types=[Greeting],
        ) as runtime:
            outcome = await runtime.publish(Greeting("hello"), wait=True)
            assert runtime.hosts["webhook"].status == "running"
    assert outcome.fates == {"webhook": Fate.FAILED}
    (error,) = failures(logs)
    assert str(error).startswith("no answer: ConnectError")


async def test_the_url_stands_in_no_message(receiver: Receiver, closed_port: int) -> None:
    """A secret in the URL is in neither the message of a failed event nor its traceback."""
    with capture_logs() as logs:
        for port in (receiver.server_port, closed_port):
            receiver.status = 500
            url = f"http://user:s3cret@127.0.0.1:{port}/s3cret?token=s3cret"
            async with open_plugins(
                Webhook, settings=settings(url), event_types=[Greeting]
            ) as runtime:
                await runtime.publish(Greeting("hello"), wait=True)
    errors = failures(logs)
    assert len(errors) == 2
    assert "s3cret" not in "".join("".join(traceback.format_exception(each)) for each in errors)
    assert "s3cret" not in repr(logs)


async def test_the_environments_proxy_is_not_used(
    receiver: Receiver, closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events go to the URL of the settings, whatever proxy the environment names."""
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{closed_port}")
    monkeypatch.delenv("NO_PROXY", raising=False)
    async with open_plugins(
        Webhook, settings=settings(receiver.url), event_types=[Greeting]
    ) as runtime:
        outcome = await runtime.publish(Greeting("hello"), wait=True)
    assert outcome.worst is Fate.HANDLED


@pytest.mark.parametrize(
    "url", ["", "example.org/events", "ftp://example.org/", "http://", "http://example.org:port/"]
)
async def test_a_url_that_cannot_be_posted_to_is_refused(url: str) -> None:
    """Anything but an http or https URL is an error of the settings that names the key."""
    with pytest.raises(ConfigurationError, match=r"webhook\S* ?.*url"):
        async with open_plugins(Webhook, settings=settings(url)):
            pass


async def test_the_operator_chooses_the_events(receiver: Receiver) -> None:
    """`events` of the delivery section narrows the webhook to those types."""
    narrowed = settings(receiver.url, delivery={"events": ["greeting"]})
    async with open_plugins(Webhook, settings=narrowed, event_types=[Greeting]) as runtime:
        chosen = await runtime.publish(Greeting("hello"), wait=True)
        other = await runtime.publish(SendingEvent([], "h1", "none", "r", NOON, NOON), wait=True)
    assert chosen.fates == {"webhook": Fate.HANDLED}
    assert other.unrouted


async def test_another_trivet_takes_what_the_webhook_posts() -> None:
    """An event that one program posts to another's `POST /events` arrives as it was published."""
    arrived: list[tuple[Event, str, str, datetime, str | None]] = []

    class Archive(EventPlugin[Greeting]):
        async def handle_event(self, event: Greeting) -> None:
            envelope = current_delivery()
            arrived.append((event, envelope.id, envelope.source, envelope.time, envelope.key))

    async with (
        open_plugins(Archive, event_types=[Greeting]) as receiving,
        serving(receiving) as url,
        open_plugins(
            Webhook,
            settings=settings(f"{url}/events"),
            event_types=[Greeting],
            service="shop",
        ) as sending,
    ):
        event = Greeting("hello")
        outcome = await sending.publish(event, wait=True, id="g-1", time=NOON, key="k")
        assert outcome.fates == {"webhook": Fate.HANDLED}
    assert arrived == [(event, "g-1", "shop", NOON, "k")]


async def test_the_readmes_settings_work(tmp_path: Path) -> None:
    """The README's sample starts the webhook, by its name, with the settings that it shows."""
    sample = code_block("toml")
    (tmp_path / "trivet.toml").write_text(sample)
    async with open_runtime(load_settings(tmp_path / "trivet.toml", environ={})) as runtime:
        plugin = runtime.get(Webhook)
        shown = tomllib.loads(sample)["plugins"]["webhook"]
        assert {"url": plugin.url, "headers": plugin.headers, "timeout": plugin.timeout} == {
            name: value for name, value in shown.items() if name != "delivery"
        }


async def test_the_readmes_document_is_what_a_receiver_gets(receiver: Receiver) -> None:
    """The README's sample document has the attributes of a real one."""
    async with open_plugins(
        Webhook, settings=settings(receiver.url), event_types=[Greeting]
    ) as runtime:
        await runtime.publish(Greeting("hello"), wait=True)
    assert json.loads(code_block("json")).keys() == receiver.requests[0].document.keys()


def code_block(language: str) -> str:
    """The README's only block in this language."""
    (block,) = re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    assert isinstance(block, str)
    return block


def failures(logs: list[Any]) -> list[WebhookError]:
    """The errors with which events have failed, as logged."""
    errors = [entry["exc_info"] for entry in logs if entry["event"] == "event failed"]
    assert all(isinstance(error, WebhookError) for error in errors)
    return errors
