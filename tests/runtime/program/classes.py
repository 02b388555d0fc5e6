"""Plugin classes made to measure."""

from __future__ import annotations

from typing import Any

from trivet import BackgroundPlugin, Event, EventPlugin, Plugin, SendingEvent, route


def with_route(name: str, path: str, *methods: str) -> type[Plugin]:
    """A plugin class with one route."""

    async def answer(self: Plugin, **variables: str) -> str:
        return ""

    body = {"answer": route(path, methods=methods)(answer), "__module__": __name__}
    return type(name, (BackgroundPlugin,), body)


def plugin(name: str, *needs: type[Plugin] | str, base: Any = BackgroundPlugin) -> type[Any]:
    """A plugin class of a tier that needs others."""

    async def method(self: Plugin, *event: Event) -> None: ...

    methods = {"run": method} if base is not BackgroundPlugin else {}
    return type(name, (base,), {"needs": needs, "name": name, **methods, "__module__": __name__})


class Audit(EventPlugin[SendingEvent]):
    async def handle_event(self, event: SendingEvent) -> None: ...
