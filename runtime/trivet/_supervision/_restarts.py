"""Restarts: the wait before a failed plugin starts again, or the decision to give it up.

Owns the restart intensity: the number of failures within a window that gives a plugin up.
Never knows plugins and clocks: callers pass the time, and get a wait.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from .._faults._backoff import full_jitter
from .._faults._containment import includes
from .._faults._errors import PermanentError
from .._plugins._supervision_settings import SupervisionSettings


class Restarts:
    """The failures of one plugin, and the wait or the end that follows from them.

    >>> restarts = Restarts(SupervisionSettings(max_restarts=1), draw=lambda least, most: most)
    >>> restarts.after_failure(0.0), restarts.after_failure(1.0)
    (0.5, None)
    """

    def __init__(
        self,
        settings: SupervisionSettings,
        draw: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._settings = settings
        self._draw = draw
        self._failures: list[float] = []
        self._in_a_row = 0

    def after_failure(self, now: float, *, counts: bool = True) -> float | None:
        """Seconds to wait before the restart; None when the plugin is to be given up.

        Args:
            now: the time, in seconds, on any one clock.
            counts: whether the failure counts against `max_restarts`.
        """
        since = now - self._settings.restart_window
        self._failures = [failure for failure in self._failures if failure > since]
        if counts:
            self._failures.append(now)
        if len(self._failures) > self._settings.max_restarts:
            return None
        self._in_a_row += 1
        settings = self._settings
        return full_jitter(
            settings.backoff_initial, 2.0, settings.backoff_max, self._in_a_row, self._draw
        )

    def reason_against(self, failure: BaseException) -> str | None:
        """The reason that rules a restart after this failure out; None if there is none."""
        if includes(failure, PermanentError):
            return "it says that trying again cannot help"
        return "it is temporary" if self._settings.restart == "temporary" else None

    def after_lifetime(self, lasted: float) -> None:
        """Make the next back-off small again after a lifetime at least as long as the window.

        Args:
            lasted: the length of the lifetime, in seconds.
        """
        if lasted >= self._settings.restart_window:
            self._in_a_row = 0
