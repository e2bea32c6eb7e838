"""Letters to a batch: which are meant, what becomes of each, and the records of those that are sent again."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from pipeline.model.dead import AS_OF_DECISION, OURS, REPLAY_COUNT, REPLAY_RUN, Letter
from pipeline.model.delivery import Delivery
from pipeline.model.errors import Unreadable
from pipeline.model.event import Event, Value
from pipeline.model.moment import ms
from pipeline.model.recall import Recalls
from pipeline.model.record import Headers, Outgoing
from pipeline.model.replay import Claim, Fate, Run, Selection, Sketch, Standing
from pipeline.model.topics import deliver
from pipeline.stages.replay.decide import (
    Reason,
    claim_of,
    failed_attempt,
    judge,
    judge_discard,
    router_place,
    unwanted,
    waits,
)
from pipeline.stages.replay.edit import Change, Refused, edited
from pipeline.stages.replay.select import matches
from pipeline.stages.replay.tools import Place, Tools
from pipeline.stages.replay.withdraw import withdrawn

_SAMPLES = 3  # letters of each fate that are named


@dataclass(slots=True)
class Batch:
    """Letters that are judged and taken."""

    read: int
    ends: dict[Place, int] = field(default_factory=dict[Place, int])
    fates: Counter[tuple[Place, Fate]] = field(default_factory=Counter[tuple[Place, Fate]])
    records: list[Outgoing] = field(default_factory=list[Outgoing])
    sent: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])


@dataclass(slots=True)
class Case:
    """One letter that is meant."""

    letter: Letter
    sketch: Sketch | None
    claim: Claim
    defect: str  # why nobody can read it; empty: somebody can
    standing: Standing | None = None
    reason: Reason = ("sent", "")
    record: Outgoing | None = None


class Weigher:
    """Judges the letters of one run. In a dry run it takes none, and asks what the senders would ask."""

    def __init__(self, tools: Tools, run: Run, *, dry: bool) -> None:
        self._tools = tools
        self._run = run
        self._run_id = run.run_id.encode()
        self._marked: dict[int, Headers] = {}  # by count
        self._all = run.selection == Selection()  # then nothing needs to be asked of a letter
        self._dry = dry
        # What has its end written by others is told as what it will be.
        self._terms = replace(run.terms, over=False) if dry else run.terms
        self._indices = {(r.topic, r.partition): n for n, r in enumerate(run.ranges)}
        self.samples: dict[str, list[str]] = {}
        self.changes: list[tuple[str, Sequence[Change]]] = []

    async def weigh(self, letters: Sequence[Letter]) -> Batch:
        """What becomes of these letters; those that are to be sent are taken. Raises DependencyDown."""
        found = Batch(read=len(letters))
        for letter in letters:
            found.ends[letter.topic, letter.partition] = letter.offset + 1
        cases = [case for letter in letters if (case := self._case(letter)) is not None]
        if cases:
            await self._judge(cases)
            wanted: Fate = "sent" if self._run.kind == "replay" else "discarded"
            await self._take([case for case in cases if case.reason[0] == wanted])
            self._enter(found, cases)
        return found

    def _case(self, letter: Letter) -> Case | None:
        """The letter, when it is meant."""
        sketch, defect = None, ""
        try:
            sketch = self._tools.contents.sketch(letter)
        except Unreadable as error:
            defect = str(error)
        if not self._all and not matches(self._run.selection, letter, sketch, lambda: self._data(sketch)):
            return None
        index = self._indices[letter.topic, letter.partition]
        return Case(letter, sketch, claim_of(letter, sketch, index), defect)

    def _data(self, sketch: Sketch | None) -> Mapping[str, Value]:
        event = None if sketch is None else self._event(sketch)
        return {} if event is None else event.data

    def _event(self, sketch: Sketch) -> Event | None:
        try:
            return self._tools.contents.event(sketch)
        except Unreadable:
            return None

    async def _judge(self, cases: Sequence[Case]) -> None:
        tools, terms = self._tools, self._terms
        standing = await tools.books.standing([case.claim for case in cases], self._run.run_id)
        recalls, now = await tools.recalls(), ms(tools.clock())
        for n, case in enumerate(cases):
            case.standing = standing.get(n)
            found = case.sketch or case.defect
            if self._run.kind == "discard":
                case.reason = judge_discard(case.letter, found, case.standing)
                if case.reason[0] == "discarded" and waits(case.letter):
                    self._withdraw(case)
                continue
            order = self._order(case.sketch, recalls) if recalls else ""
            case.reason = judge(case.letter, found, case.standing, terms, recall=order, now=now)
            if case.reason[0] == "sent":
                self._build(case)
        if self._dry and self._run.kind == "replay":
            await self._ask_users([case for case in cases if case.reason[0] == "sent"])

    def _order(self, sketch: Sketch | None, recalls: Recalls) -> str:
        """The evidence of the recall that stops it, if any."""
        event = None if sketch is None else self._event(sketch)
        if sketch is None or event is None:
            return ""
        found = recalls.match(
            tenant=sketch.tenant,
            event_id=sketch.event_id,
            collapse_key=sketch.collapse_key,
            type=sketch.type,
            template_version=sketch.template_version,
            created_at=event.created_at,
        )
        return found.evidence() if found else ""

    async def _ask_users(self, cases: Sequence[Case]) -> None:
        users = {(case.sketch.tenant, case.sketch.user_id) for case in cases if case.sketch}
        profiles = await self._tools.profiles.fetch(list(users)) if users else {}
        for case in cases:
            if case.sketch is None:
                continue
            kind = self._tools.catalogue.get(case.sketch.type)
            profile = profiles.get((case.sketch.tenant, case.sketch.user_id))
            recorded = self._run.terms.words == "decision"
            why = unwanted(case.sketch, profile, kind.category if kind else None, as_of_decision=recorded)
            if why:
                case.reason = "suppressed", why

    def _build(self, case: Case) -> None:
        """The record to send, or why there is none."""
        letter, sketch = case.letter, case.sketch
        headers = self._headers(letter, case.standing)
        if (place := router_place(letter, sketch)) is not None:
            topic, partition = place
            case.record = Outgoing(
                topic=topic, key=letter.key, value=letter.value, headers=headers, partition=partition
            )
            return
        assert sketch is not None, "what nobody can read is no sender's"
        try:
            lane, value = sketch.lane, b""
            edits = self._edits(sketch)
            if edits:
                after, value = self._mended(letter, failed_attempt(letter, sketch) + 1, edits)
                lane = after.lane
            else:
                attempt = failed_attempt(letter, sketch) + 1
                value = self._tools.contents.renumbered(letter.value, sketch, attempt)
            assert sketch.channel, "a delivery has a channel"
            topic = deliver(sketch.channel, lane)
            case.record = Outgoing(topic=topic, key=letter.key, value=value, headers=headers)
        except Unreadable as error:
            case.reason = "unreadable", str(error)
        except Refused as error:
            case.reason = "invalid", str(error)

    def _edits(self, sketch: Sketch) -> Mapping[str, str]:
        """What the operator changes, and today's words instead of older ones."""
        edits, kind = self._run.terms.edits, self._tools.catalogue.get(sketch.type)
        if kind is None or self._run.terms.words == "decision" or "template_version" in edits:
            return edits
        if kind.template_version <= (sketch.template_version or 0):
            return edits
        return {"template_version": str(kind.template_version), **edits}

    def _mended(self, letter: Letter, attempt: int, edits: Mapping[str, str]) -> tuple[Delivery, bytes]:
        tools = self._tools
        before = tools.wire.decode(Delivery, letter.value)
        event = tools.wire.decode(Event, before.event)
        after, mended, changes = edited(before, event, edits, tools.catalogue, tools.clock())
        if len(self.changes) < _SAMPLES:
            self.changes.append((letter.place, changes))
        carried = before.event if mended is event else tools.wire.encode(mended)
        return after, tools.wire.encode(replace(after, attempt=attempt, event=carried))

    def _withdraw(self, case: Case) -> None:
        """The end of a delivery that waits: the notification log must learn that there is none to come."""
        try:
            case.record = withdrawn(self._tools.wire, case.letter, self._run, self._tools.clock())
        except Unreadable as error:
            case.reason = "unreadable", str(error)

    def _headers(self, letter: Letter, standing: Standing | None) -> Headers:
        """What the record carried before it died, and which run sends it for the how many-th time."""
        earlier = 0 if standing is None else standing.replays
        marks = self._marks(max(letter.replays, earlier) + 1)
        if letter.headers.keys() <= OURS:  # asked of all at once, for nearly every letter has no others
            return marks
        foreign = [one for one in letter.raw_headers if one[0] not in OURS]
        return (*foreign, *marks)

    def _marks(self, count: int) -> Headers:
        """What this run writes on a letter that is sent for the `count`th time: few differ, so each is made once."""
        marks = self._marked.get(count)
        if marks is None:
            marks = ((REPLAY_RUN, self._run_id), (REPLAY_COUNT, b"%d" % count))
            if self._run.terms.words == "decision":
                marks = (*marks, AS_OF_DECISION)
            self._marked[count] = marks
        return marks

    async def _take(self, cases: Sequence[Case]) -> None:
        if self._dry or not cases:
            return
        refused = await self._tools.books.claim(self._run.run_id, [case.claim for case in cases])
        for n in refused:
            cases[n].reason, cases[n].record = ("replayed", "another run, or another letter of it"), None

    def _enter(self, found: Batch, cases: Sequence[Case]) -> None:
        for case in cases:
            letter, (fate, why) = case.letter, case.reason
            found.fates[(letter.topic, letter.partition), fate] += 1
            samples = self.samples.get(fate) or self.samples.setdefault(fate, [])
            if len(samples) < _SAMPLES:
                samples.append(_named(case, why))
            if fate not in ("sent", "discarded") or case.record is None:
                continue
            found.records.append(case.record)
            if fate == "sent" and case.sketch is not None and case.sketch.kind == "delivery":
                found.sent.append((case.sketch.delivery_id, case.claim.attempt + 1))


def _named(case: Case, why: str) -> str:
    about = "" if case.sketch is None else f" event {case.sketch.event_id}"
    return f"{case.letter.place}{about}" + (f": {why}" if why else "")
