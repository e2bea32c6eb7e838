"""The rigs of Web Push, Vonage and SMTP."""

from connectors import webpush
from connectors.sandbox import webpush as push_service
from connectors.sandbox.desk import Running
from tests.contract.rigs import Rig


def _subscription(running: Running, number: int) -> str:
    return push_service.subscription(f"device-{number}", f"https://127.0.0.1:{running.port}")


RIGS: tuple[Rig, ...] = (
    Rig(name="webpush", start=push_service.start, create=webpush.create, address=_subscription),
)
