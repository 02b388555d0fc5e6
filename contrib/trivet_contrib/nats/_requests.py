"""Many requests at once over one connection to NATS, each with its answer.

Owns the reply subjects: one inbox for all requests, and a number for each.
Never knows the meaning of a request, nor Trivet.
"""

# pyright: reportUnknownMemberType=false
# nats-py has keywords without types.

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from itertools import count

from nats.aio.msg import Msg

from .._brokers._client import BrokerUnavailableError
from ._connection import Connection, status_of

NO_RESPONDERS = "503"

Headers = dict[str, str]
OnAnswer = Callable[[int, Msg], bool]
"""Called with the index of a request and a message; returns whether the message is the answer."""


class _Batch:
    """Requests that were sent together, and the number of missing answers."""

    def __init__(self, missing: int, on_answer: OnAnswer) -> None:
        self.missing = missing
        self.on_answer = on_answer
        self.has_strays = False
        """Whether a message came that was no answer."""
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class Requests:
    """The requests on one connection that wait for their answers. Made by `open`."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._client = connection.client
        self._inbox = connection.client.new_inbox()
        self._numbers = count()
        self._waiting: dict[str, tuple[_Batch, int]] = {}

    @classmethod
    async def open(cls, connection: Connection) -> Requests:
        """Subscribe to the answers.

        Raises:
            BrokerUnavailableError: the connection is lost.
        """
        requests = cls(connection)
        with connection.translating():
            await connection.client.subscribe(f"{requests._inbox}.*", cb=requests._on_message)
        return requests

    async def request(
        self, requests: Sequence[tuple[str, bytes, Headers | None]], on_answer: OnAnswer
    ) -> None:
        """Send all requests in order, and wait until each is answered.

        Args:
            requests: subject, body and headers of each.
            on_answer: see `OnAnswer`. A message that is no answer comes from another program that
                listens to the subject.

        Raises:
            BrokerUnavailableError: some request was not answered.
        """
        batch = _Batch(len(requests), on_answer)
        with self.connection.failing(batch.done):
            tokens = [str(next(self._numbers)) for _ in requests]
            self._waiting.update((token, (batch, index)) for index, token in enumerate(tokens))
            try:
                with self.connection.translating():
                    for token, (subject, body, headers) in zip(tokens, requests, strict=True):
                        reply = f"{self._inbox}.{token}"
                        await self._client.publish(subject, body, reply, headers)
                await self._all_answers(batch)
            finally:
                for token in tokens:
                    self._waiting.pop(token, None)

    async def _all_answers(self, batch: _Batch) -> None:
        """Wait for all answers, as long as at least one comes within each time limit."""
        missing = batch.missing + 1
        while not batch.done.done():
            if batch.missing == missing:
                strays = ", except from other programs" if batch.has_strays else ""
                raise BrokerUnavailableError(f"{self.connection.no_answer}{strays}")
            missing = batch.missing
            await asyncio.wait((batch.done,), timeout=self.connection.timeout)
        batch.done.result()

    async def publish(self, messages: Sequence[tuple[str, bytes]]) -> None:
        """Publish all messages, and wait for an answer to the last.

        The server handles the messages of one connection in order, so it has handled the others by
        then.

        Raises:
            BrokerUnavailableError: the last message was not answered.
        """
        *others, (subject, body) = messages
        with self.connection.translating():
            for each, text in others:
                await self._client.publish(each, text)
        await self.request([(subject, body, None)], _is_answer_of_consumer)

    async def _on_message(self, message: Msg) -> None:
        token = message.subject.rpartition(".")[2]
        waiting = self._waiting.get(token)
        if waiting is None:
            return
        batch, index = waiting
        if batch.done.done():
            return
        try:
            if not batch.on_answer(index, message):
                batch.has_strays = True
                return
        except BrokerUnavailableError as error:
            batch.done.set_exception(error)
            return
        del self._waiting[token]
        batch.missing -= 1
        if not batch.missing:
            batch.done.set_result(None)


def _is_answer_of_consumer(_: int, message: Msg) -> bool:
    if status_of(message) == NO_RESPONDERS:
        raise BrokerUnavailableError("the consumer is gone")
    return True
