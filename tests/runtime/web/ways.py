"""The two ways of a request at Trivet's own server: by its shortcut, and through the layers."""

from __future__ import annotations

import re
from typing import Any

import pytest

from trivet._web._begun import Begun
from trivet._web._service import Service
from trivet._web._shortcuts import Answer


class Taken:
    """The requests that take shortcuts.

    Args:
        monkeypatch: the test's.
        short: whether there are shortcuts at all.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, short: bool) -> None:
        self.answers: list[Answer] = []
        """The responses of shortcuts."""
        self.begun: list[Begun] = []
        """The requests that went on through the layers after their handler was called."""
        find = Service.shortcut

        def noted(service: Service, head: Any, server: str) -> Any:
            found = find(service, head, server) if short else None
            return None if found is None else _Noting(found, self)

        monkeypatch.setattr(Service, "shortcut", noted)


class _Noting:
    def __init__(self, shortcut: Any, taken: Taken) -> None:
        self._shortcut = shortcut
        self._taken = taken
        self.length = shortcut.length

    def answer(self, body: bytes, address: str, scope: Any) -> Any:
        """Answer as the shortcut does."""
        answer = self._shortcut.answer(body, address, scope)
        if isinstance(answer, Answer):
            self._taken.answers.append(answer)
        elif answer is not None:
            self._taken.begun.append(answer)
        return answer


def uniform(answer: bytes) -> bytes:
    """A response without what differs each time."""
    answer = re.sub(rb"Date: [^\r]+", b"Date: X", answer)
    return re.sub(rb"\d+,[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", b"NEW", answer)
