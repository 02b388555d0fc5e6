"""The log records of a broker's library, about our connections and about those of others."""

from __future__ import annotations

import importlib
import logging

import pytest
import trio

from trivet.testing import open_plugins
from trivet_contrib._brokers._library_logs import our_calls, our_records_left_out
from trivet_contrib._brokers._sink import BrokerSink
from trivet_contrib.rabbitmq import RabbitmqSink
from trivet_contrib.redis import RedisSink

LIBRARY = logging.getLogger("some.library")


def test_importing_a_connector_changes_no_logger() -> None:
    """The logging of a program that embeds the connectors is the program's own."""
    for connector in ("nats", "rabbitmq", "redis"):
        importlib.import_module(f"trivet_contrib.{connector}")
    for name in ("aiormq", "aiormq.connection", "coredis", "nats", "nats.aio.client"):
        logger = logging.getLogger(name)
        assert (logger.level, logger.filters, logger.disabled) == (logging.NOTSET, [], False)


async def test_only_records_of_marked_calls_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    """While a connection of ours is open, the records about an embedder's connections pass."""
    with our_records_left_out(LIBRARY.name):
        with our_calls():
            LIBRARY.error("ours")
        LIBRARY.error("an embedder's")
    assert [record.message for record in caplog.records] == ["an embedder's"]


async def test_tasks_of_a_marked_call_are_marked(caplog: pytest.LogCaptureFixture) -> None:
    """A task that the library starts during a call of ours belongs to our connection."""

    async def background() -> None:
        await trio.lowlevel.checkpoint()
        LIBRARY.error("of a task of ours")

    with our_records_left_out(LIBRARY.name):
        async with trio.open_nursery() as nursery:
            with our_calls():
                nursery.start_soon(background)
    assert not caplog.records


async def test_with_the_last_connection_all_records_pass(caplog: pytest.LogCaptureFixture) -> None:
    """Each connection has a filter of its own, which ends with the connection."""
    with our_calls(), our_records_left_out(LIBRARY.name):
        with our_records_left_out(LIBRARY.name):
            LIBRARY.error("with two connections")
        LIBRARY.error("with one connection")
    with our_calls():
        LIBRARY.error("without a connection")
    assert [record.message for record in caplog.records] == ["without a connection"]
    assert not LIBRARY.filters


@pytest.mark.parametrize(
    ("sink", "settings"),
    [(RedisSink, {"stream": "orders"}), (RabbitmqSink, {"queue": "orders"})],
)
# After a refused connection coredis leaves memory channels to the garbage collector.
@pytest.mark.filterwarnings("ignore:Unclosed <MemoryObject:ResourceWarning")
@pytest.mark.usefixtures("own_garbage")
async def test_a_failure_is_logged_by_the_plugin_alone(
    sink: type[BrokerSink], settings: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    """An error that a library raises, and logs with a traceback, is one line of the plugin."""

    async def hang(_: trio.SocketStream) -> None:
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, hang, [listener])
        scheme = "redis" if sink is RedisSink else "amqp"
        url = f"{scheme}://127.0.0.1:{listener.socket.getsockname()[1]}"
        table = {"url": url, "timeout": 0.2, **settings}
        with caplog.at_level(logging.DEBUG):
            async with open_plugins(sink, event_types=[], settings={sink.name: table}) as runtime:
                while runtime.hosts[sink.name].trouble is None:
                    await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    libraries = {record.name.partition(".")[0] for record in caplog.records}
    assert libraries.isdisjoint({"aiormq", "coredis"})
