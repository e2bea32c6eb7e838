"""The rigs of Web Push, Vonage and SMTP."""

from tests.contract.rigs import Rig

RIGS: tuple[Rig, ...] = ()
