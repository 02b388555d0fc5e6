"""The HTTP/1.1 server: one task for a connection, llhttp for heads and chunks, wsproto for frames.

    _listening    the sockets and the stop: `listening`, and the connections that are open
    _accepting    new connections, for as long as there is a listening socket
    _binding      from an address as an operator writes it to a socket
    _connection   one client: its requests one after the other, or its websocket
    _websocket    the messages of a websocket, and their close codes
    _mailbox      messages that wait for an application, bounded in bytes
    _request      a request as ASGI has it: its scope, its body, its answer
    _heads        the head of a request: framed, read, checked
    _transport    bytes over a plain socket, and the state of its other end

Imports go down this list only. Never knows what the application answers.
"""
