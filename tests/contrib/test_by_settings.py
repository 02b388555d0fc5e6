"""Brokers that an operator connects by settings alone: no line of Python runs in here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
import trio

from trivet_contrib._brokers._client import Message

from .nats_server import nats_server, needs_nats
from .rabbitmq_server import Node, needs_rabbitmq, rabbitmq_server
from .redis_server import STREAM, needs_redis, redis_server

SERVE = [str(Path(sys.executable).parent / "trivet"), "serve"]

SETTINGS = """
    service = "bridge"
    active_plugins = ["handlers", "archive", "metrics"]
    bind = "127.0.0.1:0"
    open_events = ["sending_event"]

    [plugins.handlers]
    use = "redis_source"
    url = "{redis[url]}"
    stream = "{stream}"
    event = "sending_event"

    [plugins.archive]
    use = "nats_sink"
    url = "{nats[url]}"
    stream = "orders"

    [plugins.archive.delivery]
    events = ["sending_event"]
    durable = true

    [plugins.metrics]
    use = "rabbitmq_sink"
    url = "{rabbitmq[url]}"
    queue = "orders"
    format = "structured"

    [plugins.metrics.delivery]
    events = ["sending_event"]
"""


def message(number: int) -> Message:
    """A handler's event as a CloudEvent."""
    said = {"specversion": "1.0", "id": f"h-{number}", "source": "lp5", "type": "sending_event"}
    data = {
        "events": [{"face": number}],
        "handler_id": "h",
        "account_id": "a",
        "request_id": "r",
        "create_event_time": "2026-01-31T12:00:00Z",
        "end_event_time": "2026-01-31T12:00:01Z",
    }
    headers = {f"ce-{name}": value for name, value in said.items()}
    return Message(msgspec.json.encode(data), {"content-type": "application/json", **headers})


@pytest.mark.broker
@needs_redis
@needs_nats
@needs_rabbitmq
async def test_a_stream_goes_to_two_other_brokers(tmp_path: Path) -> None:
    """Entries of a Redis stream arrive in NATS and in RabbitMQ, with their ids and data."""
    for name in ("redis", "nats", "rabbitmq", "program"):
        (tmp_path / name).mkdir()
    node = Node(tmp_path / "rabbitmq")
    try:
        async with (
            redis_server(tmp_path / "redis") as redis,
            nats_server(tmp_path / "nats") as nats,
            rabbitmq_server(node) as rabbitmq,
        ):
            servers = {"redis": redis, "nats": nats, "rabbitmq": rabbitmq}
            urls = {name: server.settings() for name, server in servers.items()}
            settings = SETTINGS.format(stream=STREAM, **urls)
            (tmp_path / "program" / "trivet.toml").write_text(settings)
            sent = [message(number) for number in range(3)]
            await redis.send(sent)
            with (tmp_path / "program" / "log").open("wb") as log:
                command = [*SERVE, "--no-parent"]
                program = subprocess.Popen(  # noqa: ASYNC220 - at once
                    command, cwd=tmp_path / "program", stderr=log
                )
            try:
                while len(await nats.messages()) < 3 or len(await rabbitmq.messages()) < 3:
                    assert program.poll() is None, (tmp_path / "program" / "log").read_text()
                    await trio.sleep(0.05)
            finally:
                program.terminate()
            assert await trio.to_thread.run_sync(program.wait) == 0
            in_nats, in_rabbitmq = await nats.messages(), await rabbitmq.messages()
    finally:
        node.end()
    wanted = [(f"h-{number}", number) for number in range(3)]
    found = [(each.headers["ce-id"], msgspec.json.decode(each.body)) for each in in_nats]
    assert [(name, data["events"][0]["face"]) for name, data in found] == wanted
    documents = [msgspec.json.decode(each.body) for each in in_rabbitmq]
    assert [(each["id"], each["data"]["events"][0]["face"]) for each in documents] == wanted
