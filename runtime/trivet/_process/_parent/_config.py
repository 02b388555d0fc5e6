"""The decisions of the command line, as the parent gets them.

Owns the form in which they come, a JSON object in an argument.
Never knows what follows from them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

LIMITS = (
    "budget",
    "hang_limit",
    "max_restarts",
    "restart_window",
    "disable_after",
    "backoff_initial",
    "backoff_max",
)
"""The fields that a new program's settings may change."""


class ParentConfig:
    """The decisions of the command line; times are in seconds."""

    def __init__(self, text: str) -> None:
        config = json.loads(text)
        self.command: list[str] = config["command"]
        """The command for a restart; the first child exists already."""
        self.first: list[int] = config["first"]
        """The first child: its process id, this process's ends of its pipes, its report."""
        self.listeners: list[int] = config["listeners"]
        """The descriptors of the sockets that are handed down from child to child."""
        self.public: int = config["public"]
        """How many of them are not for management; they are the first ones."""
        self.addresses: list[str] = config["addresses"]
        """The addresses to which they are bound, as the settings name them."""
        self.budget: float = config["budget"]
        """Seconds from the request to stop to the kill."""
        self.hang_limit: float = config["hang_limit"]
        """Seconds without a heartbeat of the child's loop until the kill; 0 for never."""
        self.max_restarts: int = config["max_restarts"]
        self.restart_window: float = config["restart_window"]
        self.disable_after: int = config["disable_after"]
        self.backoff_initial: float = config["backoff_initial"]
        self.backoff_max: float = config["backoff_max"]

    def adopt(self, facts: Mapping[str, Any]) -> None:
        """Take over the limits of a program whose settings are newer."""
        limits = facts.get("limits", {})
        for name in LIMITS:
            setattr(self, name, limits.get(name, getattr(self, name)))
