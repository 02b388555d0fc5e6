from __future__ import annotations

import base64
import json
import re
import socket
import ssl
import threading
import tomllib
import traceback
from collections.abc import AsyncGenerator, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address, ip_network
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import attrs
import pytest
import standardwebhooks
import trio
import trustme
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

import trivet_contrib.webhook
from trivet import (
    ConfigurationError,
    Delivery,
    Event,
    EventPlugin,
    Fate,
    SendingEvent,
    StartError,
    current_delivery,
    load_settings,
    open_runtime,
)
from trivet.testing import open_plugins, serving
from trivet_contrib._http._answers import retry_after
from trivet_contrib._http._sink import SinkError, SinkRefusedError
from trivet_contrib.webhook import Webhook
from trivet_contrib.webhook._addresses import is_allowed, is_public
from trivet_contrib.webhook._signature import message_id

from .suite import revealed, until_handled

pytestmark = pytest.mark.real_time

README = Path(trivet_contrib.webhook.__file__).with_name("README.md").read_text()
NOON = datetime(2025, 1, 31, 12, tzinfo=UTC)


class Greeting(Event):
    text: str


class Measured(Event):
    value: Any


@attrs.frozen
class Request:
    path: str
    headers: dict[str, str]
    body: bytes
    connection: int
    at: float
    """The time of its arrival, in seconds."""

    @property
    def document(self) -> Any:
        return json.loads(self.body)


class Receiver(ThreadingHTTPServer):
    """A real HTTP server that notes every POST, and answers as the test says."""

    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.url = f"http://127.0.0.1:{self.server_port}/hook"
        self.status = 202
        self.first: list[int] = []  # Statuses of the first answers, before that one.
        self.answer: dict[str, str] = {"Location": "/elsewhere"}
        self.said = b""
        self.bad = b"nothing is bad"
        """Requests that it answers with 500."""
        self.unheard = b"nothing is unheard"
        """Requests that it does not answer."""
        self.has_ended = threading.Event()
        self.waits: list[str] = []  # `Retry-After` of the first answers.
        self.delays: list[float] = []  # Seconds before the first answers.
        self.promised: int | None = None
        """The length that it gives for a body."""
        self.hangs = False
        """Whether the receiver keeps the connection open after an incomplete body."""
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
        self.server.requests.append(Request(self.path, headers, body, port, monotonic()))
        self.server.may_answer.wait()
        if self.server.unheard in body:
            self.close_connection = True
            if self.server.hangs:
                self.server.has_ended.wait()
            return
        sleep(self.server.delays.pop(0) if self.server.delays else 0)
        status = self.server.first.pop(0) if self.server.first else self.server.status
        self.send_response(500 if self.server.bad in body else status)
        for name, value in self.server.answer.items():
            self.send_header(name, value)
        if self.server.waits:
            self.send_header("Retry-After", self.server.waits.pop(0))
        said, promised = self.server.said, self.server.promised
        self.send_header("Content-Length", str(len(said) if promised is None else promised))
        self.end_headers()
        self.wfile.write(said)
        if promised is not None:
            self.close_connection = True
            if self.server.hangs:
                self.server.may_answer.clear()
                self.server.may_answer.wait()

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
        server.has_ended.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port that never has a listener."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port: int = bound.getsockname()[1]
        yield port


@pytest.fixture
async def resolver() -> AsyncGenerator[Resolver]:
    """The addresses of names, for one test."""
    resolver = Resolver()
    previous = trio.socket.set_custom_hostname_resolver(resolver)
    yield resolver
    trio.socket.set_custom_hostname_resolver(previous)


