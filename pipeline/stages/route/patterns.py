"""Patterns: the rulings about events that differ in nothing that a gate looks at, with blanks.

A pattern is made by the long way itself: `route` decides about a probe, an event whose variable parts are
marks, and the bytes of its ruling are cut at the marks.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from pipeline.model import avro
from pipeline.model.catalogue import Catalogue, EventType
from pipeline.model.event import LANES, Event, Lane
from pipeline.model.moment import ms
from pipeline.model.profile import Profile
from pipeline.model.record import Incoming
from pipeline.model.topics import DECISIONS
from pipeline.ports import Codec, Glance
from pipeline.stages.route import gates
from pipeline.stages.route.decide import route
from pipeline.stages.route.facts import Arrival, Decided, Facts, Ruling, Source
from pipeline.stages.route.people import Form, Pattern, Person, blanks
from pipeline.stages.route.records import to_records
from pipeline.stages.route.stencil import cut

# The places of the values that fill a form; the person's own and the deliveries' ids follow.
_EVENT_ID, _OFFSET, _NOW, _CONTENT, _UNTIL, _EXPIRES, _RAW, _COLLAPSE, _TRACE, _WHERE = range(10)
_USER, _VERSION, _NUMBER = range(10, 13)
_IN_DECISION = (_EVENT_ID, _OFFSET, _NOW, _CONTENT, _USER, _NUMBER)  # without exception
_IN_DELIVERY = (_EVENT_ID, _NOW, _EXPIRES, _RAW, _USER, _NUMBER)
_MARK = "mark-6f1a3c52-7d0e-4c0e-9d0a-"  # what no record holds by chance
_MARK_NUMBER = 0x1B0E_3C52_7D0E_4C0E


@dataclass(frozen=True, slots=True)
class Kind:
    """A type in a lane, as an event names both."""

    type: EventType
    lane: Lane
    lasts: int  # ms


def kinds(catalogue: Catalogue) -> dict[bytes, Kind]:
    """Every type in every lane, by the bytes by which an event names them."""
    return {
        avro.text(name) + avro.long(number): Kind(type, lane, type.time_to_live // timedelta(milliseconds=1))
        for name, type in catalogue.items()
        for number, lane in enumerate(LANES)
    }


@dataclass(frozen=True, slots=True)
class PatternMaker:
    """Makes patterns, for decisions of one moment."""

    wire: Codec
    catalogue: Catalogue
    at: datetime

    def make(
        self, record: Incoming, seen: Glance, kind: Kind, person: Person, *, fresh: bool
    ) -> Pattern | None:
        """The ruling about all events like this one, by the long way; None when it is one of a kind.

        `fresh`: no earlier event has its id; otherwise it is a duplicate.
        """
        if fresh and kind.type.category.caps:
            return None  # what it counts is another for each
        assert person.profile is not None, "who has no profile has no patterns"
        probe = _probe(record, seen, kind, person.profile, self.at)
        source = probe.source
        earlier = Decided(source=replace(source, offset=_MARK_NUMBER + 1), verdict="deliver")
        facts = Facts(
            decided=None if fresh else earlier, profile=_marked(person.profile), catalogue=self.catalogue
        )
        ruling = route(probe, facts, self.at)
        if ruling.decision.verdict not in ("deliver", "suppressed", "duplicate"):
            return None
        forms = self._forms(record, probe, ruling, facts)
        ids = [address.address_id for address in _marked(person.profile).addresses]
        targets = tuple(ids.index(delivery.address_id) for delivery in ruling.deliveries)
        return None if forms is None else Pattern(ruling.decision.verdict, forms, targets)

    def _forms(
        self, record: Incoming, probe: Arrival, ruling: Ruling, facts: Facts
    ) -> tuple[Form, ...] | None:
        """Everything that the probe's ruling writes, cut at its marks."""
        event, profile = probe.event, facts.profile
        assert event is not None, "a probe is an event"
        assert profile is not None, "a probe has a user"
        end = event.created_at + facts.catalogue[event.type].time_to_live
        marks = (
            avro.text(event.event_id),
            avro.long(probe.source.offset),
            avro.long(ms(self.at)),
            b"\x10" + event.content,
            avro.text(gates.until(end)),
            avro.some(avro.long(ms(end))),
            avro.long(len(probe.raw)) + probe.raw,
            b"" if event.collapse_key is None else avro.text(event.collapse_key),
            b"" if event.traceparent is None else avro.text(event.traceparent),
            b"" if facts.decided is None else avro.text(gates.decided_at(facts.decided.source)),
            *blanks(profile),
            *(avro.text(delivery.delivery_id) for delivery in ruling.deliveries),
        )
        optional = (_COLLAPSE,) if event.collapse_key is not None else ()
        forms: list[Form] = []
        for written in to_records(self.wire, replace(record, key=b""), ruling):
            if written.topic == DECISIONS:
                wanted = (
                    *_IN_DECISION,
                    *optional,
                    *((_UNTIL, _VERSION) if facts.decided is None else (_WHERE,)),
                )
            else:
                wanted = (*_IN_DELIVERY, *optional, *((_TRACE,) if event.traceparent is not None else ()))
            stencil = cut(written.value or b"", marks, wanted)
            if stencil is None:
                return None
            forms.append(Form(written.topic, -1 if written.partition is None else written.partition, stencil))
        return tuple(forms)


def _marked(profile: Profile) -> Profile:
    """The same with marks in place of what is the user's own."""
    return replace(
        profile,
        user_id=_MARK + "user",
        version=_MARK_NUMBER + 2,
        addresses=tuple(
            replace(address, address_id=f"{_MARK}address-{number}", value=f"{_MARK}value-{number}")
            for number, address in enumerate(profile.addresses)
        ),
    )


def _probe(record: Incoming, seen: Glance, kind: Kind, profile: Profile, now: datetime) -> Arrival:
    """An event like this one, with marks."""
    event = Event(
        event_id=_MARK + "event",
        user_id=_MARK + "user",
        tenant=profile.tenant,
        type=kind.type.name,
        priority=kind.lane,
        created_at=now,
        collapse_key=None if seen.collapse_key is None else _MARK + "collapse",
        locale=None if seen.locale is None else avro.words(seen.locale),
        traceparent=None if seen.traceparent is None else _MARK + "trace",
        data=seen.data,
    )
    source = Source(topic=record.topic, partition=record.partition, offset=_MARK_NUMBER)
    return Arrival(source=source, event=event, raw=(_MARK + "raw").encode())
