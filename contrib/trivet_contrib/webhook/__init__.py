"""Posts events to a URL, as CloudEvents.

Owns the connector's public name. `_plugin` has the plugin, `_client` the HTTP, `_signature` and
`_addresses` the protection of receiver and sender.
Never knows the receiver.
"""

from ._plugin import Webhook as Webhook