class Resolver(trio.abc.HostnameResolver):
    """A list of answers, given one after the other; the last one is repeated."""

    def __init__(self) -> None:
        self.answers: list[list[str]] = []
        self.asked: list[str] = []

    async def getaddrinfo(
        self,
        host: bytes | None,
        port: bytes | str | int | None,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> list[Any]:
        assert host is not None
        await trio.lowlevel.checkpoint()
        self.asked.append(host.decode())
        addresses = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if not addresses:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [
            (socket.AF_INET6 if ":" in each else socket.AF_INET, type, 6, "", (each, port))
            for each in addresses
        ]

    async def getnameinfo(self, sockaddr: Any, flags: int) -> tuple[str, str]:
        raise NotImplementedError


def settings(url: str, **others: object) -> dict[str, dict[str, object]]:
    """The settings in `[plugins.webhook]`."""
    return {"webhook": {"url": url, "allowed_networks": ["127.0.0.0/8"], **others}}


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
    """An event's key and trace context become the extension attributes for them."""
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    async with open_plugins(
        Webhook, settings=settings(receiver.url), event_types=[Greeting]
    ) as runtime:
        await runtime.publish(Greeting("hello"), wait=True, key="k", traceparent=trace)
    document = receiver.requests[0].document
    assert (document["partitionkey"], document["traceparent"]) == ("k", trace)


async def test_events_are_posted_in_order_over_one_connection(receiver: Receiver) -> None:
    """Events arrive in the order of publishing, over one connection."""
    texts = [str(number) for number in range(20)]
    async with open_plugins(
        Webhook, settings=settings(receiver.url), event_types=[Greeting]
    ) as runtime:
        for text in texts:
            await runtime.publish(Greeting(text))
    assert [request.document["data"]["text"] for request in receiver.requests] == texts
    assert len({request.connection for request in receiver.requests}) == 1


async def test_the_operators_headers_are_sent(receiver: Receiver) -> None:
    """The settings' headers accompany each event."""
    headers = {"Authorization": "Bearer s3cret"}
    async with open_plugins(
        Webhook, settings=settings(receiver.url, headers=headers), event_types=[Greeting]
    ) as runtime:
        await runtime.publish(Greeting("hello"), wait=True)
    sent = receiver.requests[0].headers
    assert sent["authorization"] == "Bearer s3cret"
    assert sent["content-type"] == "application/cloudevents+json"


async def test_a_login_in_the_url_is_sent_in_a_header(receiver: Receiver) -> None:
    """The name and the password are as they were before they were written in a URL."""
    url = receiver.url.replace("http://", "http://shop:s%403cret@")
    async with open_plugins(Webhook, settings=settings(url), event_types=[Greeting]) as runtime:
        await runtime.publish(Greeting("hello"), wait=True)
    sent = receiver.requests[0].headers
    assert sent["authorization"] == f"Basic {base64.b64encode(b'shop:s@3cret').decode()}"
    assert sent["host"] == receiver.url.removeprefix("http://").removesuffix("/hook")


async def test_requests_have_nothing_of_earlier_answers(receiver: Receiver) -> None:
    """A cookie of the receiver is not sent back; each request has its own length."""
    receiver.answer = {"Set-Cookie": "session=1"}
    texts = ["hello", "hello, world"]
    async with open_plugins(
        Webhook, settings=settings(receiver.url), event_types=[Greeting]
    ) as runtime:
        for text in texts:
            await runtime.publish(Greeting(text), wait=True)
    assert [request.document["data"]["text"] for request in receiver.requests] == texts
    assert not any("cookie" in request.headers for request in receiver.requests)


@pytest.mark.parametrize("status", [301, 307, 404, 503])
async def test_any_other_answer_fails_that_one_event(receiver: Receiver, status: int) -> None:
    """An answer outside 200 to 299 fails the event, without a retry and without a redirect, and
    the next event is posted."""
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
    """The plugin starts without its receiver, and an event without an answer has failed."""
    with capture_logs() as logs:
        async with open_plugins(
            Webhook,
            settings=settings(f"http://127.0.0.1:{closed_port}/"),
            event_types=[Greeting],
        ) as runtime:
            outcome = await runtime.publish(Greeting("hello"), wait=True)
            host = runtime.hosts["webhook"]
            assert (host.status, host.restarts) == ("degraded", 0)
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
    "url",
    [
        "",
        "example.org/events",
        "ftp://example.org/",
        "http://",
        "http://example.org:port/",
        "http://0177.0.0.1/",
        "http://example.org:99999/",
    ],
)
async def test_a_url_that_cannot_be_posted_to_is_refused(url: str) -> None:
    """A URL other than http or https is an error of the settings that names the key."""
    with pytest.raises(ConfigurationError, match=r"webhook\S* ?.*url"):
        async with open_plugins(Webhook, settings=settings(url)):
            pass


async def test_the_operator_chooses_the_events(receiver: Receiver) -> None:
    """The delivery section's `events` narrows the webhook to those types."""
    narrowed = settings(receiver.url, delivery={"events": ["greeting"]})
    async with open_plugins(Webhook, settings=narrowed, event_types=[Greeting]) as runtime:
        chosen = await runtime.publish(Greeting("hello"), wait=True)
        other = await runtime.publish(SendingEvent([], "h1", "none", "r", NOON, NOON), wait=True)
    assert chosen.fates == {"webhook": Fate.HANDLED}
    assert other.unrouted


async def test_another_trivet_takes_the_webhooks_events() -> None:
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


# Signatures.

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OLD_SECRET = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"


async def test_a_request_is_signed(receiver: Receiver) -> None:
    """The library of Standard Webhooks accepts a posted request, and no changed one."""
    signing = settings(receiver.url, secrets=[SECRET])
    async with open_plugins(Webhook, settings=signing, event_types=[Greeting]) as runtime:
        await runtime.publish(Greeting("hellö"), wait=True, id="g-1")
    (request,) = receiver.requests
    assert re.fullmatch(r"[0-9a-f]{64}", request.headers["webhook-id"])
    verifier = standardwebhooks.Webhook(SECRET)
    verified: Any = verifier.verify(request.body, request.headers)
    assert verified["data"] == {"text": "hellö"}
    for headers, body in [
        (request.headers, request.body + b" "),
        (request.headers | {"webhook-id": "g-2"}, request.body),
    ]:
        with pytest.raises(standardwebhooks.WebhookVerificationError):
            verifier.verify(body, headers)


