"""The rigs of Web Push, Vonage and SMTP."""

from connectors import vonage, webpush
from connectors.sandbox import vonage as sms_api
from connectors.sandbox import webpush as push_service
from connectors.sandbox.desk import Running
from tests.contract.rigs import Rig


def _subscription(running: Running, number: int) -> str:
    return push_service.subscription(f"device-{number}", f"https://127.0.0.1:{running.port}")


def _number(_running: Running, number: int) -> str:
    return f"+4477009{number:05}"


RIGS: tuple[Rig, ...] = (
    Rig(name="webpush", start=push_service.start, create=webpush.create, address=_subscription),
    Rig(name="vonage", start=sms_api.start, create=vonage.create, address=_number),
)
