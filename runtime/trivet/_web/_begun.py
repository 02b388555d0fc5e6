"""The handler of a plugin's route, called before it is known whether it waits.

Owns the call of the handler up to its end or its first wait, its mark, and its Quart contexts.
Never knows how a request is answered, nor the layers around it.

Most handlers return without a wait. What is needed only for one that waits, such as a watch over
its client, begins afterwards: between its first wait and the event loop, which learns of the wait
when `finish` is awaited. Nothing may wait in between, and no scope be opened.
"""

from __future__ import annotations

from collections.abc import Coroutine, Generator, Mapping
from contextvars import Context, Token, copy_context
from types import FrameType
from typing import TYPE_CHECKING, Any

import attrs

from .._faults._containment import split_cancelled
from .._loop._tasks import plugin_of_task
from .._runtime import Runtime
from ._crashes import fault_of

if TYPE_CHECKING:
    from werkzeug.routing import Rule

    from .._plugins._routes import Route
    from .._supervision._host import Host
    from ._context import RequestContext
    from ._quart._detached import Detached

BEGUN = "trivet.begun"
"""The extension of Trivet's own server with a request whose handler has been called; a `Begun`."""


@attrs.frozen
class Match:
    """The route of one request."""

    host: Host
    route: Route
    rule: Rule
    variables: Mapping[str, Any]


class Begun:
    """One request whose handler has been called.

    Args:
        runtime: the program.
        context: the request.
        match: its route.
        detached: Quart's contexts of the request, and the place for the handler's outcome.
    """

    __slots__ = ("_interrupt", "_mark", "_rest", "_runtime", "_variables", "context", "detached",
                 "match", "unmarked")  # fmt: skip

    def __init__(
        self, runtime: Runtime, context: RequestContext, match: Match, detached: Detached
    ) -> None:
        self.context = context
        self.match = match
        self.detached = detached
        self.unmarked: Context = copy_context()
        """The context without the mark of the plugin."""
        self._runtime = runtime
        self._rest: Rest | None = None
        self._interrupt: BaseException | None = None
        self._mark: Token[str] = plugin_of_task.set(match.host.name)  # Its time is the plugin's.
        self._variables = detached.enter()
        try:
            answering = match.route.answer(match.host.plugin, context.method, dict(match.variables))
            self._rest = Rest(answering, answering.send(None))
        except StopIteration as end:
            detached.answer = end.value
        except BaseException as error:  # noqa: ASYNC103 - a cancellation goes on in `finish`
            if split_cancelled(error)[0] is None:
                detached.fault = error
            else:
                self._interrupt = error
        finally:
            if self._rest is None:
                self._leave()

    @property
    def waits(self) -> bool:
        """Whether the handler has not returned: `finish` is to be awaited next."""
        return self._rest is not None or self._interrupt is not None

    async def finish(self) -> None:
        """Await the rest of a handler that waits; its cancellation is raised."""
        rest, self._rest = self._rest, None
        interrupt, self._interrupt = self._interrupt, None
        try:
            if rest is not None:
                self.detached.answer = await rest
        except BaseException as error:  # noqa: ASYNC103 - a cancellation goes on
            if split_cancelled(error)[0] is None:
                self.detached.fault = error
            else:
                interrupt = error
        finally:
            if rest is not None:
                self._leave()
        if interrupt is not None:
            fault_of(interrupt, self._runtime)  # It raises the cancellation.

    def _leave(self) -> None:
        if self._runtime.meter is not None:
            self._runtime.meter.split()
        self.detached.leave(self._variables)
        plugin_of_task.reset(self._mark)


class Rest(Generator[Any, Any, Any]):
    """The rest of a coroutine after its first wait.

    An event loop and `iter_await_frames` of Trio see through it: it has the attributes of a
    coroutine that they read.

    Args:
        coroutine: the coroutine, which has begun.
        trap: the value that it has yielded: what it waits for.
    """

    __slots__ = ("_coroutine", "_is_told", "_trap")

    def __init__(self, coroutine: Coroutine[Any, Any, Any], trap: object) -> None:
        self._coroutine = coroutine
        self._trap = trap
        self._is_told = False

    def __await__(self) -> Generator[Any, Any, Any]:
        return self

    def send(self, value: Any) -> Any:
        """Go on until the next wait; the first time, tell what is waited for already."""
        if self._is_told:
            return self._coroutine.send(value)
        self._is_told = True
        return self._trap

    def throw(self, *error: Any) -> Any:  # As coroutines have it.
        """Go on with an exception until the next wait."""
        return self._coroutine.throw(*error)

    def close(self) -> None:
        """End the coroutine where it waits."""
        self._coroutine.close()

    @property
    def cr_frame(self) -> FrameType | None:
        """The frame of the coroutine, for stacks of tasks."""
        frame: FrameType | None = getattr(self._coroutine, "cr_frame", None)
        return frame

    @property
    def cr_await(self) -> Any:
        """The awaitable of the coroutine, for stacks of tasks."""
        return getattr(self._coroutine, "cr_await", None)
