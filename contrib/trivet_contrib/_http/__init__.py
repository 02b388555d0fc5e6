"""What the sinks that speak HTTP share.

Never knows one server.
"""
