"""Plays the chat: it takes messages at `/hooks/ops`, and shows them at `/rooms/ops`."""

from __future__ import annotations

from http import HTTPStatus

import attrs
from quart import request
from quart.typing import ResponseReturnValue

from trivet import BackgroundPlugin, route


class ChatRoom(BackgroundPlugin):
    """A room with the messages that were posted."""

    busy: int = 0
    """Requests that are refused before the first is taken, since there are too many."""
    status: int = HTTPStatus.OK
    """The status of the other answers."""

    _messages: list[str] = attrs.field(factory=list[str])
    _requests: int = 0

    @route("/hooks/ops", methods=["POST"], scope=None)
    async def post(self) -> ResponseReturnValue:
        """Take a message."""
        self._requests += 1
        if self._requests <= self.busy:
            return "slow down", HTTPStatus.TOO_MANY_REQUESTS, {"Retry-After": "0.1"}
        if self.status == HTTPStatus.OK:
            self._messages.append((await request.get_json())["text"])
        return "", self.status

    @route("/rooms/ops")
    async def messages(self) -> dict[str, list[str]]:
        """Answer with the messages."""
        return {"messages": self._messages}
