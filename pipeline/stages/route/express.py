"""The short way through the gates, for events that are ordinary.

Most events differ from an earlier one in nothing that a gate looks at: they have another id, other words,
another time, another person of the same shape. For those the earlier ruling stands (see `patterns.py`), and
only its blanks are filled: 10 µs in place of 150. What changes from event to event and is looked at by a
gate is asked here for each one (see `_ordinary`); what is not ordinary goes the long way.

Where it could be compiled, `native` does the same in a tenth of the time, and asks this for what is seldom.
A property test holds all ways to the same bytes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.model import avro, window
from pipeline.model.catalogue import SKEW, plain_id, plainly_valid
from pipeline.model.delivery import delivery_ids
from pipeline.model.event import content
from pipeline.model.moment import moment, ms
from pipeline.model.profile import Profile
from pipeline.model.quiet import opens_at
from pipeline.model.recall import Recalls
from pipeline.model.record import Records
from pipeline.model.topics import RELEASED
from pipeline.ports import Glance
from pipeline.stages.route import gates
from pipeline.stages.route.facts import Source
from pipeline.stages.route.patterns import Kind, PatternMaker
from pipeline.stages.route.people import Own, Pattern, PatternKey, Person, own
from pipeline.stages.route.work import LINKS, Work

_FAR = 253_402_300_799_000  # ms: the end of year 9999, beyond which there is no datetime
_PATTERNS = 1_000  # of one shape: 20 types in 3 lanes on 4 partitions are 240, 3 KB each


@dataclass(slots=True, kw_only=True)
class Express:
    """Rules on the ordinary events of one batch."""

    maker: PatternMaker
    kinds: Mapping[bytes, Kind]
    recalls: Recalls
    records: Records
    people: Mapping[bytes, Person]
    work: Work
    now: int = field(init=False)  # ms
    latest: int = field(init=False)  # ms: what was created later is no ordinary event

    def __post_init__(self) -> None:
        self.now = ms(self.maker.at)
        self.latest = ms(self.maker.at + SKEW)

    def decide(self, at: int) -> bool:
        """Whether the event at this place was ordinary, and is decided. Raises DependencyDown."""
        key, value, topic = self.records.keys[at], self.records.values[at], self.records.topics[at]
        person = None if key is None else self.people.get(key)
        if key is None or value is None or topic == RELEASED or person is None or person.patterns is None:
            return False
        seen = self.maker.wire.glance(value, _own(person).owner)
        kind = None if seen is None else self.kinds.get(seen.kind)
        if seen is None or kind is None or not self._ordinary(seen, kind, person):
            return False
        id = window.identity(key, seen.event_id.encode())
        before = self.work.batch.decided(self.records.partitions[at], id)
        digest = content(kind.type.name, None, *_texts(seen), seen.data)
        where = b"" if before is None else self._where(before, at, digest)
        if where is None:
            return False
        pattern = self._pattern(at, seen, kind, person, fresh=before is None)
        if pattern is None:
            return False
        self._write(at, pattern, self._values(at, seen, kind, person, pattern, where, digest))
        self._note(at, seen, pattern, None if before is not None else (id, digest))
        return True

    def pattern(self, key: PatternKey, at: int, person: Person) -> Pattern | None:
        """The ruling about events like this one, which had none yet; None when it is one of a kind."""
        seen = self.maker.wire.glance(self.records.values[at] or b"", _own(person).owner)
        assert seen is not None, "only an ordinary event has a key"
        return self._made(key, at, seen, self.kinds[seen.kind], person)

    def awake(self, profile: Profile) -> bool:
        """Whether it is no quiet hour for the user."""
        return opens_at(profile, self.maker.at) == self.maker.at

    def recalled(
        self, kind: Kind, profile: Profile, event_id: str, collapse_key: str | None, created_at: int
    ) -> bool:
        """Whether an operator has withdrawn the event."""
        found = self.recalls.match(
            tenant=profile.tenant,
            event_id=event_id,
            collapse_key=collapse_key,
            type=kind.type.name,
            template_version=kind.type.template_version,
            created_at=moment(created_at),
        )
        return found is not None

    def _ordinary(self, seen: Glance, kind: Kind, person: Person) -> bool:
        """Whether the gates that look at what changes from event to event let it pass in their usual words."""
        profile = person.profile
        assert profile is not None, "who has no profile has no patterns"
        collapse, _ = _texts(seen)
        return (
            seen.created_at <= self.latest
            and self.now < _end(seen, kind) < _FAR
            and plain_id(seen.event_id)
            and plainly_valid(seen.data, kind.type)
            and (profile.quiet_from is None or self.awake(profile))
            and not (self.recalls and self.recalled(kind, profile, seen.event_id, collapse, seen.created_at))
        )

    def _where(self, before: bytes, at: int, digest: bytes) -> bytes | None:
        """Evidence of a plain duplicate; None when it is none."""
        earlier = window.unpack(before)
        if earlier.verdict == "rejected" or earlier.content not in (b"", digest):
            return None
        source = Source(topic=earlier.topic, partition=self.records.partitions[at], offset=earlier.offset)
        return avro.text(gates.decided_at(source))

    def _pattern(self, at: int, seen: Glance, kind: Kind, person: Person, *, fresh: bool) -> Pattern | None:
        key = (
            seen.kind,
            self.records.topics[at],
            self.records.partitions[at],
            seen.collapse_key is None,
            _texts(seen)[1],
            seen.traceparent is None,
            fresh,
        )
        assert person.patterns is not None, "nobody else is asked for a pattern"
        if key in person.patterns:
            return person.patterns[key]
        return self._made(key, at, seen, kind, person)

    def _made(self, key: PatternKey, at: int, seen: Glance, kind: Kind, person: Person) -> Pattern | None:
        patterns = person.patterns
        assert patterns is not None, "nobody else is asked for a pattern"
        if len(patterns) >= _PATTERNS:  # a publisher who invents languages
            patterns.clear()
        *_, fresh = key
        made = patterns[key] = self.maker.make(self.records.whole(at), seen, kind, person, fresh=fresh)
        return made

    def _values(
        self, at: int, seen: Glance, kind: Kind, person: Person, ruled: Pattern, where: bytes, digest: bytes
    ) -> Sequence[bytes]:
        """By their places in patterns.py."""
        profile, raw, end = person.profile, self.records.values[at] or b"", _end(seen, kind)
        assert profile is not None, "who has no profile has no patterns"
        of = _own(person)
        places = [of.places[target] for target in ruled.targets]
        ids = delivery_ids(profile.tenant, profile.user_id, seen.event_id, places)
        return (
            seen.event_id_encoded,
            avro.long(self.records.offsets[at]),
            avro.long(self.now),
            b"\x10" + digest,
            avro.text(gates.until(moment(end))),
            avro.some(avro.long(end)),
            avro.long(len(raw)) + raw,
            seen.collapse_key or b"",
            seen.traceparent or b"",
            where,
            *of.blanks,
            *(b"\x48" + id.encode() for id in ids),
        )

    def _write(self, at: int, pattern: Pattern, values: Sequence[bytes]) -> None:
        written, key = self.work.written, self.records.keys[at]
        for form in pattern.forms:
            written.put(form.topic, form.stencil.fill(values), key, form.partition)

    def _note(self, at: int, seen: Glance, pattern: Pattern, new: tuple[bytes, bytes] | None) -> None:
        """Remember it, and count it; `new`: the id and the content of what is no duplicate."""
        work, topic, offset = self.work, self.records.topics[at], self.records.offsets[at]
        if seen.traceparent is not None and len(work.traces) < LINKS:
            work.traces.append(avro.words(seen.traceparent))
        work.verdicts[pattern.verdict] = work.verdicts.get(pattern.verdict, 0) + 1
        page = work.batch.page(self.records.partitions[at])
        page.decided(topic, offset)
        if new is not None:
            id, digest = new
            page.entries[id] = window.pack(topic, offset, pattern.verdict, self.now, digest)


Decide = Callable[[int], bool]


def _own(person: Person) -> Own:
    if person.own is None:
        assert person.profile is not None, "who has no profile has no patterns"
        person.own = own(person.profile)
    return person.own


def _texts(seen: Glance) -> tuple[str | None, str | None]:
    """Its collapse key and its language."""
    collapse, locale = seen.collapse_key, seen.locale
    return None if collapse is None else avro.words(collapse), None if locale is None else avro.words(locale)


def _end(seen: Glance, kind: Kind) -> int:
    """When it expires, in ms."""
    return seen.created_at + kind.lasts if seen.expires_at is None else seen.expires_at
