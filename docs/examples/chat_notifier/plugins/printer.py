"""A plugin that is not well."""

from __future__ import annotations

from trivet import BackgroundPlugin


class Printer(BackgroundPlugin):
    """Has no paper."""

    async def run(self) -> None:
        """Say so, and wait for a person."""
        self.degrade("there is no paper", remedy="fill the tray")
        await super().run()