async def test_two_secrets_sign_while_they_are_changed(receiver: Receiver) -> None:
    """A receiver that knows one of the secrets is satisfied, whichever it is."""
    signing = settings(receiver.url, secrets=[SECRET, OLD_SECRET])
    async with open_plugins(Webhook, settings=signing, event_types=[Greeting]) as runtime:
        await runtime.publish(Greeting("hello"), wait=True)
    (request,) = receiver.requests
    for secret in (SECRET, OLD_SECRET):
        standardwebhooks.Webhook(secret).verify(request.body, request.headers)


async def test_without_a_secret_nothing_is_signed(receiver: Receiver) -> None:
    """Without secrets a request has no headers of Standard Webhooks."""
    async with open_plugins(
        Webhook, settings=settings(receiver.url), event_types=[Greeting]
    ) as runtime:
        await runtime.publish(Greeting("hello"), wait=True)
    assert not [name for name in receiver.requests[0].headers if name.startswith("webhook-")]


@pytest.mark.parametrize(
    "secret", ["", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_c2hvcnQ=", "whsec_ä", "whsec_" * 30]
)
async def test_a_malformed_secret_is_refused(secret: str) -> None:
    """The error names the key and the form, and does not show the secret."""
    with pytest.raises(
        ConfigurationError, match=r"plugins\.webhook\.secrets(\[0\])?: a secret is"
    ) as caught:
        async with open_plugins(
            Webhook, settings=settings("http://example.org/", secrets=[secret])
        ):
            pass
    assert not secret or secret not in str(caught.value)


@given(st.lists(st.text(), min_size=1), st.lists(st.text(), min_size=1))
def test_an_id_can_stand_in_a_header(parts: list[str], others: list[str]) -> None:
    """For any id of an event the message's id has no dot and no line end, and is reproducible."""
    made = message_id(*parts)
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}", made)
    assert (message_id(*others) == made) == (parts == others)


# Batches.


def batches(receiver: Receiver, **delivery: object) -> dict[str, dict[str, object]]:
    """Settings of a webhook that posts batches."""
    sizes = {"batch_size": 3, "batch_age": 0.05, **delivery}
    return settings(receiver.url, secrets=[SECRET], delivery=sizes)


async def test_a_batch_is_one_request(receiver: Receiver) -> None:
    """Events are gathered by the runtime's rules, and posted as a batch of CloudEvents, signed."""
    async with open_plugins(Webhook, settings=batches(receiver), event_types=[Greeting]) as runtime:
        for number in range(4):
            await runtime.publish(Greeting(str(number)), id=str(number))
    assert [
        [document["data"]["text"] for document in request.document] for request in receiver.requests
    ] == [["0", "1", "2"], ["3"]]
    for request in receiver.requests:
        assert request.headers["content-type"] == "application/cloudevents-batch+json"
        standardwebhooks.Webhook(SECRET).verify(request.body, request.headers)
    first, second = (request.headers["webhook-id"] for request in receiver.requests)
    assert first != second


async def test_a_batch_that_comes_again_has_the_same_id(receiver: Receiver) -> None:
    """A batch that is posted again has the same id, by which the receiver knows it."""
    receiver.status = 500
    retrying = batches(receiver, retry=True, retry_initial=0, max_attempts=2)
    async with open_plugins(Webhook, settings=retrying, event_types=[Greeting]) as runtime:
        outcome = await runtime.publish(Greeting("hello"), wait=True)
    assert outcome.worst is Fate.FAILED
    first, second = receiver.requests
    assert first.headers["webhook-id"] == second.headers["webhook-id"]


async def test_an_event_that_json_does_not_have_costs_no_other(receiver: Receiver) -> None:
    """An event that cannot be written is refused before the post, and the others are posted."""
    with capture_logs() as logs:
        async with open_plugins(
            Webhook, settings=batches(receiver), event_types=[Measured]
        ) as runtime:
            deliveries = [Delivery.of(Measured(value)) for value in (1, {1: 2j}, 3)]
            outcomes = await runtime.publish_many(deliveries, wait=True)
    assert [outcome.worst for outcome in outcomes] == [Fate.HANDLED, Fate.FAILED, Fate.HANDLED]
    assert [document["data"] for request in receiver.requests for document in request.document] == [
        {"value": 1},
        {"value": 3},
    ]
    (error,) = failures(logs)
    assert str(error).startswith("measured: ")


