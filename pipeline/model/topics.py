"""Every topic, in one table: key, schema, partitions, retention, cleanup.

`everpost topics apply` creates and checks the topics from here; nothing else names a topic.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from pipeline.model.event import CHANNELS, LANES, Channel, Lane
from pipeline.model.ladder import TIERS

Schema = Literal["event", "decision", "delivery", "outcome", "engagement", "hold"]
DAY = timedelta(days=1)

DECISIONS = "notification.decisions"
OUTCOMES = "notification.outcomes"
ENGAGEMENT = "notification.engagement"
HOLDS = "notification.holds"
RELEASED = "notification.released"
WINDOW = "notification.window"
DEAD = "notification.dead"
STANDINGS = "notification.standings"

# Bytes of one event. A push holds 4 KB and an SMS 1.5; a delivery, which carries the event's bytes,
# stays far below the 1 MiB that a broker takes by default.
LARGEST_EVENT = 256 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """One topic. The key of every record is <tenant>/<user_id>; of standings <channel>/<provider>."""

    name: str
    schema: Schema | None  # None: raw bytes, as they came
    partitions: int
    retention: timedelta
    cleanup: Literal["delete", "compact"] = "delete"
    purpose: str

    @property
    def subject(self) -> str:
        """The subject in a schema registry (TopicNameStrategy)."""
        return f"{self.name}-value"


def events(lane: Lane) -> str:
    """The topic that services publish to."""
    return f"notification.events.{lane}"


def deliver(channel: Channel, lane: Lane) -> str:
    """The topic that the senders of a channel read."""
    return f"notification.deliver.{channel}.{lane}"


def retry(tier: str) -> str:
    """The topic of a retry tier, by the tier's name."""
    return f"notification.retry.{tier}"


def table(partitions: int = 4) -> tuple[Topic, ...]:
    """All topics.

    Events, decisions and window have the same number of partitions: the router writes what it decides
    into the partition number of its event, and holds and releases stay in that number. The window
    outlives events, holds and releases by a day, or a router that restores from it would forget an id
    while its event can still be read, or its hold be stored and released, again.
    """
    # Seven days of events: a long weekend of outage, and the window in which an id is remembered.
    week, fortnight = 7 * DAY, 14 * DAY

    def topic(name: str, schema: Schema | None, kept: timedelta, purpose: str) -> Topic:
        return Topic(name=name, schema=schema, partitions=partitions, retention=kept, purpose=purpose)

    return (
        *(topic(events(lane), "event", week, f"accepted events, {lane} lane") for lane in LANES),
        topic(DECISIONS, "decision", 8 * DAY, "one decision per event: the audit"),
        topic(WINDOW, None, 8 * DAY, "the router's own: the ids it has decided, packed, to restore from"),
        topic(HOLDS, "hold", week, "events that wait for their time, on their way to the timers"),
        topic(RELEASED, "hold", week, "holds that are due, to be decided again"),
        *(
            topic(deliver(channel, lane), "delivery", week, f"to be sent by {channel}, {lane} lane")
            for channel in CHANNELS
            for lane in LANES
        ),
        *(topic(retry(t.name), "delivery", fortnight, f"waits {t.name} for its next attempt") for t in TIERS),
        topic(OUTCOMES, "outcome", fortnight, "one record per attempt"),
        topic(ENGAGEMENT, "engagement", fortnight, "receipts, bounces, opens, clicks"),
        topic(STANDINGS, None, 28 * DAY, "when the way to a provider has opened, closed or paused; JSON"),
        topic(DEAD, None, 28 * DAY, "what is given up, with its reason in the headers"),
    )
