"""The event of an operator's action.

Owns the facts of one action: which, on which plugin, with whose token.
Never knows how an action is done.
"""

from __future__ import annotations

from ._delivery_settings import DeliverySettings
from ._event import Event


class OperatorActionEvent(
    Event,
    name="operator_action_event",
    delivery=DeliverySettings(overflow="drop_oldest"),
    from_outside=False,
):
    """An operator has changed something while the program runs, by `/-/`; the log says so, too.

    An action that was refused changed nothing, and is no event. Publishing it never waits: a full
    inbox drops its oldest event. A plugin that listens to `Event` does not receive it; a plugin has
    to name it.

    >>> OperatorActionEvent(action="restart", plugin="billing", token="operators").plugin
    'billing'
    """

    __listen_by_base__ = False

    action: str
    """The action, such as `restart`."""
    plugin: str | None = None
    """The name of the plugin that it changed; None where it concerns the whole program."""
    token: str | None = None
    """The name of the operator's token."""
    settings: tuple[str, ...] = ()
    """The keys of the settings that it changed; their values, which may be secret, are not told."""
    reason: str | None = None
    """The operator's reason, in words; None where none was given."""
