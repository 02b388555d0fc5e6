"""A shop on FastAPI, to which its customers add code.

`events` has what plugins may listen to and import, `app` the service.
"""
