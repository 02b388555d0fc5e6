"""Quart and Werkzeug are inside as Trivet expects them, so that an upgrade fails here."""

from __future__ import annotations

from contextvars import ContextVar
from importlib.metadata import version

from quart import globals as quart_globals
from quart.wrappers.request import Body as QuartBody

from trivet._web import _app, _bodies, _event_streams
from trivet._web._quart import _detached, _forms, _requests, _responses, _websockets
from trivet._web._quart._inside import (
    CALLED,
    CONTEXT_VARIABLES,
    OVERRIDDEN,
    READ,
    REPLACED,
)

from ..inside import attributes, missing, overridden, rows, signatures, used

MODULES = (_app, _detached, _event_streams, _forms, _requests, _responses, _websockets)

QUART_TRIO_0_12 = """\
Body.__aiter__(self)
Body.__anext__ async (self)
Body.__await__(self)
Body.__init__(self, expected_content_length, max_content_length)
Body.clear(self)
Body.set_complete(self)
Body.set_result(self, data)
DataBody.make_conditional async (self, begin, end)
IOBody.make_conditional async (self, begin, end)
MultiPartParser.__init__(self, *, buffer_size=65536, cls=Ellipsis, file_storage_cls=Ellipsis, \
max_content_length=None, max_form_memory_size=None, max_form_parts=None, stream_factory=Ellipsis)
MultiPartParser.get_part_charset(self, headers)
MultiPartParser.start_file_streaming(self, event, total_content_length)
MultipartDecoder.__init__(self, boundary, max_form_memory_size=None, *, max_parts=None)
MultipartDecoder.next_event(self)
MultipartDecoder.receive_data(self, data)
QuartTrio.__init__(self, import_name, static_url_path=None, static_folder='static', \
static_host=None, host_matching=False, subdomain_matching=False, template_folder='templates', \
instance_path=None, instance_relative_config=False, root_path=None)
QuartTrio.app_context(self)
QuartTrio.asgi_app async (self, scope, receive, send)
QuartTrio.request_context(self, request)
RequestContext.__init__(self, app, request, session=None)
ResponseBody.__aenter__ async (self)
ResponseBody.__aexit__ async (self, exc_type, exc_value, tb)
TrioASGIHTTPConnection.__call__ async (self, receive, send)
TrioASGIHTTPConnection._create_request_from_scope(self, send)
TrioASGIHTTPConnection.handle_messages async (self, nursery, request, receive)
TrioASGIHTTPConnection.handle_request async (self, nursery, request, send)
TrioASGIWebsocketConnection.__call__ async (self, receive, send)
TrioASGIWebsocketConnection._create_websocket_from_scope(self, send)
TrioASGIWebsocketConnection.handle_websocket async (self, nursery, websocket, send)
TrioFileBody.make_conditional async (self, begin, end, max_partial_size=None)
TrioFormDataParser.parse async (self, body, mimetype, content_length, options=None)
TrioRequest.get_data async (self, cache=True, as_text=False, parse_form_data=False)
TrioRequest.get_json async (self, force=False, silent=False, cache=True)
TrioWebsocket.__init__(self, path, query_string, scheme, headers, root_path, http_version, \
subprotocols, receive, send, accept, close, scope)
TrioWebsocket.accept async (self, headers=None, subprotocol=None)
TrioWebsocket.receive async (self)
TrioWebsocket.receive_json async (self)"""

APP_CONTEXT_0_23 = """\
AppContext.__init__(self, app, *, request=None, session=None, websocket=None)
"""

QUART_TRIO_0_13 = APP_CONTEXT_0_23 + "\n".join(
    line.replace("subprotocols, receive, send", "subprotocols, send")
    for line in QUART_TRIO_0_12.splitlines()
    if not line.startswith("RequestContext.")
)


def test_quart_has_the_methods_that_trivet_overrides_and_calls() -> None:
    """Every method in the table exists, with the parameters that Trivet expects."""
    is_old = version("quart-trio").startswith("0.12.")
    expected = QUART_TRIO_0_12 if is_old else QUART_TRIO_0_13
    assert signatures(OVERRIDDEN, REPLACED, CALLED) == expected


def test_quart_has_the_attributes_that_trivet_overrides_and_reads() -> None:
    """Every class attribute and every other attribute in the table exists."""
    assert missing(OVERRIDDEN, REPLACED, CALLED, READ) == set()


def test_the_table_of_quarts_inside_is_complete() -> None:
    """A name that is overridden, or an attribute that is used, without a row fails here."""
    assert overridden(*MODULES) == rows(OVERRIDDEN)
    assert used(*MODULES) <= rows(OVERRIDDEN, CALLED, READ)


def test_a_body_has_what_quart_asks_of_one() -> None:
    """Trivet's body has every method of Quart's that Quart calls outside the overridden methods."""
    only_in_messages = {"append", "put", "get", "disconnect"}
    public = {name for name in vars(QuartBody) if not name.startswith("_")} - only_in_messages
    assert public == {"clear", "set_complete", "set_result"}
    assert public <= attributes(_bodies.Body)


def test_quart_has_the_context_variables_that_trivet_sets() -> None:
    """Quart has no other variable that a handler may ask for a request."""
    variables = {
        name for name, value in vars(quart_globals).items() if isinstance(value, ContextVar)
    }
    assert variables - {"_cv_websocket"} == set(CONTEXT_VARIABLES)
