"""Hypercorn and h11 are inside as the server expects them, so that an upgrade fails here."""

from __future__ import annotations

from trivet._web._hypercorn import (
    _accepting,
    _connection,
    _frames,
    _heads,
    _protocol,
    _server,
    _task_group,
)
from trivet._web._hypercorn._inside import CALLED, FUNCTIONS, OVERRIDDEN, READ

from ..inside import missing, overridden, rows, signature, signatures, uncalled, used

MODULES = (_accepting, _connection, _frames, _heads, _protocol, _server, _task_group)

HYPERCORN_0_18 = """\
Config.create_sockets(self)
Config.response_headers(self, protocol)
Connection.__init__(self, our_role, max_incomplete_event_size=16384)
Connection.next_event(self)
Connection.receive_data(self, data)
Connection.start_next_cycle(self)
EventWrapper.is_set(self)
EventWrapper.set async (self)
H11Protocol.__init__(self, app, config, context, task_group, connection_state, ssl, client, \
server, send)
H11Protocol._check_protocol async (self, event)
H11Protocol._close_stream async (self)
H11Protocol._create_stream async (self, request)
H11Protocol._handle_events async (self)
H11Protocol._maybe_recycle async (self)
H11Protocol._send_error_response async (self, status_code)
H11Protocol._send_h11_event async (self, event)
H11Protocol.handle async (self, event)
H11Protocol.stream_send async (self, event)
H11WSConnection.__init__(self, h11_connection)
HTTPStream.__init__(self, app, config, context, task_group, ssl, client, server, send, stream_id)
HTTPStream.handle async (self, event)
TaskGroup.__aenter__ async (self)
TaskGroup.__aexit__ async (self, exc_type, exc_value, tb)
TaskGroup.spawn_app async (self, app, config, scope, send)
WSStream.__init__(self, app, config, context, task_group, ssl, client, server, send, stream_id)
WSStream._handle_events async (self)
WSStream._send_error_response async (self, status_code)
WSStream._send_wsproto_event async (self, event)
WSStream.app_send async (self, message)
WSStream.handle async (self, event)
WebsocketBuffer.clear(self)
WebsocketBuffer.extend(self, event)
WebsocketBuffer.to_message(self)
WorkerContext.__init__(self, max_requests)
WorkerContext.mark_request async (self)"""


def test_hypercorn_has_the_methods_that_the_server_overrides_and_calls() -> None:
    """Every method in the table exists, with the parameters that the server expects."""
    assert signatures(OVERRIDDEN, CALLED) == HYPERCORN_0_18


def test_hypercorn_has_the_attributes_that_the_server_reads() -> None:
    """Every attribute in the table exists."""
    assert missing(OVERRIDDEN, CALLED, READ) == set()


def test_hypercorn_has_the_functions_that_the_server_calls() -> None:
    """The undocumented functions have the parameters that the server expects."""
    assert [f"{each.__name__}{signature(each)}" for each in FUNCTIONS] == [
        "parse_socket_addr(family, address)",
        "repr_socket_addr(family, address)",
        "wrap_app(app, wsgi_max_body_size, mode)",
    ]


def test_the_table_of_hypercorns_inside_is_complete() -> None:
    """A method that is overridden, or an attribute that is used, without a row fails here."""
    assert overridden(*MODULES) == rows(OVERRIDDEN)
    assert used(*MODULES) <= rows(OVERRIDDEN, CALLED, READ)


def test_hypercorn_calls_the_methods_that_the_server_overrides() -> None:
    """A check in an overridden method would be lost in silence, if it were called no longer."""
    assert uncalled(OVERRIDDEN) == set()
