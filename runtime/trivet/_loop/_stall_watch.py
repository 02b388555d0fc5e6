"""The stall watch: a thread reports who holds the event loop while it is held.

Owns the thread, its reports, how often it repeats them, and when it samples the loop's stack.
Never knows plugins but by name; `_meter` counts their use of the loop.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress

import attrs
import structlog
import trio

from .._faults._frames import Authors, Line, stack_below
from .._faults._masking import mask_beginning
from .._program._settings import StallSettings
from ._meter import Held, StallMeter, Step, plugin_of
from ._processor import Sample
from ._profile import Profile
from ._tasks import name_of

REPEAT_AFTER = 60.0
"""Seconds in which the same line of the same plugin is not reported again."""
CHECK_EVERY = 1.0
"""Seconds between two checks of the meter, and two distributions of processor time."""
SAMPLE_EVERY = 0.01
"""Seconds between two samples of a stall."""
LONGEST_NAME = 200
"""Characters of a task's name that are kept."""

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger("trivet")

COMPUTES = (
    "let others have their turn, by `await trio.lowlevel.checkpoint()` in its loops, or have it "
    "done in a thread, by `await trio.to_thread.run_sync(…)`"
)
RUNS_ASYNCIO = (
    "asyncio.run() stops Trio's loop until it returns: derive the class from AsyncioPlugin, too, "
    "and `await` the coroutine"
)
WAITS = (
    "use Trio's own, such as `await trio.sleep(…)`, or call it in a thread, by "
    "`await trio.to_thread.run_sync(…)`"
)


@contextmanager
def watching(
    settings: StallSettings,
    homes: Mapping[str, str],
    limit_of: Callable[[str, float], float],
) -> Generator[StallMeter | None]:
    """Measure and watch the loop that runs this; gives None if the operator wants neither.

    Args:
        settings: the operator's settings.
        homes: the module, or the package, of each plugin's code.
        limit_of: seconds for which a plugin may hold the loop, by its name and the moment at which
            the step began.
    """
    if not settings.enabled:
        yield None
        return
    meter = StallMeter(settings.warn, limit_of)
    watch = StallWatch(meter, settings, homes)
    trio.lowlevel.add_instrument(meter)
    watch.start()
    try:
        yield meter
    finally:
        watch.stop()
        with suppress(KeyError):  # A plugin has removed the meter.
            trio.lowlevel.remove_instrument(meter)


@attrs.define(eq=False)
class _Sampled:
    """A stall that is being sampled."""

    step: Step
    profile: Profile
    at: str
    runs_asyncio: bool


