"""The sink `webhook` against a receiver in a process of its own."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import ClassVar

import pytest
import trio

from trivet import Event, Runtime
from trivet_contrib.webhook import Webhook

from . import receiver as receiver_program
from .http_suite import HttpContract, Receiver
from .programs import Program, until_it_answers
from .suite import Order, Table

pytestmark = pytest.mark.process


class WebhookReceiver(Program, Receiver):
    """A receiver with the events that it answered 200 to on its disk."""

    secret = "s3cret"

    def settings(self, **others: object) -> Table:
        """See `Receiver`."""
        headers = {"Authorization": f"Bearer {self.secret}"}
        allowed = ["127.0.0.0/8"]
        url = f"http://127.0.0.1:{self.port}/hook"
        return {"url": url, "headers": headers, "allowed_networks": allowed, **others}

    async def start(self) -> None:
        """See `Receiver`."""
        self.run(sys.executable, receiver_program.__file__, str(self.port), str(self.directory))
        await until_it_answers(self, "/")

    async def allow(self, *, allowed: bool) -> None:
        """See `Receiver`."""
        (self.directory / "token").write_text(self.secret if allowed else "0ther")

    async def taken(self) -> list[int]:
        """See `Receiver`."""
        return list(map(int, (self.directory / "taken").read_text().split()))


class TestWebhook(HttpContract):
    sink = Webhook
    credentials = "`headers` and `secrets`"
    chosen: ClassVar[Table] = {"events": ["order"]}

    @pytest.fixture
    async def receiver(self, tmp_path: Path) -> AsyncGenerator[Receiver]:
        """A receiver that admits the sink."""
        directory = tmp_path / "receiver"
        directory.mkdir()
        receiver = WebhookReceiver(directory)
        try:
            await receiver.allow(allowed=True)
            await receiver.start()
            yield receiver
        finally:
            with trio.CancelScope(shield=True):
                await receiver.kill()

    def event(self, number: int) -> Event:
        """See `HttpContract`."""
        return Order(number)

    def poison(self, number: int) -> Event:
        """See `HttpContract`."""
        return Order(-number)

    async def publish_unsayable(self, runtime: Runtime) -> None:
        """See `HttpContract`."""
        await runtime.publish(Order(0), id="\ud800")
