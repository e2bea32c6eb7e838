"""The rigs of Web Push, Vonage, Twilio, SMTP and webhooks."""

from collections.abc import Mapping

from yarl import URL

from connectors import smtp, twilio, vonage, webhook, webpush
from connectors.sandbox import smtp as relay
from connectors.sandbox import twilio as messages_api
from connectors.sandbox import vonage as sms_api
from connectors.sandbox import webhook as receiver
from connectors.sandbox import webpush as push_service
from connectors.sandbox.faults import Fault
from tests.contract.rigs import Located, Rig


def _subscription(running: Located, number: int) -> str:
    return push_service.subscription(f"device-{number}", f"https://127.0.0.1:{running.port}")


def _number(_running: Located, number: int) -> str:
    return f"+4477009{number:05}"


def _to_endpoints(options: Mapping[str, str]) -> webhook.Webhook:
    """As the local receiver's options say, but with the address as the endpoint."""
    rest = dict(options)
    if url := rest.pop("url", ""):
        rest["hosts"] = URL(url).authority
    return webhook.create(rest)


WEBPUSH = Rig(name="webpush", start=push_service.start, create=webpush.create, address=_subscription)
VONAGE = Rig(name="vonage", start=sms_api.start, create=vonage.create, address=_number)
TWILIO = Rig(name="twilio", start=messages_api.start, create=twilio.create, address=_number)
SMTP = Rig(
    name="smtp",
    start=relay.start,
    create=smtp.create,
    address=lambda _running, number: f"passenger{number}@mail.example",
    busy=Fault(kind="status", status=451, reason="4.3.0 Temporary failure"),
    throttled=Fault(kind="status", status=451, reason="4.7.1 Greylisted, try again in 300 seconds"),
    retry_after=None,  # SMTP has no place for it
    garbage=Fault(kind="status", body="<html>bad gateway</html>"),
)
WEBHOOK = Rig(  # users' endpoints; a gateway of one's own is in test_webhook_receiver.py
    name="webhook",
    start=receiver.start,
    create=_to_endpoints,
    address=lambda running, number: f"https://127.0.0.1:{running.port}/hook/{number}",
)
RIGS: tuple[Rig, ...] = (WEBPUSH, VONAGE, TWILIO, SMTP, WEBHOOK)
