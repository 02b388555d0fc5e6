"""One lifetime of a plugin: `initialize`, `run`, `close`.

Owns the scopes around these three, and the deadlines on them.
Never knows whether there was a lifetime before, or will be another.
"""

from __future__ import annotations

import math
from typing import Protocol

import structlog
import trio

from .._events._delivery import delivery_of_task
from .._faults._acts import noted
from .._faults._advice import explained
from .._faults._containment import split_cancelled, split_failure
from .._faults._frames import Authors, home_of, lines_of
from .._plugins._instance import backend_of, resources_of
from .._plugins._plugin import Plugin
from .._plugins._resources import Resources


class Owner(Protocol):
    """The owner of a lifetime, which is called at its turns."""

    def began(self) -> None:
        """Take note that `initialize` has returned."""

    async def turn(self) -> None:
        """Wait until the plugin may run: it may have initialized beside its predecessor."""

    async def ending(self) -> None:
        """Take note that `run` has ended, and `close` is next. Shields itself where it waits."""


class Lifetime:
    """A scope around the plugin's resources around a scope around its `run()`.

    The outer scope is shielded once the plugin has started, so that a cancellation from outside
    reaches the plugin as an orderly stop. Before that, a cancellation ends a hanging `initialize`.

    Args:
        plugin: the plugin.
        owner: called when `initialize` has returned, and when `run` has ended.
        start_limit: seconds for `initialize`.
        close_limit: seconds for `close` and for the resources after it.
        contains_interrupts: whether a KeyboardInterrupt is a fault of the plugin. It is not where
            Python makes one of Ctrl-C.
        runs: whether `run` is called; without it, the lifetime waits for its end.
    """

    def __init__(
        self,
        plugin: Plugin,
        owner: Owner,
        *,
        start_limit: float,
        close_limit: float,
        contains_interrupts: bool,
        runs: bool = True,
    ) -> None:
        self._plugin = plugin
        self._owner = owner
        self._start_limit = start_limit
        self._close_limit = close_limit
        self._contains_interrupts = contains_interrupts
        self._runs = runs
        self.close_failure: BaseException | None = None
        """The failure of `close`, or of the resources after it; it was logged."""
        self._has_begun = False
        self._is_to_end = False
        self._is_ending = False
        self._fault: BaseException | None = None
        self._close_until = math.inf
        self._hung = ""
        self._whole = trio.CancelScope()
        self._work = trio.CancelScope()
        self._closing: trio.CancelScope | None = None

    @property
    def is_ending(self) -> bool:
        """Whether `run` is over, or `initialize` has failed."""
        return self._is_ending

    @property
    def _log(self) -> structlog.typing.FilteringBoundLogger:
        logger: structlog.typing.FilteringBoundLogger = structlog.get_logger(
            plugin=self._plugin.name
        )
        return logger

    def end(self) -> None:
        """Cancel `run`, then close; a lifetime that has not begun is cancelled altogether."""
        self._is_to_end = True
        self._cancel()

    def fail(self, fault: BaseException) -> None:
        """End the lifetime by a failure outside of `run`, as if `run` had raised it."""
        if fault is self._fault:
            return
        if self._is_to_end or self._is_ending or self._fault is not None:
            self._log_late(fault)
        else:
            self._fault = fault
            self._cancel()

    def _cancel(self) -> None:
        (self._work if self._has_begun else self._whole).cancel()

    def _log_late(self, fault: BaseException) -> None:
        self.close_failure = fault
        self._log.error("plugin failed while it stopped", exc_info=explained(fault))

    def stop(self, *, drain_until: float, close_until: float) -> None:
        """Like `end`, but with deadlines, which hold for a `close` under way, too.

        Args:
            drain_until: the deadline of `run`.
            close_until: the deadline of everything.
        """
        self._is_to_end = True
        self._close_until = close_until
        if not self._has_begun:
            self._whole.cancel()
            return
        self._whole.deadline = min(self._whole.deadline, close_until)
        if self._closing is not None:
            self._closing.deadline = min(self._closing.deadline, close_until)
        self.hurry(drain_until)

    def hurry(self, drain_until: float) -> None:
        """Give `run` a deadline, unless it has an earlier one."""
        if drain_until <= trio.current_time():
            self._work.cancel()
        else:
            self._work.deadline = min(self._work.deadline, drain_until)

    async def live(self, *, must_not_return: str | None) -> BaseException | None:
        """Live one lifetime from start to end; returns the failure that ended it, or None.

        A failure is returned where it is the reason of the end, and only logged where the end had
        another reason, since it came late then:

        | the end was asked for | by | what came | becomes |
        |---|---|---|---|
        | no | | an error of `initialize` or `run` | returned |
        | no | | `initialize` over its limit | returned as a TimeoutError |
        | no | | an error of `run`, then a `close` over its limit | the error is returned |
        | yes | `fail` | the error that `fail` was given | returned |
        | yes | `fail` | another error | logged, and `fail`'s is returned |
        | yes | `end`, `stop` | an error | logged, and None is returned |
        | yes | a scope around | an error | logged, and the Cancelled goes on |
        | any | | an operator's KeyboardInterrupt | raised |

        An error of `close` is logged in every case, and the Cancelled of a scope around goes on.

        Args:
            must_not_return: the reason why a `run` that returns has failed; None if its work is
                done then, and its routes and resources live on.
        """
        self._whole.deadline = trio.current_time() + self._start_limit
        crash: BaseException | None = None
        try:
            with self._whole:
                async with Resources() as resources:
                    await self._initialize(resources)
                    try:
                        await self._run(must_not_return)
                    except BaseException as error:
                        # If `close` overruns, we report this crash.
                        _, crash = split_cancelled(error)
                        raise
                    finally:
                        self._is_ending = True
                        delivery_of_task.set(None)  # Closing is not about the last event.
                        await self._owner.ending()  # noqa: ASYNC102 - shielded in there
                        await self._close()  # noqa: ASYNC102 - shielded and bounded in there
        except BaseException as error:  # noqa: ASYNC103 - a cancellation goes on
            failure = self._contain(error)
            if self._fault is None:
                return failure  # noqa: ASYNC104
        if self._fault is not None:
            return self._contain(self._fault)
        if not self._has_begun and not self._is_to_end:
            return TimeoutError(
                f"initialize() took longer than {self._start_limit:g} s; it stood at {self._hung}"
            )
        if self._whole.cancelled_caught and self._has_begun:
            self._log.error("plugin took too long to close its resources")
            self.close_failure = TimeoutError("its resources took too long to close")
        return crash

    async def _initialize(self, resources: Resources) -> None:
        # No scope may be opened around this: the resources that initialize enters outlive it.
        try:
            with (
                noted(f"initialize() of {self._plugin.name!r}"),
                resources_of(self._plugin, resources),
            ):
                await backend_of(self._plugin).initialize(self._plugin)
        except trio.Cancelled as cancelled:
            lines, authors = lines_of(cancelled), Authors(home_of(type(self._plugin).__module__))
            self._hung = f"{authors.place(lines)}\n{authors.stack(lines)}"
            raise
        except BaseException:
            self._is_ending = True
            raise
        # A plugin that has started is closed, whatever came meanwhile: no checkpoint before this.
        self._whole.shield = True
        if self._whole.cancel_called:
            self._is_ending = True
            await self._close()
            await trio.lowlevel.checkpoint_if_cancelled()  # It is.
        self._whole.deadline = math.inf
        self._has_begun = True
        self._owner.began()

    async def _run(self, must_not_return: str | None) -> None:
        with self._work:
            await self._owner.turn()
            if self._runs:
                await self._plugin.run()
            if self._is_to_end:
                return
            if must_not_return is not None and self._runs:
                raise RuntimeError(f"run() returned although {must_not_return}")
            await trio.sleep_forever()  # The work is done; routes and resources live on.

    async def _close(self) -> None:
        until = min(self._close_until, trio.current_time() + self._close_limit)
        self._whole.deadline = until
        with trio.CancelScope(deadline=until, shield=True) as self._closing:
            try:
                with noted(f"close() of {self._plugin.name!r}"):
                    await self._plugin.close()
            except BaseException as error:  # noqa: ASYNC103 - a cancellation goes on
                cancelled, fault = self._split(error)
                if fault is not None:
                    self._log.error("close() failed", exc_info=explained(fault))
                    self.close_failure = fault
                if cancelled is not None:
                    raise cancelled from None  # noqa: ASYNC104
        if self._closing.cancelled_caught:
            self._log.error("close() took too long and was cancelled")
            self.close_failure = TimeoutError("close() took too long and was cancelled")

    def _contain(self, error: BaseException) -> BaseException | None:
        """Contain a failure of any class; the cancellation of a scope around goes on."""
        cancelled, fault = self._split(error)
        is_late = self._is_to_end or cancelled is not None or self._fault not in (None, error)
        if fault is not None and is_late:
            self._log_late(fault)
            fault = None
        if cancelled is not None:
            raise cancelled
        return fault

    def _split(self, error: BaseException) -> tuple[BaseException | None, BaseException | None]:
        return split_failure(error, contains_interrupts=self._contains_interrupts)
