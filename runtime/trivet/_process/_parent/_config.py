"""The decisions of the command line, as the parent gets them.

Owns the form in which they come, a JSON object in an argument.
Never knows what follows from them.
"""

from __future__ import annotations

import json


class ParentConfig:
    """The decisions of the command line; times are in seconds."""

    def __init__(self, text: str) -> None:
        config = json.loads(text)
        self.command: list[str] = config["command"]
        """The command for a restart; the first child exists already."""
        self.first: list[int] = config["first"]
        """The first child: its process id, and this process's ends of its pipes."""
        self.listeners: list[int] = config["listeners"]
        """The descriptors of the sockets that are handed down from child to child."""
        self.public: int = config["public"]
        """How many of them are not for management; they are the first ones."""
        self.report: int = config["report"]
        """The descriptor of the report: who ended the child, and why."""
        self.budget: float = config["budget"]
        """Seconds from the request to stop to the kill."""
        self.hang_limit: float = config["hang_limit"]
        """Seconds without a heartbeat of the child's loop until the kill; 0 for never."""
        self.max_restarts: int = config["max_restarts"]
        self.restart_window: float = config["restart_window"]
        self.backoff_initial: float = config["backoff_initial"]
        self.backoff_max: float = config["backoff_max"]