async def only_poison_fails(table: dict[str, dict[str, object]], bad: set[int]) -> None:
    """Poison events are given up, and the others of ten are handled."""
    texts = [f"{'poison' if number in bad else 'good'} {number}" for number in range(10)]
    async with open_plugins(Webhook, settings=table, event_types=[Greeting]) as runtime:
        outcomes = await runtime.publish_many(
            [Delivery.of(Greeting(text)) for text in texts], wait=True
        )
    fates = [Fate.FAILED if number in bad else Fate.HANDLED for number in range(10)]
    assert [outcome.worst for outcome in outcomes] == fates


@pytest.mark.parametrize("bad", [{2}, {0, 1, 2, 3}, {1, 3, 5, 7, 9}])
async def test_an_event_at_which_the_receiver_fails_costs_no_other(
    receiver: Receiver, bad: set[int]
) -> None:
    """After a second failure the events of a batch are posted one by one: those at which the
    receiver fails are tried to their end, and the others are handled."""
    receiver.bad = b"poison"
    again = batches(receiver, batch_size=10, retry=True, retry_initial=0, max_attempts=3)
    await only_poison_fails(again, bad)


@pytest.mark.parametrize("hangs", [True, False])
@pytest.mark.parametrize("bad", [{2}, {0, 9}, {3, 4}])
async def test_an_event_that_the_receiver_does_not_answer_costs_no_other(
    receiver: Receiver, bad: set[int], hangs: bool
) -> None:
    """After a second time without an answer the events of a batch are posted one by one."""
    receiver.unheard, receiver.hangs = b"poison", hangs
    retrying = {"retry": True, "retry_initial": 0, "max_attempts": 5}
    sizes = {"batch_size": 10, "batch_age": 0.05, **retrying}
    await only_poison_fails(settings(receiver.url, timeout=0.2, delivery=sizes), bad)


async def test_a_receiver_that_answers_nothing_is_not_asked_about_everything(
    receiver: Receiver,
) -> None:
    """If single events get no answer either, the rest waits for the next attempt."""
    receiver.unheard = b"data"
    again = batches(receiver, batch_size=10, retry=True, retry_initial=0, max_attempts=3)
    async with open_plugins(Webhook, settings=again, event_types=[Greeting]) as runtime:
        outcomes = await runtime.publish_many(
            [Delivery.of(Greeting(str(number))) for number in range(10)], wait=True
        )
    assert {outcome.worst for outcome in outcomes} == {Fate.FAILED}
    sizes = [len(request.document) for request in receiver.requests]
    assert sizes == [10, 10, 1, 1, 1, 1, 8, 1, 1]


async def test_taken_events_are_not_posted_again(receiver: Receiver) -> None:
    """If the receiver takes one half of a batch, and fails at the other, only the events of the
    other half are posted one by one."""
    receiver.first = [503, 400, 202, 500]
    again = batches(receiver, batch_size=4, retry=True, retry_initial=0)
    async with open_plugins(Webhook, settings=again, event_types=[Greeting]) as runtime:
        await runtime.publish_many([Delivery.of(Greeting(each)) for each in "abcd"], wait=True)
    posted = ["".join(each["data"]["text"] for each in one.document) for one in receiver.requests]
    assert posted == ["abcd", "abcd", "ab", "cd", "c", "d"]


async def test_an_event_that_failed_alone_goes_alone(receiver: Receiver) -> None:
    """Later events are not posted together with a suspect, and so not twice."""
    receiver.bad = b"poison"
    again = batches(receiver, batch_size=3, retry=True, retry_initial=0.2, max_attempts=3)
    async with open_plugins(Webhook, settings=again, event_types=[Greeting]) as runtime:
        for text in ("a", "poison", "b"):
            await runtime.publish(Greeting(text))
        await until_handled(runtime, "webhook", 2)
        for text in ("c", "d", "e"):
            await runtime.publish(Greeting(text))
        await until_handled(runtime, "webhook", 5)
    posted = [[each["data"]["text"] for each in request.document] for request in receiver.requests]
    assert not [texts for texts in posted if "poison" in texts and {"c", "d", "e"} & {*texts}]
    assert sorted(text for texts in posted for text in texts if text in "cde") == ["c", "d", "e"]


async def test_a_receiver_that_refuses_everything_is_in_trouble(receiver: Receiver) -> None:
    """After ten refused events in a row the sink is degraded, until one event is taken."""
    receiver.status = 415
    async with open_plugins(
        Webhook, settings=settings(receiver.url), event_types=[Greeting]
    ) as runtime:
        for number in range(12):
            await runtime.publish(Greeting(str(number)), wait=True)
            assert (runtime.hosts["webhook"].trouble is None) == (number < 9)
        trouble = runtime.hosts["webhook"].trouble
        assert trouble == "10 events in a row, or more, were refused"
        receiver.first = [503]
        for number in range(2):
            await runtime.publish(Greeting(str(number)), wait=True)
        assert runtime.hosts["webhook"].trouble == trouble  # The status in between was another.
        receiver.status = 200
        await runtime.publish(Greeting("hello"), wait=True)
        assert runtime.hosts["webhook"].trouble is None


