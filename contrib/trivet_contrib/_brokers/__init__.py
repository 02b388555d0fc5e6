"""The parts that the sources and sinks of all brokers share.

Never knows a particular broker.
"""
