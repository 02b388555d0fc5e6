"""What HTTP sees of a runtime.

    _server         listens, and ends what is left at a stop
    _connections    one client's connection, which ends alone
    _protocol       HTTP/1.1 and websockets, as a client speaks them
    _heads          the heads of requests: their limits
    _frames         the frames of a websocket: their limits, and the codes that close it
    _applications   what waits to be taken by the application of a request or a websocket
    _app            the application, and its answers to errors
    _views          the plugins' routes and websockets: refused, contained
    _event_streams  server-sent events
    _cloudevents    POST /events: CloudEvents 1.0 in structured, binary and batched mode
    _ingest         POST /events/{name}, and what a publisher may ask for
    _ndjson         a stream of events, a line each, in bounded memory
    _publishing     what a publisher is told of its events
    _probes         /livez, /readyz and /plugins
    _front          the requests that are answered without Quart: events and probes
    _admin          what an operator asks for, with a token
    _requests       what a route reads: text, JSON and forms, within limits
    _responses      the part of an answer that a client asks for
    _bodies         the body of a request, taken as it is read
    _websockets     the messages of a websocket, taken as they are received
    _measure        around each request: what is open, cut off, measured
    _targets        the path and the host of a request, or its refusal
    _wire           what a client is sent, and the last word to it
    _faults         what is the fault of a plugin
    _exchange       each request's identity, and its monitoring points
    _problems       error codes and RFC 9457 problem details

Imports go down this list only. Never knows how plugins are loaded, nor who serves the application.
"""