async def test_another_trivet_takes_a_batch() -> None:
    """Another program takes batches at `POST /events`."""
    arrived: list[str] = []

    class Archive(EventPlugin[Greeting]):
        async def handle_event(self, event: Greeting) -> None:
            arrived.append(event.text)

    async with (
        open_plugins(Archive, event_types=[Greeting]) as receiving,
        serving(receiving) as url,
    ):
        sizes = {"batch_size": 2, "batch_age": 0.01}
        posting = settings(f"{url}/events", delivery=sizes)
        async with open_plugins(Webhook, settings=posting, event_types=[Greeting]) as sending:
            for text in ("a", "b", "c"):
                await sending.publish(Greeting(text))
    assert arrived == ["a", "b", "c"]


# Answers.


def retrying(receiver: Receiver, **delivery: object) -> dict[str, dict[str, object]]:
    """Settings of a webhook that tries again at once."""
    return settings(receiver.url, delivery={"retry": True, "retry_initial": 0, **delivery})


@pytest.mark.parametrize("status", [302, 401, 403, 404, 408, 429, 500, 503])
async def test_a_temporary_failure_is_tried_again(receiver: Receiver, status: int) -> None:
    """A failed event is tried again by the runtime's policy, until the receiver takes it."""
    receiver.first = [status, status]
    async with open_plugins(
        Webhook, settings=retrying(receiver), event_types=[Greeting]
    ) as runtime:
        outcome = await runtime.publish(Greeting("hello"), wait=True)
    assert outcome.fates == {"webhook": Fate.HANDLED}
    assert len(receiver.requests) == 3


@pytest.mark.parametrize("status", [400, 409, 413, 415, 422, 410])
async def test_a_permanent_refusal_is_posted_once(receiver: Receiver, status: int) -> None:
    """A permanent refusal ends the event, whatever the policy says."""
    receiver.status = status
    with capture_logs() as logs:
        async with open_plugins(
            Webhook, settings=retrying(receiver), event_types=[Greeting]
        ) as runtime:
            outcome = await runtime.publish(Greeting("hello"), wait=True)
            trouble = runtime.hosts["webhook"].trouble
    assert outcome.fates == {"webhook": Fate.FAILED}
    assert len(receiver.requests) == 1
    (error,) = failures(logs)
    assert isinstance(error, SinkRefusedError)
    gone = "the receiver answered 410 (see `url` of 'webhook')"
    assert str(error) == (gone if status == 410 else f"the receiver answered {status}")
    assert trouble == (gone if status == 410 else None)


async def test_the_receivers_reason_is_kept(receiver: Receiver) -> None:
    """The reason of a refusal is in the log, in one line of bounded length."""
    receiver.status = 422
    receiver.said = json.dumps({"message": "\x1b[1mno\n'text' in Greeting" + 300 * "!"}).encode()
    with capture_logs() as logs:
        async with open_plugins(
            Webhook, settings=settings(receiver.url), event_types=[Greeting]
        ) as runtime:
            await runtime.publish(Greeting("hello"), wait=True)
    (error,) = failures(logs)
    reason = "[1mno 'text' in Greeting".ljust(300, "!")
    assert str(error) == f"the receiver answered 422: {reason}"


@pytest.mark.parametrize(
    "said",
    [
        "I do not know Bearer s3cret",
        "I do not know S3CRET",
        "x" * 290 + " Bearer s3cret",
        "session=c00kie&amp;more",
        "session c00kie&more",
        base64.b64encode(b"clerk:p@ss").decode(),
        "clerk has another word than p@ss",
        "nothing at /hook/t0ken",
        "key is qu+ery/part",
        "key is qu%2bery%2Fpart",
    ],
)
async def test_a_secret_that_the_receiver_repeats_is_withheld(
    receiver: Receiver, said: str
) -> None:
    """A receiver that repeats a secret, in any spelling, gets it neither into the log nor into
    the status."""
    receiver.status, receiver.said = 503, json.dumps({"error": said}).encode()
    headers = {"Authorization": "Bearer s3cret", "Cookie": "session=c00kie&more; a=b"}
    url = receiver.url.replace("//", "//clerk:p%40ss@") + "/t0ken?key=qu%2Bery%2Fpart"
    with capture_logs() as logs:
        async with open_plugins(
            Webhook, settings=settings(url, headers=headers), event_types=[Greeting]
        ) as runtime:
            await runtime.publish(Greeting("hello"), wait=True)
            trouble = runtime.hosts["webhook"].trouble
    (error,) = failures(logs)
    assert str(error) == trouble == f"the receiver answered 503: {WITHHELD}"


