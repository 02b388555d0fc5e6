"""The event of an operator's action."""

from __future__ import annotations

from trivet import Event, OperatorActionEvent
from trivet._events._types import EventTypes


def test_clients_may_not_publish_it() -> None:
    """An action is the program's own event, which clients and brokers cannot forge."""
    assert not EventTypes([OperatorActionEvent]).is_open(OperatorActionEvent)


def test_an_action_of_the_whole_program() -> None:
    """An action needs neither a plugin nor a token."""
    event = OperatorActionEvent(action="reload")
    assert (event.plugin, event.token) == (None, None)


def test_a_listener_to_everything_gets_no_action() -> None:
    """A subscriber of `Event` does not get the events of actions; it has to name the type."""
    types = EventTypes([OperatorActionEvent])
    assert types.matching(Event) == []
    assert types.matching(OperatorActionEvent) == [OperatorActionEvent]
