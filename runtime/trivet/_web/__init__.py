"""What HTTP sees of a runtime.

    _app          the application: plugin routes, error answers
    _ingest       POST /events/{name}, and what a publisher is told
    _cloudevents  POST /events: CloudEvents 1.0 in structured, binary and batched mode
    _probes       /livez, /readyz and /plugins
    _measure      each request's identity, its monitoring points, the end of its response
    _problems     error codes and RFC 9457 problem details

Imports go down this list only. Never knows how plugins are loaded, nor who serves the application.
"""
