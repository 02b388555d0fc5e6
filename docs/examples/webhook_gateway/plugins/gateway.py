"""Takes a payment service's webhooks in, and publishes each one as an event.

Shows a public route, secrets, the event's own id, and answers that tell the sender what to do.
"""

from __future__ import annotations

import msgspec
from quart import request
from quart.typing import ResponseReturnValue
from standardwebhooks import Webhook, WebhookVerificationError

from trivet import BackgroundPlugin, Event, Secret, route


class PaymentReceived(Event, from_outside=False):
    """The payment service has received a payment. Only the gateway publishes such events."""

    payment_id: str
    amount: float
    currency: str


class Gateway(BackgroundPlugin):
    """`POST /hooks/payments`, for requests that are signed as in Standard Webhooks."""

    secrets: list[Secret]
    """Secrets of the sender, `whsec_…`. While it gets a new one, the old one stands here, too."""

    @route("/hooks/payments", methods=["POST"], scope=None)
    async def receive(self) -> ResponseReturnValue:
        """Publish the payment, and answer when it is safe: the sender repeats until a 2xx."""
        body = await request.get_data()
        if not self._is_genuine(body, dict(request.headers)):
            return {"error": "the signature does not fit"}, 401
        try:
            payment = msgspec.json.decode(body, type=PaymentReceived)
        except msgspec.DecodeError as error:
            return {"error": str(error)}, 400
        # A repetition has the same id, so that no subscriber gets the payment twice.
        outcome = await self.app.publish(
            payment, id=request.headers["webhook-id"], source="/hooks/payments"
        )
        if not outcome.accepted:
            return {"error": "try again later"}, 503, {"Retry-After": "5"}
        return {"id": outcome.id}, 202

    def _is_genuine(self, body: bytes | str, headers: dict[str, str]) -> bool:
        """Whether a secret fits the signature, and the request is not older than five minutes."""
        for secret in self.secrets:
            try:
                Webhook(secret.reveal()).verify(body, headers)
            except WebhookVerificationError:
                continue
            return True
        return False
