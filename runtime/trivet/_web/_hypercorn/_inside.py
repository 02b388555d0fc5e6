"""The inside of hypercorn and h11 that this room depends on.

Owns the table of it: an upgrade that changes a row changes the server, and may do so in silence.
Without `_check_protocol`, for example, the check against request smuggling would be gone.
Never knows how the room uses a row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from h11 import Connection
from h11._readers import ContentLengthReader
from h11._receivebuffer import ReceiveBuffer
from hypercorn.config import Config
from hypercorn.protocol.h11 import H11Protocol, H11WSConnection
from hypercorn.protocol.http_stream import HTTPStream
from hypercorn.protocol.ws_stream import Handshake, WebsocketBuffer, WSStream
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.worker_context import EventWrapper, WorkerContext
from hypercorn.utils import (
    parse_socket_addr,  # pyright: ignore[reportUnknownVariableType]
    repr_socket_addr,  # pyright: ignore[reportUnknownVariableType]
    wrap_app,  # pyright: ignore[reportUnknownVariableType]
)

OVERRIDDEN: Mapping[type, tuple[str, ...]] = {
    Config: ("response_headers",),
    H11Protocol: (
        "__init__",
        "_check_protocol",
        "_create_stream",
        "_handle_events",
        "_maybe_recycle",
        "_send_error_response",
        "stream_send",
    ),
    WSStream: ("_handle_events", "app_send", "handle"),
    TaskGroup: ("spawn_app",),
    Connection: ("__init__", "next_event", "receive_data"),
}
"""The methods that a subclass in this room overrides."""

CALLED: Mapping[type, tuple[str, ...]] = {
    Config: ("create_sockets",),
    H11Protocol: ("_close_stream", "_send_h11_event", "handle"),
    H11WSConnection: ("__init__",),
    HTTPStream: ("__init__", "handle"),
    WSStream: ("__init__", "_send_error_response", "_send_wsproto_event"),
    WebsocketBuffer: ("clear", "extend", "to_message"),
    TaskGroup: ("__aenter__", "__aexit__"),
    WorkerContext: ("__init__", "mark_request"),
    EventWrapper: ("is_set", "set"),
    Connection: ("start_next_cycle",),
}
"""The other methods that this room calls."""

READ: Mapping[type, tuple[str, ...]] = {
    Config: (
        "backlog",
        "bind",
        "keep_alive_timeout",
        "loglevel",
        "websocket_max_message_size",
        "wsgi_max_body_size",
    ),
    H11Protocol: (
        "app",
        "client",
        "config",
        "connection",
        "connection_state",
        "context",
        "keep_alive_requests",
        "send",
        "server",
        "ssl",
        "stream",
        "task_group",
    ),
    WSStream: (
        "app_put",
        "buffer",
        "closed",
        "connection",
        "handshake",
        "send",
        "state",
        "stream_id",
    ),
    WebsocketBuffer: ("max_length",),
    Handshake: ("accepted",),
    WorkerContext: ("terminated",),
    Connection: (
        "_reader",
        "_receive_buffer",
        "our_state",
        "their_http_version",
        "their_state",
    ),
    ReceiveBuffer: ("_data",),
    ContentLengthReader: ("_remaining",),
}
"""The attributes that this room reads or sets."""

FUNCTIONS: tuple[Callable[..., object], ...] = (  # pyright: ignore[reportUnknownVariableType]
    parse_socket_addr,
    repr_socket_addr,
    wrap_app,
)
"""The undocumented functions that this room calls."""
