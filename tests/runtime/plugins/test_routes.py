"""`@route`: declarations, the routes of a class, and the answers."""

from __future__ import annotations

from collections.abc import Callable
from types import new_class
from typing import cast

import pytest

from trivet import BackgroundPlugin, DefinitionError, Handler, Plugin, route, websocket_route
from trivet._events._delivery_settings import DeliveryPolicy
from trivet._plugins._instance import create_plugin
from trivet._plugins._plugin import App
from trivet._plugins._routes import Route, routes_of


class Teapot(BackgroundPlugin):
    temperature: int = 20

    @route("/teapot")
    async def show(self) -> str:
        return f"{self.temperature} degrees"

    @route("/pot/<size>", methods=["put", "DELETE"])
    @route("/teapot/<size>", methods=("POST",))
    async def brew(self, size: str) -> str:
        return f"a {size} pot at {self.temperature}"

    @route("/cups/<int:number>")
    @route("/cups")
    class Cups(Handler["Teapot"]):
        """Answers with one cup, or the first."""

        async def get(self, number: int = 0) -> str:
            return f"cup {number} at {self.plugin.temperature}"

        async def delete(self, number: int = 0) -> object:
            return self


class Samovar(Teapot):
    @route("/samovar")
    async def show(self) -> str:
        return "hot"


def declared(plugin: type[Plugin]) -> set[tuple[str, tuple[str, ...], str]]:
    """Path, methods and attribute of each route."""
    return {(route.path, route.methods, route.attribute) for route in routes_of(plugin)}


def the_route(path: str, plugin: type[Plugin] = Teapot) -> Route:
    """The plugin's only route at a path."""
    (found,) = [route for route in routes_of(plugin) if route.path == path]
    return found


@pytest.fixture
def teapot() -> Teapot:
    """A plugin at 30 degrees."""
    return create_plugin(
        "teapot", Teapot, cast(App, None), {"temperature": 30}, None, DeliveryPolicy()
    )


OF_TEAPOT = {
    ("/teapot", ("GET",), "show"),
    ("/teapot/<size>", ("POST",), "brew"),
    ("/pot/<size>", ("PUT", "DELETE"), "brew"),
    ("/cups", ("GET", "DELETE"), "Cups"),
    ("/cups/<int:number>", ("GET", "DELETE"), "Cups"),
}


def test_declarations() -> None:
    """A target may have several routes; GET is the default of a method."""
    assert len(list(routes_of(Teapot))) == len(OF_TEAPOT)
    assert declared(Teapot) == OF_TEAPOT


def test_inheritance() -> None:
    """A subclass has its base's routes, except for attributes that it declares anew."""
    expected = OF_TEAPOT - {("/teapot", ("GET",), "show")} | {("/samovar", ("GET",), "show")}
    assert declared(Samovar) == expected
    assert declared(Teapot) == OF_TEAPOT


def test_inherited_handler() -> None:
    """A handler class inherits its base's methods, and not the base's paths."""

    class Saucers(BackgroundPlugin):
        @route("/saucers")
        class Big(Teapot.Cups):
            async def post(self) -> None:
                return None

    assert declared(Saucers) == {("/saucers", ("GET", "POST", "DELETE"), "Big")}
    assert declared(Teapot) == OF_TEAPOT


def test_a_websocket_is_a_route_of_its_own_kind() -> None:
    """A websocket's route is inherited as any other, and is no request's route."""

    class Singing(Teapot):
        @websocket_route("/song/<int:verse>")
        async def song(self, verse: int) -> None:
            return None

    class Samovar(Singing):
        pass

    (websocket,) = [route for route in routes_of(Samovar) if route.is_websocket]
    assert websocket == Route("/song/<int:verse>", ("GET",), "song", is_websocket=True)
    assert not the_route("/teapot", Samovar).is_websocket


def test_a_plugin_without_routes_has_none() -> None:
    """Nothing in a plugin is a route without `@route`."""
    assert declared(BackgroundPlugin) == set()


