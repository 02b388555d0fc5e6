"""When a failed plugin is started again, and when it is given up.

Owns the arithmetic of intensity and back-off.
Never knows plugins and clocks: it is told the time, and answers with a wait.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from .._plugins._supervision_settings import SupervisionSettings

Jitter = Callable[[float, float], float]


class Restarts:
    """The failures of one plugin, and what follows from them.

    >>> restarts = Restarts(SupervisionSettings(max_restarts=1), jitter=lambda low, high: high)
    >>> restarts.after_failure(0.0), restarts.after_failure(1.0)
    (0.5, None)
    """

    def __init__(self, settings: SupervisionSettings, jitter: Jitter = random.uniform) -> None:
        self._settings = settings
        self._jitter = jitter
        self._failures: list[float] = []
        self._in_a_row = 0

    def after_failure(self, now: float, *, counts: bool = True) -> float | None:
        """Seconds to wait before the restart; None when the plugin is to be given up.

        Args:
            now: the time.
            counts: whether it is one of the failures that there may be so many of.
        """
        since = now - self._settings.restart_window
        self._failures = [failure for failure in self._failures if failure > since]
        if counts:
            self._failures.append(now)
        if len(self._failures) > self._settings.max_restarts:
            return None
        ceiling = self._settings.backoff_initial * 2.0 ** min(self._in_a_row, 64)
        self._in_a_row += 1
        return self._jitter(0.0, min(ceiling, self._settings.backoff_max))

    def after_lifetime(self, lasted: float) -> None:
        """After a lifetime as long as the window (seconds), the next back-off is small again."""
        if lasted >= self._settings.restart_window:
            self._in_a_row = 0
