"""Tells people in a chat what happens: announcements, and plugins that are not well.

Shows a subscriber of two event types, a choice of events, and which answers are worth a repetition.
"""

from __future__ import annotations

from http import HTTPStatus

import attrs
import httpx

from trivet import (
    DeliverySettings,
    Event,
    EventPlugin,
    PermanentError,
    PluginStatusEvent,
    RetryAfter,
    Secret,
    Status,
)


class Announcement(Event):
    """Something that people should read."""

    text: str


class ChatNotifier(EventPlugin[Announcement | PluginStatusEvent]):
    """Posts messages to an incoming webhook, as Slack, Mattermost and others have it."""

    delivery = DeliverySettings(retry=True)

    url: Secret
    """The address of the webhook. Whoever knows it may post, so no log shows it."""
    statuses: list[Status] = attrs.field(factory=lambda: [Status.FAILED, Status.DEGRADED])
    """The statuses of plugins that people are told of."""

    _client: httpx.AsyncClient

    def wants(self, event: Announcement | PluginStatusEvent) -> bool:
        """Leave out the statuses that nobody wants to read about."""
        return isinstance(event, Announcement) or event.status in self.statuses

    async def initialize(self) -> None:
        """Keep one client, and its connection, for the lifetime."""
        self._client = await self.enter(httpx.AsyncClient(trust_env=False))

    async def handle_event(self, event: Announcement | PluginStatusEvent) -> None:
        """Post one message."""
        answer = await self._client.post(self.url.reveal(), json={"text": text_of(event)})
        if answer.status_code == HTTPStatus.TOO_MANY_REQUESTS:
            raise RetryAfter(float(answer.headers.get("Retry-After", 1)), "the chat is busy")
        if answer.is_client_error:
            raise PermanentError(f"the chat refuses the message: {answer.status_code}")
        answer.raise_for_status()


def text_of(event: Announcement | PluginStatusEvent) -> str:
    """The event in one line."""
    if isinstance(event, Announcement):
        return event.text
    reason = f": {event.reason}" if event.reason else ""
    return f"{event.plugin} is {event.status}{reason}"