WITHHELD = "(withheld: it repeats a secret)"


@pytest.mark.parametrize("status", [200, 422])
@pytest.mark.parametrize("hangs", [False, True])
async def test_an_answer_counts_although_its_body_is_cut_off(
    receiver: Receiver, status: int, hangs: bool
) -> None:
    """The status counts even without the body: the event is not posted again."""
    receiver.status, receiver.promised, receiver.hangs = status, 1000, hangs
    again = {"retry": True, "retry_initial": 0, "max_attempts": 3}
    there = settings(receiver.url, timeout=0.2, delivery=again)
    async with open_plugins(Webhook, settings=there, event_types=[Greeting]) as runtime:
        outcome = await runtime.publish(Greeting("hello"), wait=True)
        receiver.may_answer.set()
    assert outcome.worst is (Fate.HANDLED if status == 200 else Fate.FAILED)
    assert len(receiver.requests) == 1


async def test_as_many_requests_as_handlers(receiver: Receiver) -> None:
    """Twenty events are posted side by side."""
    receiver.may_answer.clear()
    there = settings(receiver.url, delivery={"concurrency": 20})
    async with open_plugins(Webhook, settings=there, event_types=[Greeting]) as runtime:
        for number in range(20):
            await runtime.publish(Greeting(str(number)))
        while len(receiver.requests) < 20:
            await trio.sleep(0.01)
        receiver.may_answer.set()
    assert runtime.statistics()["webhook"].handled == 20


@pytest.mark.parametrize("status", [503, 413])
async def test_retry_after_is_heeded(receiver: Receiver, status: int) -> None:
    """Until the time in `Retry-After` no event is posted, neither the refused one nor the next,
    and none is lost."""
    receiver.first, receiver.answer = [status], {"Retry-After": "1"}
    async with open_plugins(
        Webhook, settings=retrying(receiver, retry_for=0.5), event_types=[Greeting]
    ) as runtime:
        deliveries = [Delivery.of(Greeting(text)) for text in ("a", "b")]
        outcomes = await runtime.publish_many(deliveries, wait=True)
    assert [outcome.worst for outcome in outcomes] == [Fate.HANDLED] * 2
    first, second, third = receiver.requests
    assert [each.document["data"]["text"] for each in (first, second, third)] == ["a", "a", "b"]
    assert second.at - first.at >= 1


@pytest.mark.parametrize("order", [("1", "2"), ("2", "1")])
async def test_the_longest_of_several_retry_after_counts(
    receiver: Receiver, order: tuple[str, str]
) -> None:
    """A second `Retry-After` that is longer holds for the events that wait already."""
    receiver.first, receiver.waits, receiver.delays = [503, 503], list(order), [0.0, 0.5]
    there = retrying(receiver, concurrency=2)
    async with open_plugins(Webhook, settings=there, event_types=[Greeting]) as runtime:
        for text in ("a", "b"):
            await runtime.publish(Greeting(text))
        while len(receiver.requests) < 4:
            await trio.sleep(0.01)
    first, _, *others = receiver.requests
    assert all(each.at - first.at >= 1.9 for each in others)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        (" 17 ", 17.0),
        ("Fri, 31 Jan 2025 12:01:00 GMT", 60.0),
        ("Fri, 31 Jan 2025 11:00:00 GMT", 0.0),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("٣", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str, seconds: float | None) -> None:
    """A date counts by the server's clock, and a value that makes no sense is ignored."""
    date = "Fri, 31 Jan 2025 12:00:00 GMT"
    assert retry_after({"retry-after": value, "date": date}) == seconds


@given(st.text())
def test_nothing_in_retry_after_raises(value: str) -> None:
    """A `Retry-After` of any length or content is read without an error."""
    seconds = retry_after({"retry-after": value, "date": value})
    assert seconds is None or seconds >= 0


@pytest.mark.parametrize("status", [200, 422])
async def test_a_receiver_that_is_back_is_well(receiver: Receiver, status: int) -> None:
    """The sink is degraded while trouble lasts; a refused event is no trouble."""
    async with open_plugins(
        Webhook, settings=settings(receiver.url), event_types=[Greeting]
    ) as runtime:
        receiver.status = 500
        await runtime.publish(Greeting("hello"), wait=True)
        assert runtime.hosts["webhook"].trouble == "the receiver answered 500"
        receiver.status = status
        await runtime.publish(Greeting("hello"), wait=True)
        assert runtime.hosts["webhook"].trouble is None


