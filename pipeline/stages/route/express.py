"""The short way through the gates, for events that are ordinary.

Most events differ from an earlier one in nothing that a gate looks at: they have another id, other words,
another time, another person of the same shape. For those the earlier ruling stands, and only its blanks
are filled: 10 µs in place of 150. A pattern is made by the long way itself: `route` decides about a
probe, an event whose variable parts are marks, and the bytes of its ruling are cut at the marks. What
changes from event to event and is looked at by a gate is asked here for each one (see `_ordinary`); what
is not ordinary goes the long way. A property test holds both ways to the same bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from pipeline.model import avro, window
from pipeline.model.catalogue import SKEW, Catalogue, EventType, plain_id, plainly_valid
from pipeline.model.delivery import delivery_ids
from pipeline.model.event import LANES, Event, Lane, content
from pipeline.model.profile import Profile
from pipeline.model.quiet import opens_at
from pipeline.model.recall import Recalls
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
_PATTERNS = 1_000  # of one shape: 20 types in 3 lanes on 4 partitions are 240, 3 KB each
_FAR = 253_402_300_799_000  # ms: the end of year 9999, beyond which there is no datetime


@dataclass(frozen=True, slots=True)
class Kind:
    """A type in a lane, as an event names both."""

    type: EventType
    lane: Lane
    lasts: int  # ms


@dataclass(frozen=True, slots=True)
class Ruled:
    """What has become of one ordinary event."""

    pattern: Pattern
    values: Sequence[bytes]
    remembered: bytes | None  # the window's entry, packed; None: nothing new


def kinds(catalogue: Catalogue) -> dict[bytes, Kind]:
    """Every type in every lane, by the bytes by which an event names them."""
    return {
        avro.text(name) + avro.long(number): Kind(type, lane, type.time_to_live // timedelta(milliseconds=1))
        for name, type in catalogue.items()
        for number, lane in enumerate(LANES)
    }


class Express:
    """Rules on the ordinary events of one batch."""

    def __init__(
        self, wire: Codec, catalogue: Catalogue, kinds: dict[bytes, Kind], recalls: Recalls, now: datetime
    ) -> None:
        self._wire = wire
        self._catalogue = catalogue
        self._kinds = kinds
        self._recalls = recalls
        self._at = now
        self._now = window.ms(now)
        self._latest = window.ms(now + SKEW)
        self._now_encoded = avro.long(self._now)

    def rule(self, record: Incoming, seen: Glance, person: Person, before: bytes | None) -> Ruled | None:
        """What becomes of an event; None when it must go the long way.

        `before`: the latest decision about its id within the window, packed.
        """
        kind = self._kinds.get(seen.kind)
        if kind is None or person.patterns is None or not self._ordinary(seen, kind, person):
            return None
        collapse = None if seen.collapse_key is None else avro.words(seen.collapse_key)
        locale = None if seen.locale is None else avro.words(seen.locale)
        digest = content(kind.type.name, None, collapse, locale, seen.data)
        where = b""
        if before is not None:
            earlier = window.unpack(before)
            if earlier.verdict == "rejected" or earlier.content not in (b"", digest):
                return None
            source = Source(topic=earlier.topic, partition=record.partition, offset=earlier.offset)
            where = avro.text(gates.decided_at(source))
        key = (
            seen.kind,
            record.topic,
            record.partition,
            collapse is None,
            locale,
            seen.traceparent is None,
            before is None,
        )
        patterns = person.patterns
        if key in patterns:
            pattern = patterns[key]
        else:
            if len(patterns) >= _PATTERNS:  # a publisher who invents languages
                patterns.clear()
            pattern = patterns[key] = self._pattern(record, seen, kind, person, before is None)
        if pattern is None:
            return None
        remembered = (
            window.pack(record.topic, record.offset, pattern.verdict, self._now, digest)
            if before is None
            else None
        )
        return Ruled(pattern, self._values(record, seen, person, pattern, where, digest), remembered)

    def _ordinary(self, seen: Glance, kind: Kind, person: Person) -> bool:
        """Whether the gates that look at what changes from event to event let it pass in their usual words."""
        end = seen.created_at + kind.lasts if seen.expires_at is None else seen.expires_at
        profile = person.profile
        assert profile is not None, "who has no profile has no patterns"
        return (
            seen.created_at <= self._latest
            and self._now < end < _FAR
            and plain_id(seen.event_id)
            and plainly_valid(seen.data, kind.type)
            and (not self._recalls or not self._recalled(seen, kind, profile))
            and (profile.quiet_from is None or opens_at(profile, self._at) == self._at)
        )

    def _recalled(self, seen: Glance, kind: Kind, profile: Profile) -> bool:
        found = self._recalls.match(
            tenant=profile.tenant,
            event_id=seen.event_id,
            collapse_key=None if seen.collapse_key is None else avro.words(seen.collapse_key),
            type=kind.type.name,
            template_version=kind.type.template_version,
            created_at=window.moment(seen.created_at),
        )
        return found is not None

    def _values(
        self, record: Incoming, seen: Glance, person: Person, ruled: Pattern, where: bytes, digest: bytes
    ) -> tuple[bytes, ...]:
        profile, raw = person.profile, record.value or b""
        assert profile is not None, "who has no profile has no patterns"
        kind = self._kinds[seen.kind]
        end = seen.created_at + kind.lasts if seen.expires_at is None else seen.expires_at
        places = [person.places[target] for target in ruled.targets]
        return (
            seen.event_id_encoded,
            avro.long(record.offset),
            self._now_encoded,
            b"\x10" + digest,
            avro.text(gates.until(window.moment(end))),
            avro.some(avro.long(end)),
            avro.long(len(raw)) + raw,
            seen.collapse_key or b"",
            seen.traceparent or b"",
            where,
            *person.blanks,
            *(
                b"\x48" + id.encode()
                for id in delivery_ids(profile.tenant, profile.user_id, seen.event_id, places)
            ),
        )

    def _pattern(
        self, record: Incoming, seen: Glance, kind: Kind, person: Person, fresh: bool
    ) -> Pattern | None:
        """The ruling about all events like this one, by the long way; None when it is one of a kind."""
        if fresh and kind.type.category.caps:
            return None  # what it counts is another for each
        assert person.profile is not None, "who has no profile has no patterns"
        probe = _probe(record, seen, kind, person.profile, self._at)
        source = probe.source
        earlier = Decided(source=replace(source, offset=_MARK_NUMBER + 1), verdict="deliver")
        facts = Facts(
            decided=None if fresh else earlier, profile=_marked(person.profile), catalogue=self._catalogue
        )
        ruling = route(probe, facts, self._at)
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
            self._now_encoded,
            b"\x10" + event.content,
            avro.text(gates.until(end)),
            avro.some(avro.long(window.ms(end))),
            avro.long(len(probe.raw)) + probe.raw,
            b"" if event.collapse_key is None else avro.text(event.collapse_key),
            b"" if event.traceparent is None else avro.text(event.traceparent),
            b"" if facts.decided is None else avro.text(gates.decided_at(facts.decided.source)),
            *blanks(profile),
            *(avro.text(delivery.delivery_id) for delivery in ruling.deliveries),
        )
        optional = (_COLLAPSE,) if event.collapse_key is not None else ()
        forms: list[Form] = []
        for written in to_records(self._wire, replace(record, key=b""), ruling):
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
