"""The parts that the sinks over HTTP share.

Never knows a particular server.
"""
