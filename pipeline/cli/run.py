"""`everpost run STAGE`: one stage in this process, until SIGTERM."""

from typing import Annotated

from cyclopts import Parameter

from pipeline import settings
from pipeline.wiring import Stage, run_stage


def run(stage: Annotated[Stage, Parameter(help="which stage")]) -> int:
    """Run one stage in this process until SIGTERM or Ctrl-C.

    Run as many processes of a stage as you like, up to the number of partitions; give each its own
    EVERPOST_INSTANCE (0, 1, 2, ...), which is its place in the group over restarts.

    - relay: from the outbox table to notification.events
    - route: from events to decisions and deliveries
    - hold: events that wait for their time, back to the router when due
    - send-...: deliveries of one channel to its provider
    - retry: from the retry tiers back to the senders, when due
    - account: decisions, outcomes and what came back into the notification log
    - receipts: what providers tell later, heard at EVERPOST_RECEIPTS
    """
    return run_stage(stage, settings.load())
