"""A reload: the settings are read anew, checked as at a start, and their difference is applied.

Owns the order of these steps, and that one reload follows the other.
Never knows who asks for a reload, nor where the settings are: it calls a function that reads them.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar

import attrs
import structlog
import trio

from .._faults._errors import ConfigurationError, ReloadRefusedError, StaleSettingsError
from .._faults._masking import forget, know
from .._program._collector import Faults
from .._program._difference import Change, Difference, applicable, difference
from .._program._finder import PACKAGE, is_within
from .._program._generations import Generation, digests, imported_by, importing, modules
from .._program._loader import check
from .._program._overlay import patched, refuse_impossible
from .._program._overlay_file import Draft, as_toml
from .._program._reading import Read
from .._program._settings import Settings
from .._program._versions import code_versions
from .._runtime import Runtime
from ._attempt import Attempt
from ._changeover import Changeover
from ._departure import Departure
from ._looking import Looking
from ._patches import hints_of_plugins, moved, refuse_overridden, refuse_unknown
from ._versions import Versions

T = TypeVar("T")

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger("trivet")


@attrs.frozen
class _Found:
    """The outcome of a look at the settings and the files."""

    difference: Difference
    digests: Mapping[str, str | None]
    draft: Draft | None = None
    """The new overlay, where the settings are changed."""


_Look = Callable[[Attempt], _Found]
"""A look at the settings and the files, which notes with the attempt what it makes."""


class Reloader:
    """The reloads of one program that runs.

    Args:
        runtime: the program.
        read: reads the settings, and collects their faults.
        in_loop: whether the event loop itself reads and imports: where time is a test's, a thread
            would be late.
    """

    def __init__(self, runtime: Runtime, read: Read, *, in_loop: bool = False) -> None:
        self._in_loop = in_loop
        self._runtime = runtime
        self._read = read
        self._turn = trio.Lock()
        self._versions = Versions(runtime)

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

    async def change_settings(
        self, patch: Mapping[str, Any], version: str | None
    ) -> tuple[tuple[Change, ...], str | None]:
        """Change settings, and write them to the overlay; see `reload`.

        The settings' file is read anew, too, and the plugins' code is not.

        Args:
            patch: a JSON merge patch of the overlay's content.
            version: the version of the settings that were seen; None for any.

        Returns:
            All changes, and the version that they have made; None where the program stops.

        Raises:
            StaleSettingsError: the settings have another version by now.
            ConfigurationError: see `reload`; or the environment or the command line sets one of
                the keys, or the overlay cannot be written.
            ReloadRefusedError: see `reload`.
        """
        made: list[str] = []

        async def note_version() -> None:
            """Keep the version that the change has made, before another one comes."""
            made.append(await self._in_thread(self.version))

        look = partial(self._look_at_change, patch, version)
        changes = await self._in_turn(look, note_version)
        return changes, made[0] if made else None

    def version(self) -> str:
        """The version of the settings; see `Versions.current`."""
        return self._versions.current()

    async def _in_thread(self, work: Callable[[], T]) -> T:
        if self._in_loop:
            return work()
        return await trio.to_thread.run_sync(work, limiter=trio.CapacityLimiter(1))

    async def _in_turn(
        self,
        look: _Look,
        then: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint,
    ) -> tuple[Change, ...]:
        """Look and apply, while no other reload does; `then` is called before another one may."""
        changes: tuple[Change, ...] | None = None
        refused: ConfigurationError | ReloadRefusedError | None = None
        async with self._turn, trio.open_nursery() as nursery:
            nursery.start_soon(self._end_with_program, nursery.cancel_scope)
            try:
                changes, departure = await self._apply(look)
                await then()
                await departure.over.wait()  # A stop of the program does not wait for it.
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

    async def _apply(self, look: _Look) -> tuple[tuple[Change, ...], Departure]:
        if self._runtime.stopping.is_set():
            raise ReloadRefusedError("the program stops")
        attempt = Attempt()
        try:
            found = look(attempt) if self._in_loop else await self._look_in_thread(look, attempt)
            draft = found.draft
            commit = None if draft is None else draft.take_place
            departure = await Changeover(self._runtime, found.difference, commit).run()
        except BaseException:
            attempt.give_up()
            raise
        finally:
            forget(attempt)  # The program masks the secrets now, if they are its own.
        self._runtime.digests = found.digests
        if draft is not None:
            await self._settle(draft)
        return found.difference.changes, departure

    async def _look_in_thread(self, look: _Look, attempt: Attempt) -> _Found:
        """Look in a thread of its own: plugins may have taken all of Trio's.

        An import or a disk that hangs cannot be ended: the thread is left behind, and works for an
        attempt that is given up.
        """
        limit = self._runtime.program.settings.startup.limit
        thread = Looking(partial(look, attempt))
        with trio.move_on_after(limit):
            return await trio.to_thread.run_sync(
                thread.run, limiter=trio.CapacityLimiter(1), abandon_on_cancel=True
            )
        said = f"the new code is not imported within {limit:g} s (`startup.limit`); it stands at"
        raise ReloadRefusedError(f"{said} {thread.place()}")

    async def _settle(self, draft: Draft) -> None:
        """Wait until the overlay is on the disk; what was changed stays so."""
        try:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(draft.settle, limiter=trio.CapacityLimiter(1))
        except OSError as error:
            _log.error("a power cut may bring the old overlay back", error=str(error))

    # In a thread.

    def _look_at_all(self, attempt: Attempt) -> _Found:
        """Read, check and compare."""
        faults = Faults()
        read = self._read(faults).settings
        faults.check()
        names = importing(self._changed())
        found = self._look(attempt, self._applicable(read), read, names)
        changes = (*found.difference.changes, *self._installed_anew())
        return attrs.evolve(found, difference=attrs.evolve(found.difference, changes=changes))

    def _look_at_change(
        self, patch: Mapping[str, Any], version: str | None, attempt: Attempt
    ) -> _Found:
        """Read, change, write a draft of the overlay, check and compare."""
        if version is not None and version != self._versions.current():
            raise StaleSettingsError("the settings are not those any more that were seen")
        faults = Faults()
        refuse_impossible(patch)
        before: Mapping[str, Any] = {}

        def change(overlaid: Mapping[str, Any]) -> Mapping[str, Any]:
            nonlocal before
            before = overlaid
            return patched(overlaid, patch)

        hints = hints_of_plugins(self._runtime.program)
        read = self._read(faults, change, hints).settings
        with faults.collect():
            refuse_unknown(patch, before, read, self._runtime.program)
        with faults.collect():
            refuse_overridden(patch, read)
        content, file = b"", read.written.overlay
        with faults.collect():
            content = as_toml(read.written.overlaid)
        faults.check()
        assert file is not None
        attempt.go_on()
        draft = Draft(file, content)
        attempt.made(draft.discard)
        found = self._look(attempt, self._applicable(read), read, set())
        told = found.difference.changes
        changes = (*told, *moved(patch, before, read.written.overlaid, told))
        different = attrs.evolve(found.difference, changes=changes)
        return attrs.evolve(found, difference=different, draft=draft)

    def _applicable(self, read: Settings) -> Settings:
        has_store = self._runtime.store is not None
        settings = applicable(self._runtime.program.settings, read, has_store=has_store)
        self._runtime.check_doors(settings)
        return settings

    def _installed_anew(self) -> Iterator[Change]:
        """The plugins that are installed, and whose files are not those that were imported."""
        for name, host in self._runtime.hosts.items():
            cls = type(host.plugin)
            known = self._runtime.code[cls]
            if not is_within(known.module, PACKAGE) and (
                code_versions([cls])[cls].sha256 != known.sha256
            ):
                yield Change(f"plugins.{name}", "needs a restart", "its code is installed")

    def _look_at_plugin(self, plugin: str, attempt: Attempt) -> _Found:
        """Check the plugin's code, by the settings that hold."""
        settings = self._runtime.program.settings
        module = type(self._runtime.host(plugin).plugin).__module__
        if not is_within(module, PACKAGE):
            said = f"plugin {plugin!r} is {module}, which is installed: its code needs a restart"
            raise ReloadRefusedError(said, plugin=plugin)
        root = ".".join(module.split(".")[:2])  # A folder is reloaded as a whole.
        own = {name for name in modules() if is_within(name, root)}
        names = importing(own | (self._changed() & imported_by(own)))
        return self._look(attempt, settings, settings, names)

    def _changed(self) -> set[str]:
        """The modules whose files are not those that were imported."""
        known = self._runtime.digests
        return {name for name, digest in digests().items() if known.get(name, digest) != digest}

    def _look(
        self, attempt: Attempt, settings: Settings, read: Settings, names: set[str]
    ) -> _Found:
        faults, generation = Faults(), Generation(names)
        attempt.made(generation.undo)
        before = {name: digest for name, digest in digests().items() if name in names}
        known = self._runtime.digests
        kept = {name: known[name] for name in known.keys() - names}
        generation.begin()
        new = check(settings, faults, mounts=False)
        generation.imported()
        faults.check()
        assert new is not None
        found = difference(self._runtime.program, new, read)
        know(attempt, new.secrets())
        return _Found(found, {**digests(), **kept, **before})

    async def over(self) -> None:
        """Wait until no reload is under way."""
        async with self._turn:
            pass


@asynccontextmanager
async def reloading(
    runtime: Runtime, read: Read, *, in_loop: bool = False
) -> AsyncGenerator[Reloader]:
    """Let the program be reloaded within this block, whose end begins its stop.

    Args:
        runtime: the program, which runs.
        read: reads the settings, and collects their faults.
        in_loop: see `Reloader`.
    """
    reloader = Reloader(runtime, read, in_loop=in_loop)
    runtime.reloads = reloader
    try:
        yield reloader
    finally:
        runtime.begin_stop()
        with trio.CancelScope(shield=True):
            await reloader.over()
