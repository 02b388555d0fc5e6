"""Posts events to a URL, as CloudEvents.

Owns the connector's public name; `_plugin` has the plugin, `_client` the HTTP, `_signature` and
`_addresses` what makes it safe.
Never knows who receives the events.
"""

from ._plugin import Webhook as Webhook
