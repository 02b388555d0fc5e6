"""Never ends its import."""

from __future__ import annotations

import time

import structlog

from trivet import BackgroundPlugin

structlog.get_logger().info("misbehaving")
time.sleep(1000)


class ImportHangs(BackgroundPlugin):
    pass
