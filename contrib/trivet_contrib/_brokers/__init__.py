"""What the sources and sinks of all brokers share.

Never knows one broker.
"""
