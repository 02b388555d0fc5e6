"""AsyncAPI's bindings for AMQP, which say what a channel is.

Owns the form of the bindings.
Never knows settings, nor connections.
"""

from __future__ import annotations

BINDING_VERSION = {"bindingVersion": "0.3.0"}
"""The version of the bindings, which each of them names."""


def queue_binding(name: str) -> dict[str, object]:
    """The binding of a channel that is a queue: a durable one, for several consumers."""
    queue = {"name": name, "durable": True, "exclusive": False, "autoDelete": False}
    return {"is": "queue", "queue": queue, **BINDING_VERSION}


def exchange_binding(name: str) -> dict[str, object]:
    """The binding of a channel that is an exchange with a routing key."""
    return {"is": "routingKey", "exchange": {"name": name}, **BINDING_VERSION}
