"""Between bytes and decisions: what a record says, and what a ruling writes."""

from dataclasses import replace

from pipeline.model import window
from pipeline.model.dead import Cause, Disposition, dead_letter
from pipeline.model.decision import Decision
from pipeline.model.errors import Unreadable
from pipeline.model.event import Event, user_key
from pipeline.model.hold import Hold
from pipeline.model.moment import ms
from pipeline.model.record import Incoming, Outgoing
from pipeline.model.topics import DECISIONS, HOLDS, RELEASED, deliver
from pipeline.model.window import Page
from pipeline.ports import Codec
from pipeline.stages.route.facts import Arrival, Ruling, Source

GROUP = "everpost.route"


def arrival(wire: Codec, record: Incoming) -> Arrival:
    """What the record says. Raises DependencyDown."""
    read = _read(wire, record)
    if read.event is None or read.event.key == record.key:
        return read
    # Under another key the same user's events meet in another partition, and a duplicate passes.
    return replace(read, event=None, defect="the record's key is not <tenant>/<user_id>")


def _read(wire: Codec, record: Incoming) -> Arrival:
    source = Source(topic=record.topic, partition=record.partition, offset=record.offset)
    raw, release_of = record.value or b"", None
    try:
        if record.topic == RELEASED:
            hold = wire.decode(Hold, raw)
            release_of = Source(
                topic=hold.source_topic, partition=hold.source_partition, offset=hold.source_offset
            )
            raw = hold.event
        event = wire.decode(Event, raw)
    except Unreadable as defect:
        return Arrival(source=source, event=None, raw=raw, release_of=release_of, defect=str(defect))
    return Arrival(source=source, event=event, raw=raw, release_of=release_of)


def to_records(wire: Codec, source: Incoming, ruling: Ruling) -> list[Outgoing]:
    """What a ruling writes: its decision and its hold into the event's partition number, deliveries, a dead letter."""
    decision, hold = ruling.decision, ruling.hold
    written = [
        Outgoing(topic=DECISIONS, key=source.key, value=wire.encode(decision), partition=source.partition)
    ]
    if hold is not None:
        written.append(
            Outgoing(topic=HOLDS, key=source.key, value=wire.encode(hold), partition=source.partition)
        )
    written.extend(
        Outgoing(
            topic=deliver(delivery.channel, delivery.lane),
            key=user_key(delivery.tenant, delivery.user_id),
            value=wire.encode(delivery),
        )
        for delivery in ruling.deliveries
    )
    if decision.verdict == "rejected":
        disposition: Disposition = "unreadable" if decision.reason == "unreadable" else "invalid"
        cause = Cause(disposition=disposition, message=decision.gates[-1].evidence)
        written.append(dead_letter(source, cause, group=GROUP, stage="route"))
    return written


def remember(page: Page, decision: Decision) -> None:
    """Put on the window's page what later decisions ask for."""
    topic, offset = decision.source_topic, decision.source_offset
    page.decided(topic, offset)
    # A duplicate must not renew its first, and what was rejected may come again, mended: but the
    # hold of a release that was rejected has ended.
    if decision.verdict == "duplicate" or (decision.verdict == "rejected" and not decision.release_of):
        return
    at = ms(decision.decided_at)
    key = user_key(decision.tenant, decision.user_id)
    id = window.identity(key, decision.event_id.encode())
    page.entries[id] = window.pack(topic, offset, decision.verdict, at, decision.content)
    # One send for each capped channel, however many addresses it has: only what has a counter is capped.
    for channel in {planned.channel for planned in decision.deliveries}:
        if f"{decision.category}/{channel}" in decision.counters:
            page.sent(counter(key, decision.category, channel), at)


def counter(key: bytes, category: str, channel: str) -> bytes:
    """The key of what a category has sent to a user on a channel."""
    return window.identity(key, b"", category.encode(), channel.encode())  # no event id is empty
