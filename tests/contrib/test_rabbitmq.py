from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from pathlib import Path
from typing import cast

import pytest

import trivet_contrib.rabbitmq
from trivet_contrib.rabbitmq import RabbitmqSink, RabbitmqSource

from .rabbitmq_server import Node, RabbitmqServer, needs_rabbitmq, rabbitmq_server
from .suite import Contract, Server, Table

README = Path(trivet_contrib.rabbitmq.__file__).with_name("README.md")

pytestmark = needs_rabbitmq


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Generator[Node]:
    """RabbitMQ, for all of these tests; what they kill they start again."""
    made = Node(tmp_path_factory.mktemp("rabbitmq"))
    try:
        yield made
    finally:
        made.end()


class TestRabbitmq(Contract):
    source = RabbitmqSource
    sink = RabbitmqSink
    credentials = "url"

    @pytest.fixture
    async def server(self, node: Node) -> AsyncGenerator[Server]:
        """A virtual host, with the queue."""
        async with rabbitmq_server(node) as server:
            yield server

    def missing(self, server: Server) -> tuple[str, Table]:
        """See `Contract`."""
        settings = cast("RabbitmqServer", server).settings
        return "queue", settings(queue="missing", create=False)
