"""The needs of a plugin: it lives only while other plugins are up.

Owns the graph, the need that blocks a start, and the end of the plugins that need this one.
Never knows lifetimes and restarts: a member of the graph ends its own lifetime.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import trio

from .._plugins._status import Status


class Member(Protocol):
    """A plugin's host, as a member of the graph."""

    @property
    def name(self) -> str:
        """The plugin's name."""
        ...

    @property
    def needs(self) -> Needs:
        """Its place in the graph."""
        ...

    @property
    def status(self) -> Status:
        """The plugin's status."""
        ...

    @property
    def critical(self) -> bool:
        """Whether the program ends when the plugin is given up."""
        ...

    @property
    def is_up(self) -> bool:
        """Whether the plugin works."""
        ...

    @property
    def is_alive(self) -> bool:
        """Whether the plugin is within a lifetime."""
        ...

    @property
    def error(self) -> str | None:
        """The last failure in one line."""
        ...

    def end_lifetime(self) -> None:
        """End the lifetime, or the wait between two."""
        ...

    async def changed(self) -> None:
        """Wait for the next change of the status."""
        ...


class Needs:
    """One member's edges in the graph.

    Args:
        member: the member.
    """

    def __init__(self, member: Member) -> None:
        self._member = member
        self.needed: list[Member] = []
        """The members that the member needs; they start before it."""
        self._dependents: list[Member] = []

    def add(self, other: Member) -> None:
        """Let the member live only while the other is up."""
        self.needed.append(other)
        other.needs._dependents.append(self._member)

    def take_place_of(self, other: Member) -> list[Member]:
        """Let the members that need another one need this one's member instead; returns them."""
        dependents, other.needs._dependents = other.needs._dependents, []
        for member in dependents:
            needed = member.needs.needed
            needed[:] = [self._member if each is other else each for each in needed]
        self._dependents += dependents
        return dependents

    def leave(self) -> None:
        """Take the member out of the graph, as far as others refer to it."""
        for other in self.needed:
            others = other.needs._dependents
            others[:] = [each for each in others if each is not self._member]

    @property
    def unmet(self) -> Member | None:
        """The unmet need that blocks the start; a failed one comes before one that is only down."""
        roots = list(self._roots())
        failed = (member for member in roots if member.status is Status.FAILED)
        return next(failed, roots[0] if roots else None)

    def dependents(self) -> Iterator[Member]:
        """The members that need this one, directly or through others; some may come twice."""
        for member in self._dependents:
            yield member
            yield from member.needs.dependents()

    def _roots(self) -> Iterator[Member]:
        """The needs that are down although their own needs are met, directly or through others."""
        for member in self.needed:
            if not member.is_up:
                yield from list(member.needs._roots()) or [member]

    async def end_dependents(self) -> None:
        """End the lifetimes of the members that need this one; wait, shielded, until all ended."""
        for member in self._dependents:
            if not member.status.awaits_operator:
                member.end_lifetime()
        if self._dependents:
            with trio.CancelScope(shield=True):
                for member in self._dependents:
                    while member.is_alive:
                        await member.changed()
