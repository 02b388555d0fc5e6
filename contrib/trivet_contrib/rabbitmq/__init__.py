"""RabbitMQ's quorum queues as a source of events, and its exchanges as a sink for them.

Owns the connector's public names. `_source` and `_sink` have the plugins, `_consumer` and
`_producer` the messages.
Never knows what the events are about.
"""

from ._sink import RabbitmqSink as RabbitmqSink
from ._source import RabbitmqSource as RabbitmqSource
