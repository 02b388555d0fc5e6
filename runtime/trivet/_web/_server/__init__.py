"""The HTTP/1.1 server: one task for a connection, llhttp for heads and chunks, wsproto for frames.

    _listening      a server within a block: the listening socket, the open connections, the stop
    _accepting      new connections, for as long as the socket listens
    _binding        an operator's address, and the socket that is bound to it
    _connection     its requests one after the other, or its websocket
    _exchange       one request and its response
    _websocket      the handshake and the frames of a websocket
    _receive_queue  messages that wait for an application, bounded in bytes
    _peer           the client: its data, and whether it is still there
    _request        a request's scope and body, and the bytes of its response
    _tls            a socket whose bytes are TLS's
    _known_heads    the heads of recent requests
    _heads          the head of a request: framed, parsed, checked
    _transport      a plain socket, and the state of its other end

Imports go down this list only. Never knows what the application responds.
"""