# Addresses.


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.255.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254"),
        *("0.0.0.0", "100.64.0.1", "192.0.0.8", "198.18.0.1", "224.0.0.1", "240.0.0.1"),
        *("255.255.255.255", "192.0.2.1", "192.88.99.1"),
        *("::", "::1", "fe80::1", "fe80::1%2", "fc00::1", "fd12::1", "fec0::1", "ff02::1"),
        *(
            "::ffff:127.0.0.1",
            "::ffff:7f00:1",
            "::127.0.0.1",
            "2002:7f00:1::",
            "2002:909:909::",
            "64:ff9b::7f00:1",
        ),
        *("64:ff9b::10.0.0.1", "64:ff9b:1::1", "2001:db8::1", "100::1"),
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    ],
)
def test_a_private_address_is_recognized(address: str) -> None:
    """Loopback, private, shared, link-local and reserved addresses are not public, even
    embedded."""
    assert not is_public(ip_address(address))
    assert is_allowed(ip_address(address), [ip_network("0.0.0.0/0"), ip_network("::/0")])


@pytest.mark.parametrize(
    "address",
    ["9.9.9.9", "1.1.1.1", "::ffff:9.9.9.9", "64:ff9b::9.9.9.9", "2620:fe::fe"],
)
def test_a_public_address_is_known(address: str) -> None:
    """A public address is public also inside a translated one."""
    assert is_public(ip_address(address))


SPELLINGS = [
    *("127.0.0.1", "127.1", "127.0.1", "0x7f.1", "0x7f000001", "2130706433", "0x7f.0.0.1"),
    *("localhost", "0", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]"),
]


@pytest.mark.parametrize("host", SPELLINGS)
async def test_no_spelling_of_loopback_is_posted_to(receiver: Receiver, host: str) -> None:
    """The program does not start with a private address, in any spelling, unless it is allowed."""
    url = f"http://{host}:{receiver.server_port}/"
    place = r"plugins\.webhook\.url: \S*: not a public address, and not within `allowed_networks`"
    with pytest.raises(StartError, match=place):
        async with open_plugins(
            Webhook, settings={"webhook": {"url": url}}, event_types=[Greeting]
        ):
            pass
    assert receiver.requests == []


async def test_no_name_of_loopback_is_posted_to(receiver: Receiver, resolver: Resolver) -> None:
    """The address of a name decides; while it is private, the events wait."""
    url = f"http://localhost.:{receiver.server_port}/"
    resolver.answers = [[], ["::1"], ["127.0.0.1"]]
    allowed = settings(url, delivery={"retry": True, "retry_initial": 0})
    async with open_plugins(Webhook, settings=allowed, event_types=[Greeting]) as runtime:
        outcome = await runtime.publish(Greeting("hello"), wait=True)
    assert outcome.fates == {"webhook": Fate.HANDLED}
    assert resolver.asked == ["localhost."] * 3
    assert len(receiver.requests) == 1


async def test_the_address_that_was_checked_is_connected_to(
    receiver: Receiver, resolver: Resolver
) -> None:
    """A name is looked up once, so a different second answer does not help."""
    resolver.answers = [["127.0.0.1"], ["127.0.0.1"], ["10.0.0.1"]]
    url = f"http://shop.example:{receiver.server_port}/"
    with capture_logs() as logs:
        async with open_plugins(Webhook, settings=settings(url), event_types=[Greeting]) as runtime:
            first = await runtime.publish(Greeting("hello"), wait=True)
            assert resolver.asked == ["shop.example"] * 2
            receiver.answer = {"Connection": "close"}
            second = await runtime.publish(Greeting("hello"), wait=True)
            third = await runtime.publish(Greeting("hello"), wait=True)
    assert [outcome.worst for outcome in (first, second, third)] == [
        Fate.HANDLED,
        Fate.HANDLED,  # Over the same connection.
        Fate.FAILED,
    ]
    assert resolver.asked == ["shop.example"] * 3
    assert [str(error) for error in failures(logs)] == [
        "10.0.0.1: not a public address, and not within `allowed_networks`"
    ]
    assert [request.headers["host"] for request in receiver.requests] == [
        f"shop.example:{receiver.server_port}"
    ] * 2


async def test_of_several_addresses_only_those_allowed_are_tried(
    receiver: Receiver, resolver: Resolver
) -> None:
    """If one address does not answer, the next one is tried."""
    resolver.answers = [["10.0.0.1", "127.0.0.2", "127.0.0.1"]]  # Nothing listens at .2.
    url = f"http://shop.example:{receiver.server_port}/"
    async with open_plugins(Webhook, settings=settings(url), event_types=[Greeting]) as runtime:
        outcome = await runtime.publish(Greeting("hello"), wait=True)
    assert outcome.fates == {"webhook": Fate.HANDLED}


