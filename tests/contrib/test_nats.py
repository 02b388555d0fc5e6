from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import cast

import pytest

from trivet import Plugin, Runtime
from trivet_contrib.nats import NatsSink, NatsSource

from .nats_server import NatsServer, nats_server, needs_nats
from .suite import Contract, Server, Table

pytestmark = needs_nats


class TestNats(Contract):
    source = NatsSource
    sink = NatsSink
    credentials = "url"

    @pytest.fixture
    async def server(self, tmp_path: Path) -> AsyncGenerator[Server]:
        """A nats-server with JetStream's files."""
        async with nats_server(tmp_path) as server:
            yield server

    def reading(
        self, server: Server, *plugins: type[Plugin], table: Table | None = None, **settings: object
    ) -> AbstractAsyncContextManager[Runtime]:
        """See `Contract`. What is lost on its way over a connection that breaks comes soon."""
        return super().reading(server, *plugins, table=table, **{"visibility": 2.0, **settings})

    def missing(self, server: Server) -> tuple[str, Table]:
        """See `Contract`."""
        return "stream", cast("NatsServer", server).settings(stream="missing", create=False)
