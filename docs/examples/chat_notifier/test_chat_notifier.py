"""The notifier posts what people want to read, again where that helps, and gives up where not."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from trivet import Fate, PermanentError, Runtime
from trivet.testing import client, open_plugins, serving

PLUGINS = Path(__file__).parent / "plugins"


@asynccontextmanager
async def notifier(*others: str, **chat: int) -> AsyncGenerator[tuple[Runtime, Runtime]]:
    """A program with the notifier, and the chat that it posts to."""
    room = {"chat_room": chat}
    async with (
        open_plugins("chat_room", directory=PLUGINS, settings=room) as chat_room,
        serving(chat_room) as url,
    ):
        soon = {"retry_initial": 0.1}
        settings = {"chat_notifier": {"url": f"{url}/hooks/ops", "delivery": soon}}
        plugins = ("chat_notifier", *others)
        async with open_plugins(*plugins, directory=PLUGINS, settings=settings) as runtime:
            yield runtime, chat_room


def announcement(runtime: Runtime, text: str) -> Any:
    """An announcement, of the program's own class."""
    return runtime.events["announcement"].example(text=text)


async def messages(chat_room: Runtime) -> list[str]:
    """The messages in the room."""
    answer = await client(chat_room).get("/rooms/ops")
    found: list[str] = (await answer.get_json())["messages"]
    return found


async def test_announcements_and_faults_are_told() -> None:
    """An announcement is a message, and so is a plugin that is degraded; a start is none."""
    async with notifier("printer") as (runtime, chat_room):
        await runtime.publish(announcement(runtime, "Dinner is ready"), wait=True)
        told = ["printer is degraded: there is no paper", "Dinner is ready"]
        assert await messages(chat_room) == told


async def test_a_busy_chat_gets_the_message_later() -> None:
    """After a 429 the message comes when the chat has asked for it, once."""
    async with notifier(busy=2) as (runtime, chat_room):
        outcome = await runtime.publish(announcement(runtime, "Tea"), wait=True)
        assert outcome.worst is Fate.HANDLED
        assert await messages(chat_room) == ["Tea"]


async def test_a_message_that_is_refused_is_given_up() -> None:
    """After a 404 there is no other attempt."""
    async with notifier(status=404) as (runtime, _):
        outcome = await runtime.publish(announcement(runtime, "Tea"), wait=True)
        assert outcome.worst is Fate.FAILED
        with pytest.raises(PermanentError, match="404"):
            raise outcome.errors["chat_notifier"]
