"""The inside of Quart, quart-trio and Werkzeug that Trivet depends on.

Owns the table of it: an upgrade that changes a row changes the application, and may do so in
silence. Without `body_class`, for example, a body of any length would be held in memory.
Never knows how a row is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from quart import ctx
from quart.formparser import MultiPartParser
from quart.wrappers.request import Body
from quart.wrappers.response import DataBody, IOBody, ResponseBody
from quart_trio import QuartTrio
from quart_trio.asgi import TrioASGIHTTPConnection, TrioASGIWebsocketConnection
from quart_trio.formparser import TrioFormDataParser
from quart_trio.wrappers import TrioRequest, TrioResponse, TrioWebsocket
from quart_trio.wrappers.response import TrioFileBody
from werkzeug.sansio.multipart import MultipartDecoder

REQUEST_CONTEXT: type[Any] = getattr(ctx, "RequestContext", ctx.AppContext)
"""The context of a request. In Quart 0.23 one class is the context of both a request and its
application."""

CONTEXT_VARIABLES = (
    ("_cv_app",) if REQUEST_CONTEXT is ctx.AppContext else ("_cv_app", "_cv_request")
)
"""The variables in `quart.globals` that hold the contexts of a request."""

OVERRIDDEN: Mapping[type, tuple[str, ...]] = {
    QuartTrio: (
        "__init__",
        "asgi_app",
        "asgi_http_class",
        "asgi_websocket_class",
        "request_class",
        "request_context",
        "response_class",
        "websocket_class",
    ),
    TrioRequest: (
        "authorization",
        "body_class",
        "form_data_parser_class",
        "get_data",
        "get_json",
    ),
    TrioASGIHTTPConnection: ("__call__", "handle_messages", "handle_request"),
    TrioFormDataParser: ("parse",),
    TrioResponse: ("data_body_class", "file_body_class", "io_body_class"),
    DataBody: ("make_conditional",),
    IOBody: ("make_conditional",),
    TrioFileBody: ("make_conditional",),
    ResponseBody: ("__aenter__", "__aexit__"),
    TrioWebsocket: ("__init__", "receive", "receive_json"),
    TrioASGIWebsocketConnection: ("__call__",),
}
"""The methods and class attributes that a subclass overrides."""

REPLACED: Mapping[type, tuple[str, ...]] = {
    Body: ("__aiter__", "__anext__", "__await__", "__init__", "clear", "set_complete", "set_result")
}
"""The methods that a class of Trivet's has, in place of Quart's class."""

CALLED: Mapping[type, tuple[str, ...]] = {
    QuartTrio: ("app_context",),
    REQUEST_CONTEXT: ("__init__",),
    TrioASGIHTTPConnection: ("_create_request_from_scope",),
    TrioASGIWebsocketConnection: ("_create_websocket_from_scope", "handle_websocket"),
    TrioWebsocket: ("accept",),
    MultiPartParser: ("__init__", "get_part_charset", "start_file_streaming"),
    MultipartDecoder: ("__init__", "next_event", "receive_data"),
}
"""The other methods that Trivet calls."""

READ: Mapping[type, tuple[str, ...]] = {
    QuartTrio: (
        "after_request_funcs",
        "before_request_funcs",
        "config",
        "debug",
        "json",
        "secret_key",
        "session_interface",
        "teardown_appcontext_funcs",
        "teardown_request_funcs",
        "url_map",
        "url_value_preprocessors",
    ),
    REQUEST_CONTEXT: ("_after_request_functions",),
    TrioRequest: ("body", "headers", "is_json", "url_rule", "view_args"),
    TrioASGIHTTPConnection: ("scope",),
    TrioASGIWebsocketConnection: ("app",),
    TrioFormDataParser: ("file_storage_class",),
    TrioWebsocket: ("json_module",),
    DataBody: ("data",),
    IOBody: ("size",),
    TrioFileBody: ("size",),
    MultipartDecoder: ("buffer", "state"),
}
"""The attributes that Trivet reads."""
