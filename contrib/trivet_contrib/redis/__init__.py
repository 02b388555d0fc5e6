"""Redis Streams as a source of events and as a sink for them.

Owns the connector's public names. `_source` and `_sink` have the plugins, `_consumer` and
`_producer` the commands.
Never knows what the events are about.
"""

from ._sink import RedisSink as RedisSink
from ._source import RedisSource as RedisSource
