"""Says who holds the event loop while it is held: a thread, since the loop cannot.

Owns the thread, what it says, and how often.
Never knows plugins but by name; what they use is counted by `_stalls`.
"""

from __future__ import annotations

import sys
import sysconfig
import threading
import time
import traceback
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

import structlog
import trio

from .._settings import StallSettings
from ._stalls import StallMeter, Step, plugin_of

AGAIN_AFTER = 60.0
"""Seconds in which the same line of the same plugin is not reported again."""
PULSE = 1.0
"""Seconds between two signs that the meter has to give, and two sharings of processor time."""

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger("trivet")

_LIBRARIES = tuple(
    str(Path(sysconfig.get_path(name)).resolve()) for name in ("stdlib", "platlib", "purelib")
)
_OURS = str(Path(__file__).resolve().parents[1])


@contextmanager
def watching(settings: StallSettings) -> Generator[StallMeter | None]:
    """Measure the loop that this runs in, and watch it; None where the operator wants neither."""
    if not settings.enabled:
        yield None
        return
    meter = StallMeter(settings.warn)
    watch = StallWatch(meter, settings)
    trio.lowlevel.add_instrument(meter)
    watch.start()
    try:
        yield meter
    finally:
        watch.stop()
        with suppress(KeyError):  # A plugin has removed it.
            trio.lowlevel.remove_instrument(meter)


class StallWatch:
    """Looks at the meter from a thread, twice within the time after which it has to speak."""

    def __init__(self, meter: StallMeter, settings: StallSettings) -> None:
        self._meter = meter
        self._settings = settings
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
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; what it says at the moment may still be said."""
        self._over.set()
        self._thread.join(timeout=0.1)

    def _watch(self) -> None:
        next_pulse = time.monotonic() + PULSE
        self._cpu = self._cpu_time()
        while not self._over.wait(self._settings.warn / 2):
            step = self._meter.step
            if step is not None:
                self._look_at(step, time.perf_counter() - step[1])
            while self._meter.ended:
                self._close(*self._meter.ended.popleft())
            if time.monotonic() >= next_pulse:
                next_pulse = time.monotonic() + PULSE
                self._share_cpu()
                self._check_meter()

    def _look_at(self, step: Step, held: float) -> None:
        if held >= self._settings.error and self._alarmed is not step:
            self._warned = self._alarmed = step
            self._say("error", step, held)
        elif held >= self._settings.warn and self._warned is not step:
            self._warned = step
            self._say("warning", step, held)

    def _say(self, level: str, step: Step, held: float) -> None:
        frame = sys._current_frames().get(self._loop)  # pyright: ignore[reportPrivateUsage]
        if frame is None or self._meter.step is not step:
            self._warned = None  # It is over by now, and is told as that.
            return
        at = place(frame)
        left_out = self._left_out(level, plugin_of(step), at)
        if left_out is not None:
            log = _log.error if level == "error" else _log.warning
            log(
                "the event loop is held",
                plugin=plugin_of(step),
                at=at,
                seconds=round(held, 3),
                task=step[0].name,
                left_out=left_out,
                stack="".join(traceback.format_stack(frame)),
            )

    def _left_out(self, level: str, plugin: str, at: str) -> int | None:
        """How often the same was left out before this time; None where it is now, too."""
        now = time.monotonic()
        last, left_out = self._said.get((level, plugin, at), (-AGAIN_AFTER, 0))
        if now - last < AGAIN_AFTER:
            self._said[level, plugin, at] = last, left_out + 1
            return None
        self._said[level, plugin, at] = now, 0
        return left_out

    def _close(self, step: Step, took: float) -> None:
        plugin, seconds = plugin_of(step), round(took, 3)
        if step is self._alarmed:
            _log.info("the event loop is free again", plugin=plugin, seconds=seconds)
        elif step is not self._warned and self._left_out("late", plugin, "") is not None:
            # This thread had no turn meanwhile, or too late a one.
            _log.warning(
                "the event loop was held", plugin=plugin, seconds=seconds, task=step[0].name
            )

    def _cpu_time(self) -> float:
        if sys.platform == "darwin":
            return 0.0  # It has no clock for the processor time of another thread.
        return time.clock_gettime(time.pthread_getcpuclockid(self._loop))

    def _share_cpu(self) -> None:
        """Charge the loop's processor time to the plugins, by how busy each was meanwhile."""
        busy = {plugin: account.busy for plugin, account in list(self._meter.accounts.items())}
        grown = {plugin: busy[plugin] - self._busy.get(plugin, 0.0) for plugin in busy}
        total = sum(grown.values())
        if total == 0:
            return  # Idle, or in one long step, which is charged when it ends.
        now = self._cpu_time()
        used, self._cpu, self._busy = now - self._cpu, now, busy
        for plugin, seconds in grown.items():
            self._meter.accounts[plugin].cpu += used * seconds / total

    def _check_meter(self) -> None:
        """Say once that the meter is gone: the loop has answered, and no step was counted."""
        if self._answered and self._meter.steps == self._steps:
            _log.error("somebody has removed the meter of the event loop: stalls go unseen")
            self._over.set()
        self._answered, self._steps = False, self._meter.steps
        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(self._answer, idempotent=True)

    def _answer(self) -> None:
        self._answered = True


def place(frame: FrameType) -> str:
    """The innermost line that is neither a library's nor Trivet's: `file:line`."""
    innermost = f"{frame.f_code.co_filename}:{frame.f_lineno}"
    looked_at: FrameType | None = frame
    while looked_at is not None:
        file = looked_at.f_code.co_filename
        if not file.startswith((*_LIBRARIES, _OURS, "<")):
            return f"{file}:{looked_at.f_lineno}"
        looked_at = looked_at.f_back
    return innermost
