"""Events, a stub of the program, and plugins made without a runtime."""

from __future__ import annotations

from typing import Any, TypeVar, cast

import trio

from trivet import (
    Delivery,
    Event,
    Inbox,
    Plugin,
)
from trivet._delivery._bounded import BoundedInbox
from trivet._events._delivery_settings import DeliveryPolicy
from trivet._plugins._instance import create_plugin
from trivet._plugins._plugin import App

PluginT = TypeVar("PluginT", bound=Plugin)


class Ping(Event):
    number: int = 0


class Pong(Event):
    number: int = 0


class StubApp:
    """The part of the app that an instance needs here."""

    def __init__(self) -> None:
        self.stopping = trio.Event()


def make(
    cls: type[PluginT],
    *,
    app: object = None,
    inbox: Inbox[Any] | None = None,
    workers: int = 1,
    **values: object,
) -> PluginT:
    """An instance of a plugin class, made as the runtime makes it."""
    return create_plugin(
        cls.name, cls, cast(App, app), values, inbox, DeliveryPolicy(concurrency=workers)
    )


def an_inbox(*events: Event) -> BoundedInbox:
    """An inbox with events in it."""
    inbox = BoundedInbox("p", DeliveryPolicy(buffer=1000, delivery_limit=3))
    for event in events:
        inbox.admission.offer(Delivery.of(event))
    return inbox