async def test_a_method_answers_with_the_paths_variables(teapot: Teapot) -> None:
    """A method is called on the plugin, with the variables by name."""
    assert await the_route("/teapot").answer(teapot, "GET", {}) == "30 degrees"
    brewed = await the_route("/teapot/<size>").answer(teapot, "POST", {"size": "big"})
    assert brewed == "a big pot at 30"


async def test_a_subclass_answers_an_inherited_route() -> None:
    """The route of a base calls the subclass's instance."""
    samovar = create_plugin(
        "samovar", Samovar, cast(App, None), {"temperature": 90}, None, DeliveryPolicy()
    )
    answer = await the_route("/pot/<size>", Samovar).answer(samovar, "PUT", {"size": "huge"})
    assert answer == "a huge pot at 90"
    assert await the_route("/samovar", Samovar).answer(samovar, "GET", {}) == "hot"


async def test_methods_of_a_handler(teapot: Teapot) -> None:
    """A handler class knows the plugin, and `get` answers HEAD where there is no `head`."""
    cups = the_route("/cups/<int:number>")
    assert await cups.answer(teapot, "GET", {"number": 3}) == "cup 3 at 30"
    assert await cups.answer(teapot, "HEAD", {"number": 3}) == "cup 3 at 30"


async def test_each_request_has_a_handler_of_its_own(teapot: Teapot) -> None:
    """An instance of a handler class serves one request."""
    cups = the_route("/cups")
    first, second = [await cups.answer(teapot, "DELETE", {}) for _ in range(2)]
    assert isinstance(first, Teapot.Cups)
    assert first is not second


async def test_a_handlers_own_head_is_used(teapot: Teapot) -> None:
    """A handler class that has `head` answers HEAD with it."""

    class Steaming(BackgroundPlugin):
        @route("/steam")
        class Steam(Handler["Steaming"]):
            async def get(self) -> str:
                return "get"

            async def head(self) -> str:
                return "head"

    plugin = create_plugin("steaming", Steaming, cast(App, None), {}, None, DeliveryPolicy())
    assert await the_route("/steam", Steaming).answer(plugin, "HEAD", {}) == "head"


async def method(self: Plugin) -> None:
    """An async method, on which a route may stand."""


def sync(self: Plugin) -> None:
    """A method that is not async."""


class Empty(Handler[Plugin]):
    pass


class Full(Handler[Plugin]):
    async def get(self) -> None: ...


@pytest.mark.parametrize(
    ("declare", "target", "says"),
    [
        (lambda: route("teapot"), method, r"'teapot'.* starts with '/'"),
        (lambda: route("/x", methods=["GET", "BREW"]), method, "BREW is not an HTTP method"),
        (lambda: route("/x"), sync, "async methods and subclasses of Handler, not for 'sync'"),
        (lambda: route("/x"), object, "not for 'object'"),
        (lambda: route("/x"), Empty, "Empty has no method such as get or post"),
        (lambda: route("/x", methods=["GET"]), Full, "Full: a handler class names its methods"),
        (lambda: websocket_route("x"), method, r"@websocket_route\('x'\): a path starts with '/'"),
        (lambda: websocket_route("/x"), sync, "is for async methods, not for 'sync'"),
        (lambda: websocket_route("/x"), Full, "is for async methods, not for 'Full'"),
    ],
)
def test_a_wrong_route_is_an_error(
    declare: Callable[[], Callable[[object], object]], target: object, says: str
) -> None:
    """A path without a slash, an unknown method or a wrong target is refused with its name."""
    with pytest.raises(DefinitionError, match=says):
        declare()(target)


def test_a_handlers_methods_are_async() -> None:
    """A handler class with a plain method named after an HTTP method is refused."""
    with pytest.raises(DefinitionError, match=r"Lazy\.post is not an async method"):
        new_class("Lazy", (Full,), exec_body=lambda body: body.update(post=sync))