async def test_an_unknown_name_may_be_known_later(receiver: Receiver, resolver: Resolver) -> None:
    """A failed look-up is tried again, as a failed connection is."""
    resolver.answers = [[], [], ["127.0.0.1"]]
    again = {"retry": True, "retry_initial": 0}
    url = f"http://shop.example:{receiver.server_port}/"
    async with open_plugins(
        Webhook, settings=settings(url, delivery=again), event_types=[Greeting]
    ) as runtime:
        outcome = await runtime.publish(Greeting("hello"), wait=True)
    assert outcome.fates == {"webhook": Fate.HANDLED}


async def test_a_redirect_is_not_followed(receiver: Receiver) -> None:
    """A redirect is not followed, neither to a private address nor back to the receiver."""
    for target in (f"http://127.0.0.2:{receiver.server_port}/", f"{receiver.url}/other"):
        receiver.status, receiver.answer = 307, {"Location": target}
        async with open_plugins(
            Webhook, settings=settings(receiver.url), event_types=[Greeting]
        ) as runtime:
            outcome = await runtime.publish(Greeting("hello"), wait=True)
        assert outcome.fates == {"webhook": Fate.FAILED}
    assert [request.path for request in receiver.requests] == ["/hook", "/hook"]


@pytest.mark.parametrize(
    ("name", "fate"), [("shop.example", Fate.HANDLED), ("other.example", Fate.FAILED)]
)
async def test_the_certificate_is_the_names(
    receiver: Receiver, resolver: Resolver, tmp_path: Path, name: str, fate: Fate
) -> None:
    """TLS checks the name in the URL, not the address of the connection."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate = authority.issue_cert("shop.example")
    certificate.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "chain.pem"))
    context.load_cert_chain(tmp_path / "chain.pem")
    receiver.socket = context.wrap_socket(receiver.socket, server_side=True)
    resolver.answers = [["127.0.0.1"]]
    trusting = settings(f"https://{name}:{receiver.server_port}/", ca_file=str(tmp_path / "ca.pem"))
    async with open_plugins(Webhook, settings=trusting, event_types=[Greeting]) as runtime:
        outcome = await runtime.publish(Greeting("hello"), wait=True)
    assert outcome.fates == {"webhook": fate}


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("allowed_networks", ["10.0.0.0/33"]),
        ("allowed_networks", ["10.0.0.1/8"]),
        ("headers", {"X-Name": "s3cret\n"}),
        ("headers", {"X Name": "s3cret"}),
        ("headers", {"X-Name": "s3cret "}),
        ("headers", {"X-Name": "s3crét"}),
        ("headers", {"Content-Length": "3"}),
        ("headers", {"webhook-id": "s3cret"}),
        ("ca_file", "s0me.pem"),
        ("ca_file", __file__),
    ],
)
async def test_settings_that_cannot_be_meant_are_refused(setting: str, value: object) -> None:
    """A wrong setting is an error with its name, and without a possible secret."""
    refused = settings("http://example.org/", **{setting: value})
    with pytest.raises(ConfigurationError, match=f"plugins.webhook.{setting}: ") as caught:
        async with open_plugins(Webhook, settings=refused):
            pass
    assert "s3cret" not in str(caught.value)


async def test_the_plugins_text_has_no_secrets() -> None:
    """The `repr` shows neither URL nor headers nor secrets."""
    masked = settings("http://s3cret.example/", headers={"A": "s3cret"}, secrets=[SECRET])
    async with open_plugins(Webhook, settings=masked) as runtime:
        text = repr(runtime.get(Webhook))
    assert "s3cret" not in text
    assert SECRET not in text


async def test_the_readmes_settings_work(tmp_path: Path) -> None:
    """The README's sample starts the webhook, by its name, with the settings that it shows."""
    sample = code_block("toml")
    (tmp_path / "trivet.toml").write_text(sample)
    async with open_runtime(load_settings(tmp_path / "trivet.toml", environ={})) as runtime:
        plugin = runtime.get(Webhook)
        shown = tomllib.loads(sample)["plugins"]["webhook"]
        for name in shown.keys() - {"delivery"}:
            assert revealed(getattr(plugin, name)) == shown[name]
        assert plugin.name in runtime.durable


async def test_the_readmes_document_is_a_real_one(receiver: Receiver) -> None:
    """The README's sample document has the attributes of a real one."""
    async with open_plugins(
        Webhook, settings=settings(receiver.url), event_types=[Greeting]
    ) as runtime:
        await runtime.publish(Greeting("hello"), wait=True)
    assert json.loads(code_block("json")).keys() == receiver.requests[0].document.keys()


def code_block(language: str) -> str:
    """The README's block in this language."""
    (block,) = re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    assert isinstance(block, str)
    return block


def failures(logs: list[Any]) -> list[SinkError]:
    """The errors with which events have failed, as logged."""
    errors = [entry["exc_info"] for entry in logs if entry["event"] == "event failed"]
    assert all(isinstance(error, SinkError) for error in errors)
    return errors
