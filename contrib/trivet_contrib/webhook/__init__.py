"""Posts events to a URL, as CloudEvents.

Owns the connector's public names; `_plugin` has the plugin, `_client` the HTTP, `_signature` and
`_addresses` what makes it safe.
Never knows who receives the events.
"""

from ._plugin import Webhook as Webhook
from ._plugin import WebhookError as WebhookError
from ._plugin import WebhookRefusedError as WebhookRefusedError
