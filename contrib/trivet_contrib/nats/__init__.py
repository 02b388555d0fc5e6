"""NATS JetStream as a source of events and as a sink for them.

Owns the connector's public names. `_source` and `_sink` have the plugins, `_consumer` and
`_producer` the messages.
Never knows what the events are about.
"""

from ._sink import NatsSink as NatsSink
from ._source import NatsSource as NatsSource