class StallWatch:
    """Reads the meter from a thread, twice within the time after which it has to report.

    While a plugin holds the loop for too long, it reads the stack of the loop's thread as well.
    """

    def __init__(
        self, meter: StallMeter, settings: StallSettings, homes: Mapping[str, str]
    ) -> None:
        self._meter = meter
        self._settings = settings
        self._homes = homes
        self._sampled: _Sampled | None = None
        self._seen: Step | None = None
        self._loop = threading.get_ident()
        self._token = trio.lowlevel.current_trio_token()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="trivet stalls", daemon=True)
        self._warned: Step | None = None
        self._alarmed: Step | None = None
        self._said: dict[tuple[str, str, str], tuple[float, int]] = {}
        self._cpu = 0.0
        self._busy: dict[str, float] = {}
        self._answered = False
        self._steps: int = 0

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; a report under way may still come."""
        self._over.set()
        self._thread.join(timeout=0.1)

    def _watch(self) -> None:
        next_check = time.monotonic() + CHECK_EVERY
        self._cpu = self._meter.sample().used
        while not self._over.wait(self._pause()):
            step, now = self._meter.step, self._meter.sample()
            if step is not None:
                self._look_at(step, now)
            if step is None or step is not self._seen:  # A sample from before the step stays.
                self._meter.samples = self._meter.samples[1], now
            self._seen = step
            while self._meter.ended:
                self._close(*self._meter.ended.popleft())
            if time.monotonic() >= next_check:
                next_check = time.monotonic() + CHECK_EVERY
                self._share_cpu()
                self._check_meter()

    def _pause(self) -> float:
        usual, sampled = self._settings.warn / 2, self._sampled
        is_held = sampled is not None and sampled.step is self._meter.step
        return min(usual, SAMPLE_EVERY) if is_held else usual

    def _look_at(self, step: Step, now: Sample) -> None:
        if now.at - step[1] < self._settings.warn:
            return
        held = self._meter.held_so_far(step, now)
        limit = self._meter.limit_of(step)
        if held.seconds < limit:
            return
        frame = sys._current_frames().get(self._loop)  # pyright: ignore[reportPrivateUsage]
        if frame is None or self._meter.step is not step:
            return  # The step is over by now; one that was not reported is reported as such.
        lines = stack_below(frame)
        self._sample(step, lines, now.at)
        is_usual = limit == self._settings.warn
        if is_usual and held.seconds >= self._settings.error and self._alarmed is not step:
            self._warned = self._alarmed = step
            self._say("error", step, held, lines)
        elif self._warned is not step:
            self._warned = step
            self._say("warning", step, held, lines)

    def _sample(self, step: Step, lines: Sequence[Line], at: float) -> None:
        sampled = self._sampled
        if sampled is None or sampled.step is not step:
            authors = Authors(self._homes.get(plugin_of(step), ""))
            sampled = self._sampled = _Sampled(
                step, Profile(authors, SAMPLE_EVERY), authors.place(lines), _runs_asyncio(lines)
            )
        sampled.profile.add(lines, at)

    def _say(self, level: str, step: Step, held: Held, lines: Sequence[Line]) -> None:
        plugin = plugin_of(step)
        authors = Authors(self._homes.get(plugin, ""))
        at = authors.place(lines)
        left_out = self._left_out(level, plugin, at)
        if left_out is not None:
            log = _log.error if level == "error" else _log.warning
            log(
                "the event loop is held",
                plugin=plugin,
                at=at,
                seconds=round(held.seconds, 3),
                **_doing(held, runs_asyncio=_runs_asyncio(lines)),
                task=step[0].name,
                left_out=left_out,
                stack=authors.stack(lines),
            )

    def _left_out(self, level: str, plugin: str, at: str) -> int | None:
        """The number of reports left out since the last; None to leave this one out, too."""
        now = time.monotonic()
        last, left_out = self._said.get((level, plugin, at), (-REPEAT_AFTER, 0))
        if now - last < REPEAT_AFTER:
            self._said[level, plugin, at] = last, left_out + 1
            return None
        self._said[level, plugin, at] = now, 0
        return left_out

    def _close(self, step: Step, held: Held) -> None:
        plugin, seconds = plugin_of(step), round(held.seconds, 3)
        self._keep(step, held)
        if step is self._alarmed:
            _log.info("the event loop is free again", plugin=plugin, seconds=seconds)
        elif step is not self._warned and self._left_out("late", plugin, "") is not None:
            # This thread had no turn while the loop was held, or had it too late.
            _log.warning(
                "the event loop was held",
                plugin=plugin,
                seconds=seconds,
                **_doing(held, runs_asyncio=False),
                task=step[0].name,
            )

    def _keep(self, step: Step, held: Held) -> None:
        """Keep a stall that is over, if it was sampled."""
        sampled = self._sampled
        if sampled is None or sampled.step is not step:
            return
        self._sampled = None
        plugin, seconds = plugin_of(step), round(held.seconds, 3)
        self._meter.kept.keep(
            plugin=plugin,
            began=step[1],
            seconds=seconds,
            doing=_doing(held, runs_asyncio=sampled.runs_asyncio)["doing"],
            task=mask_beginning(name_of(step[0]), LONGEST_NAME),
            at=sampled.at,
            document=sampled.profile.document(f"{plugin}: {seconds} s"),
        )

    def _share_cpu(self) -> None:
        """Distribute the loop's processor time among the plugins, by how busy each was."""
        busy = {plugin: account.busy for plugin, account in list(self._meter.accounts.items())}
        grown = {plugin: busy[plugin] - self._busy.get(plugin, 0.0) for plugin in busy}
        total = sum(grown.values())
        if total == 0:
            return  # The loop was idle, or in one long step, which is charged at its end.
        now = self._meter.sample().used
        used, self._cpu, self._busy = now - self._cpu, now, busy
        for plugin, seconds in grown.items():
            self._meter.accounts[plugin].cpu += used * seconds / total

    def _check_meter(self) -> None:
        """Report once that the meter is gone: the loop has answered, and no step was counted."""
        if self._answered and self._meter.steps == self._steps:
            _log.error("somebody has removed the meter of the event loop: stalls go unseen")
            self._over.set()
        self._answered, self._steps = False, self._meter.steps
        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(self._answer, idempotent=True)

    def _answer(self) -> None:
        self._answered = True


def _runs_asyncio(lines: Sequence[Line]) -> bool:
    return any(frame.f_globals.get("__name__") == "asyncio.runners" for frame, _ in lines)


def _doing(held: Held, *, runs_asyncio: bool) -> dict[str, str]:
    """The plugin's activity in the meantime, and a better way to do it."""
    if runs_asyncio:
        return {"doing": "running an asyncio loop", "hint": RUNS_ASYNCIO}
    if held.is_computing:
        return {"doing": "computing", "hint": COMPUTES}
    return {"doing": "waiting in a call", "hint": WAITS}
