"""The paths of management, which may have addresses of their own.

Owns the one rule that says which paths these are.
Never knows addresses, nor what is answered at a path.
"""

from __future__ import annotations

MANAGEMENT = "trivet.management"
"""The extension of Trivet's own server that says that an address is one for management."""
SHARED = (
    "/livez",
    "/startupz",
    "/readyz",
    "/openapi.json",
    "/asyncapi.json",
    "/sign-in",
    "/sign-out",
)
"""The paths that are answered at each address."""


def is_served(path: str, *, at_management: bool) -> bool:
    """Whether a path is served at an address, where management has addresses of its own.

    Args:
        path: the path, or the rule of its route; a client may spell it with a `/` at its end.
        at_management: whether the address is one for management.

    >>> is_served("/-/plugins", at_management=True), is_served("/plugins/", at_management=False)
    (True, False)
    >>> is_served("/events/ordered", at_management=True), is_served("/livez", at_management=True)
    (False, True)
    """
    bare = path.rstrip("/")
    if bare in SHARED:
        return True
    is_management = bare in ("/plugins", "/metrics", "/-") or bare.startswith("/-/")
    return is_management == at_management
