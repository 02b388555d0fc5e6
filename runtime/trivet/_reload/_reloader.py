"""A reload: the settings are read anew, checked as at a start, and their difference is applied.

Owns the order of these steps, and that one reload follows the other.
Never knows who asks for a reload, nor where the settings are: it calls a function that reads them.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial

import attrs
import structlog
import trio

from .._faults._errors import ConfigurationError, ReloadRefusedError
from .._faults._masking import forget, know
from .._program._collector import Faults
from .._program._difference import Change, Difference, applicable, difference
from .._program._finder import PACKAGE, is_within
from .._program._generations import Generation, digests, imported_by, importing, modules
from .._program._loader import check
from .._program._reading import Reading
from .._program._settings import Settings
from .._runtime import Runtime
from ._changeover import Changeover

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger("trivet")

_one_thread = trio.CapacityLimiter(1)
"""A thread of its own: plugins may have taken all of Trio's."""


@attrs.frozen
class _Found:
    """The outcome of a look at the settings and the files."""

    difference: Difference
    generation: Generation
    digests: Mapping[str, str | None]


class Reloader:
    """The reloads of one program that runs.

    Args:
        runtime: the program.
        read: reads the settings, and collects their faults.
        in_loop: whether the event loop itself reads and imports: where time is a test's, a thread
            would be late.
    """

    def __init__(
        self, runtime: Runtime, read: Callable[[Faults], Reading], *, in_loop: bool = False
    ) -> None:
        self._in_loop = in_loop
        self._runtime = runtime
        self._read = read
        self._turn = trio.Lock()
        self._digests: Mapping[str, str | None] = digests()
        """The digests of the files, as they were imported."""

    async def reload(self) -> tuple[Change, ...]:
        """Read the settings anew, and the files that differ, and apply what has changed.

        Another reload is waited for. The stop of the program ends a reload that has not come to its
        instant.

        Returns:
            All changes, and what needs a restart.

        Raises:
            ConfigurationError: the settings or the code have faults, a line each; nothing has
                changed.
            ReloadRefusedError: a plugin did not start, or the program stops; nothing has changed.
        """
        return await self._in_turn(self._look_at_all)

    async def reload_plugin(self, plugin: str) -> tuple[Change, ...]:
        """Import the code of one plugin anew, with all that imports from it; see `reload`.

        Args:
            plugin: the plugin's name.

        Raises:
            PluginNotActiveError: no plugin has this name.
            ConfigurationError: see `reload`.
            ReloadRefusedError: see `reload`; or the plugin's code is not in the plugins' directory.
        """
        self._runtime.host(plugin)
        return await self._in_turn(partial(self._look_at_plugin, plugin))

    async def _in_turn(self, look: Callable[[], _Found]) -> tuple[Change, ...]:
        changes: tuple[Change, ...] | None = None
        refused: ConfigurationError | ReloadRefusedError | None = None
        async with self._turn, trio.open_nursery() as nursery:
            nursery.start_soon(self._end_with_program, nursery.cancel_scope)
            try:
                changes = await self._apply(look)
            except (ConfigurationError, ReloadRefusedError) as error:
                refused = error
            nursery.cancel_scope.cancel()
        if changes is None:
            refused = refused or ReloadRefusedError("the program stops")
            _log.error("reload refused: nothing has changed", error=str(refused))
            raise refused
        _log.info("reloaded", **{each.what: each.result for each in changes})
        return changes

    async def _end_with_program(self, scope: trio.CancelScope) -> None:
        await self._runtime.stopping.wait()
        scope.cancel()

    async def _apply(self, look: Callable[[], _Found]) -> tuple[Change, ...]:
        if self._in_loop:
            found = look()
        else:
            found = await trio.to_thread.run_sync(look, limiter=_one_thread, abandon_on_cancel=True)
        try:
            await Changeover(self._runtime, found.difference).run()
        except BaseException:
            found.generation.undo()
            raise
        finally:
            forget(self)  # The program masks the secrets now, if they are its own.
        self._digests = found.digests
        return found.difference.changes

    # In a thread.

    def _look_at_all(self) -> _Found:
        """Read, check and compare."""
        faults, old = Faults(), self._runtime.program
        read = self._read(faults).settings
        faults.check()
        settings = applicable(old.settings, read)
        self._runtime.check_doors(settings)
        return self._look(settings, read, importing(self._changed()))

    def _look_at_plugin(self, plugin: str) -> _Found:
        """Check the plugin's code, by the settings that hold."""
        settings = self._runtime.program.settings
        module = type(self._runtime.host(plugin).plugin).__module__
        if not is_within(module, PACKAGE):
            said = f"plugin {plugin!r} is {module}, which is installed: its code needs a restart"
            raise ReloadRefusedError(said, plugin=plugin)
        root = ".".join(module.split(".")[:2])  # A folder is reloaded as a whole.
        own = {name for name in modules() if is_within(name, root)}
        return self._look(settings, settings, importing(own | (self._changed() & imported_by(own))))

    def _changed(self) -> set[str]:
        """The modules whose files are not those that were imported."""
        known = self._digests
        return {name for name, digest in digests().items() if known.get(name, digest) != digest}

    def _look(self, settings: Settings, read: Settings, names: set[str]) -> _Found:
        faults, generation = Faults(), Generation(names)
        before = {name: digest for name, digest in digests().items() if name in names}
        kept = {name: self._digests[name] for name in self._digests.keys() - names}
        try:
            generation.begin()
            new = check(settings, faults, mounts=False)
            generation.imported()
            faults.check()
            assert new is not None
            found = difference(self._runtime.program, new, read)
        except BaseException:
            generation.undo()
            raise
        know(self, new.secrets())
        return _Found(found, generation, {**digests(), **kept, **before})

    async def over(self) -> None:
        """Wait until no reload is under way."""
        async with self._turn:
            pass


@asynccontextmanager
async def reloading(
    runtime: Runtime, read: Callable[[Faults], Reading], *, in_loop: bool = False
) -> AsyncGenerator[Reloader]:
    """Let the program be reloaded within this block, whose end begins its stop.

    Args:
        runtime: the program, which runs.
        read: reads the settings, and collects their faults.
        in_loop: see `Reloader`.
    """
    reloader = Reloader(runtime, read, in_loop=in_loop)
    runtime.reload, runtime.reload_plugin = reloader.reload, reloader.reload_plugin
    try:
        yield reloader
    finally:
        runtime.begin_stop()
        with trio.CancelScope(shield=True):
            await reloader.over()
