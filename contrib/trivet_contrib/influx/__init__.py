"""Writes monitoring points into InfluxDB.

Owns the connector's public name. `_plugin` has the plugin, `_client` the HTTP, `_lines` the line
protocol.
Never knows the measurements.
"""

from ._plugin import Influx as Influx
