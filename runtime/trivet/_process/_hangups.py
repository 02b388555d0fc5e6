"""SIGHUP: the settings are read anew, and the service manager is told.

Owns the wait for the signal, before the program serves and afterwards.
Never knows how a reload is done.
"""

from __future__ import annotations

import time
from types import FrameType

import structlog
import trio

from .._events._operator_action import OperatorActionEvent
from .._faults._errors import ConfigurationError, ReloadRefusedError
from .._faults._masking import mask
from .._runtime import Runtime
from ._parent._manager import ServiceManager

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger("trivet")


class Hangups:
    """The signals that ask for a reload. Several that come during one are one more."""

    def __init__(self) -> None:
        self._is_asked = False
        self._asked = trio.Event()

    def heard_before_the_loop(self, number: int, frame: FrameType | None) -> None:
        """Note a signal; a handler of Python's."""
        self._is_asked = True

    def heard(self) -> None:
        """Note a signal."""
        self._is_asked = True
        self._asked.set()

    async def reload(self, runtime: Runtime, manager: ServiceManager) -> None:
        """Reload the program whenever a signal has come, those included that came before."""
        while True:
            if not self._is_asked:
                await self._asked.wait()
            self._is_asked, self._asked = False, trio.Event()
            await self._reload_once(runtime, manager)

    async def _reload_once(self, runtime: Runtime, manager: ServiceManager) -> None:
        assert runtime.reloads is not None
        manager.tell(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
        status = "reloaded"
        try:
            await runtime.reloads.reload()
            runtime.operator_acted(OperatorActionEvent(action="reload"))
        except (ConfigurationError, ReloadRefusedError) as error:  # The log has it.
            status = f"reload refused: {'; '.join(mask(str(error)).splitlines())}"
        manager.tell(f"READY=1\nSTATUS={status}")
