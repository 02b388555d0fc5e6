"""The target and the host of a request, checked before they are parsed.

Owns which of them are refused, and the one form that a target has after that: a path.
Never knows which route has the path, nor which hosts are the service's.
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from typing import Any, cast
from urllib.parse import unquote

from ._asgi import HttpScope, WebsocketScope
from ._problems import ProblemError

_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST = re.compile(
    rf"(?P<name>{_LABEL}(?:\.{_LABEL})*\.?|\[(?P<v6>[0-9A-Fa-f:.]+)\])(?::(\d{{0,5}}))?"
)
_ABSOLUTE = re.compile(rb"(?:https?|wss?)://([^/?#]+)(/[^?#]*)?", re.IGNORECASE)


def validated(scope: HttpScope | WebsocketScope) -> HttpScope | WebsocketScope:
    """The scope, with a path as its target and at most one host.

    A target in a proxy's form, with scheme and host, becomes its path, and its host the request's.

    Raises:
        ProblemError: the target is no path, or the host is malformed.
    """
    hosts = [value for name, value in scope["headers"] if name == b"host"]
    path = scope["path"]
    if not scope["query_string"].isascii():
        raise ProblemError("malformed_request", "a query is ASCII, and percent-encoded")
    if not path.startswith("/") and path != "*":
        hosts, path = _absolute(scope)
        others = [item for item in scope["headers"] if item[0] != b"host"]
        headers = [*((b"host", host) for host in hosts), *others]
        rewritten: dict[str, Any] = {"path": path, "raw_path": path.encode(), "headers": headers}
        scope = cast("HttpScope | WebsocketScope", {**scope, **rewritten})
    if len(hosts) > 1:
        raise ProblemError("malformed_request", "a request has one Host, and not two")
    for host in hosts:
        if not is_host(host):
            raise ProblemError("malformed_request", "the Host is no name and no address")
    return scope


def path_within(scope: HttpScope | WebsocketScope) -> str:
    """The path below the application's root, as Quart sees it where it looks for a rule."""
    path = scope["path"]
    root = scope.get("root_path", "")
    if root:
        is_within = path.startswith(root) and path != root
        path = path.removeprefix(root) if is_within else " "
    return "/" + path.lstrip("/")


def _absolute(scope: HttpScope | WebsocketScope) -> tuple[list[bytes], str]:
    """The host and the path of a target with scheme and host."""
    target = scope.get("raw_path") or scope["path"].encode("utf-8", "surrogateescape")
    match = _ABSOLUTE.fullmatch(target)
    if match is None:
        raise ProblemError("malformed_request", "the target of a request is a path")
    return [match[1]], unquote((match[2] or b"/").decode("latin-1"))


@lru_cache(maxsize=32)
def is_host(host: bytes) -> bool:
    """Whether a host is empty, or a name of DNS or an address, with or without a port."""
    if not host.strip():
        return True  # As HTTP has it; the doors are another matter.
    match = _HOST.fullmatch(host.decode("latin-1").strip(" \t"))
    if match is None or len(match["name"]) > 255 or int(match[3] or 0) > 65535:
        return False
    if match["v6"] is None:
        return True
    try:
        ipaddress.IPv6Address(match["v6"])
    except ValueError:
        return False
    return True
