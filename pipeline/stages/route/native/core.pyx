# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The short way, compiled: the same bytes as `pipeline/stages/route/express.py`, in a tenth of its time.

What is looked at and written is bytes in C (`event.h`, `digest.h`); this module ties them to the router's
objects. Whoever it is not sure about goes the long way. Without a compiler at installation there is no such
module, and `express.py` does its work; a property test holds all three ways to the same bytes.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport int64_t, uint8_t
from libc.stdio cimport snprintf
from libc.stdlib cimport free, realloc
from libc.string cimport memcmp, memcpy

from pipeline.model import avro
from pipeline.model.catalogue import MAX_ID, MAX_TEXT
from pipeline.model.topics import RELEASED
from pipeline.model.window import NUMBERS, PLACES, SOURCES
from pipeline.stages.route.work import LINKS

cdef extern from "digest.h":
    void everpost_blake2b(uint8_t *out, size_t size, const uint8_t *data, size_t length)
    ctypedef struct Sha1 "everpost_sha1_state":
        pass
    void everpost_sha1_start(Sha1 *state)
    void everpost_sha1_take(Sha1 *state, const uint8_t *data, size_t length)
    void everpost_sha1(uint8_t *out, const Sha1 *before, const uint8_t *data, size_t length)

cdef extern from "event.h":
    ctypedef struct Span "everpost_span":
        const uint8_t *at
        size_t size
    ctypedef struct Entry "everpost_entry":
        Span name
        Span words
        int branch
    ctypedef struct Seen "everpost_seen":
        Span event_id
        Span id
        Span kind
        Span collapse
        Span locale
        Span trace
        int64_t created
        int64_t expires
        int expiring
        int entries
        Entry entry[64]
    int everpost_look(Span value, Span head, Span owner, Seen *seen)
    size_t everpost_write_long(uint8_t *to, int64_t value)
    size_t everpost_content(const Seen *seen, uint8_t *to)
    int everpost_plain(Span text)
    size_t everpost_until(uint8_t *to, int64_t ms)

# How many C arrays hold; what is more goes the long way.
cdef enum:
    VARIABLES = 64
    BLANKS = 64  # of one record
    VALUES = 512  # of one event: ten of its own, the person's, an id for each delivery
    TARGETS = 128
    LONGEST_KEY = 640  # bytes; an ordinary one has a tenant of 64 and a user of 128 characters
    LONGEST_PART = 512  # bytes of an event's id of 128 characters

# The places of the values that fill a form, as in patterns.py.
cdef enum:
    EVENT_ID, OFFSET, NOW, CONTENT, UNTIL, EXPIRES, RAW, COLLAPSE, TRACE, WHERE, PERSON

cdef int REJECTED = NUMBERS["rejected"]
cdef int64_t FAR = 253_402_300_799_000  # ms: the end of year 9999, beyond which there is no datetime
cdef dict ACCEPTED = {"string": 1 << 4, "integer": 1 << 2, "number": 1 << 2 | 1 << 3, "boolean": 1 << 1}
cdef bytes DELIVERIES = bytes.fromhex("6f1a3c526f0e5c0e9d0a0b7e3f2d9a41")  # model/delivery.py
cdef const char *HEX = "0123456789abcdef"
cdef long LONGEST_ID = MAX_ID
cdef long LONGEST_TEXT = MAX_TEXT
cdef int MOST_LINKS = LINKS
cdef object NO_TOPIC = RELEASED
cdef object MISSING = object()


cdef Span span_of(bytes whole):
    cdef Span span
    span.at = <const uint8_t *>PyBytes_AS_STRING(whole)
    span.size = PyBytes_GET_SIZE(whole)
    return span


cdef bint printable(Span text, long most) except -1:
    """Whether it is 1 to `most` printable characters; none at all is no text of an id, but of a variable."""
    if everpost_plain(text):
        return <long>text.size <= most
    try:
        words = PyUnicode_DecodeUTF8(<const char *>text.at, text.size, NULL)
    except UnicodeDecodeError:
        return False
    return len(words) <= most and words.isprintable()


cdef str words_of(Span encoded):
    """What an encoded string says; None when it says nothing that is UTF-8, or is not there."""
    if encoded.size == 0:
        return None
    return avro.words(PyBytes_FromStringAndSize(<const char *>encoded.at, encoded.size))


cdef class Rules:
    """What a type in a lane asks of an event."""

    cdef readonly object kind
    cdef int64_t lasts
    cdef list names
    cdef int variables, required
    cdef Span name[VARIABLES]
    cdef int accepted[VARIABLES]
    cdef bint needed[VARIABLES]

    def __init__(self, kind):
        self.kind = kind
        self.lasts = kind.lasts
        self.names = [avro.text(name) for name in kind.type.variables]
        self.variables = len(self.names) if len(self.names) <= VARIABLES else -1
        for number, variable in enumerate(kind.type.variables.values()):
            if number >= VARIABLES:
                break
            self.name[number] = span_of(self.names[number])
            self.accepted[number] = ACCEPTED[variable.kind]
            self.needed[number] = variable.required
            self.required += variable.required

    cdef bint pass_(self, const Seen *seen) except -1:
        """Whether the variables are right beyond doubt (`plainly_valid`)."""
        cdef int needed = 0, number, at
        for number in range(seen.entries):
            at = self.find(seen.entry[number].name)
            if at < 0 or not self.accepted[at] >> seen.entry[number].branch & 1:
                return False
            if seen.entry[number].branch == 4 and not printable(seen.entry[number].words, LONGEST_TEXT):
                return False
            needed += self.needed[at]
        return needed == self.required and self.variables >= 0

    cdef int find(self, Span name) noexcept:
        cdef int number
        for number in range(self.variables):
            if self.name[number].size == name.size and memcmp(self.name[number].at, name.at, name.size) == 0:
                return number
        return -1


cdef class Sheet:
    """One record with blanks, ready to be filled."""

    cdef str topic
    cdef object partition
    cdef bytes constants
    cdef int blanks
    cdef Py_ssize_t size[BLANKS + 1]
    cdef int place[BLANKS]

    def __init__(self, form):
        self.topic, self.partition = form.topic, form.partition
        self.constants = b"".join(form.stencil.constants)
        self.blanks = len(form.stencil.places)
        for number, constant in enumerate(form.stencil.constants):
            self.size[number] = len(constant)
        for number, place in enumerate(form.stencil.places):
            self.place[number] = place

    cdef bytes fill(self, const Span *values, Span raw):
        cdef int number
        cdef Py_ssize_t total = PyBytes_GET_SIZE(self.constants)
        for number in range(self.blanks):
            total += values[self.place[number]].size
            if self.place[number] == RAW:
                total += raw.size
        cdef bytes filled = PyBytes_FromStringAndSize(NULL, total)
        cdef char *to = PyBytes_AS_STRING(filled)
        cdef const char *constant = PyBytes_AS_STRING(self.constants)
        for number in range(self.blanks + 1):
            memcpy(to, constant, self.size[number])
            to += self.size[number]
            constant += self.size[number]
            if number < self.blanks:
                memcpy(to, values[self.place[number]].at, values[self.place[number]].size)
                to += values[self.place[number]].size
                if self.place[number] == RAW:
                    memcpy(to, raw.at, raw.size)
                    to += raw.size
        return filled


cdef class Plate:
    """A pattern, ready to be filled."""

    cdef list sheets
    cdef str verdict
    cdef int number, targets
    cdef int target[TARGETS]

    def __init__(self, pattern):
        self.verdict = pattern.verdict
        self.number = NUMBERS[pattern.verdict]
        self.sheets = [Sheet(form) for form in pattern.forms]
        self.targets = len(pattern.targets)
        for number, target in enumerate(pattern.targets):
            self.target[number] = target


def fits(pattern):
    """Whether the arrays of a plate hold the pattern."""
    return len(pattern.targets) <= TARGETS and all(len(f.stencil.places) <= BLANKS for f in pattern.forms)


cdef class Short:
    """Rules on the ordinary events of one batch, as `Express` does, whom it asks for what is seldom."""

    cdef object express, page_of, decided
    cdef dict rules, people, messages, verdicts, awake
    cdef list topics, partitions, offsets, keys, values, traces
    cdef bytes head
    cdef bint recalls
    cdef int64_t now, latest
    cdef Sha1 namespace
    cdef uint8_t *scratch
    cdef size_t room
    # Of the event at hand:
    cdef Seen seen
    cdef Span raw
    cdef Span value[VALUES]
    cdef int64_t end
    cdef uint8_t digest[9]
    cdef uint8_t small[4][16]  # offset, now, expires, size of the event
    cdef uint8_t until[64]
    cdef uint8_t where[320]
    cdef uint8_t ids[TARGETS][37]

    def __init__(self, express, rules, head):
        records, work = express.records, express.work
        self.express, self.rules, self.head = express, rules, head
        self.people, self.recalls = express.people, bool(express.recalls)
        self.topics, self.partitions, self.offsets = records.topics, records.partitions, records.offsets
        self.keys, self.values = records.keys, records.values
        self.messages, self.verdicts, self.traces = work.written.messages, work.verdicts, work.traces
        self.page_of, self.decided = work.batch.page, work.batch.decided
        self.now, self.latest, self.awake = express.now, express.latest, {}
        everpost_sha1_start(&self.namespace)
        everpost_sha1_take(&self.namespace, <const uint8_t *>PyBytes_AS_STRING(DELIVERIES), 16)
        self.value[NOW].at = self.small[1]
        self.value[NOW].size = everpost_write_long(self.small[1], self.now)

    def __dealloc__(self):
        free(self.scratch)

    def decide(self, Py_ssize_t at):
        """Whether the event at this place was ordinary, and is decided."""
        key, value = self.keys[at], self.values[at]
        person = None if key is None or value is None else self.people.get(key)
        if person is None or person.patterns is None or self.topics[at] == NO_TOPIC or len(key) > LONGEST_KEY:
            return False
        self.raw = span_of(value)
        if not everpost_look(self.raw, span_of(self.head), span_of(person.owner), &self.seen):
            return False
        cdef Span kind = self.seen.kind
        cdef Rules rules = self.rules.get(PyBytes_FromStringAndSize(<const char *>kind.at, kind.size))
        if rules is None or not self.ordinary(rules, person):
            return False
        page = self.page_of(self.partitions[at])
        id = self.identify(key)
        before = self.decided(self.partitions[at], id)
        if before is not None and not self.repeats(before, at):
            return False
        plate = self.plate(at, person, before is None)
        if plate is None:
            return False
        self.fill(at, plate, person)
        self.note(at, plate, page, id if before is None else None)
        return True

    cdef bint ordinary(self, Rules rules, person) except -1:
        """Whether the gates that look at what changes from event to event let it pass in their usual words."""
        cdef const Seen *seen = &self.seen
        self.end = seen.expires if seen.expiring else seen.created + rules.lasts
        if seen.created > self.latest or self.end <= self.now or self.end >= FAR or seen.id.size == 0:
            return False
        if not printable(seen.id, LONGEST_ID) or not rules.pass_(seen):
            return False
        if not self.readable(seen.collapse) or not self.readable(seen.locale) or not self.readable(seen.trace):
            return False
        self.digest_content()
        profile = person.profile
        if profile.quiet_from is not None and not self.wakes(person.patterns, profile):
            return False
        if not self.recalls:
            return True
        id = PyUnicode_DecodeUTF8(<const char *>seen.id.at, seen.id.size, NULL)
        return not self.express.recalled(
            rules.kind, profile, id, words_of(seen.collapse), seen.created
        )

    cdef bint readable(self, Span encoded) except -1:
        """Whether it is UTF-8."""
        if everpost_plain(encoded):  # with its length before it, which is one byte then
            return True
        try:
            words_of(encoded)
        except UnicodeDecodeError:
            return False
        return True

    cdef bint wakes(self, patterns, profile) except -1:
        """Whether it is no quiet hour for people of this shape."""
        awake = self.awake.get(id(patterns))
        if awake is None:
            awake = self.awake[id(patterns)] = self.express.awake(profile)
        return awake

    cdef int digest_content(self) except -1:
        cdef size_t needed = self.raw.size + 32
        if needed > self.room:
            self.scratch = <uint8_t *>realloc(self.scratch, needed * 2)
            if self.scratch == NULL:
                self.room = 0
                raise MemoryError
            self.room = needed * 2
        self.digest[0] = 0x10
        everpost_blake2b(&self.digest[1], 8, self.scratch, everpost_content(&self.seen, self.scratch))
        return 0

    cdef bytes identify(self, bytes key):
        """`window.identity` of the key and the event's id."""
        cdef uint8_t both[LONGEST_KEY + 1 + LONGEST_PART]
        cdef Span user = span_of(key), event = self.seen.id
        cdef bytes id = PyBytes_FromStringAndSize(NULL, 16)
        memcpy(both, user.at, user.size)
        both[user.size] = 0x1F
        memcpy(&both[user.size + 1], event.at, event.size)
        everpost_blake2b(<uint8_t *>PyBytes_AS_STRING(id), 16, both, user.size + 1 + event.size)
        return id

    cdef bint repeats(self, bytes before, Py_ssize_t at) except -1:
        """Whether it is a plain duplicate of what was decided before; then its evidence is written down."""
        cdef const uint8_t *entry = span_of(before).at
        cdef uint8_t nothing[8]
        cdef int64_t offset = 0
        cdef int number, size
        if entry[1] == REJECTED:
            return False
        for number in range(8):
            nothing[number] = 0
            offset = offset << 8 | entry[2 + number]
        if memcmp(entry + 18, nothing, 8) != 0 and memcmp(entry + 18, &self.digest[1], 8) != 0:
            return False
        cdef bytes topic = SOURCES[entry[0]].encode()
        size = snprintf(<char *>&self.where[2], sizeof(self.where) - 2, "decided at %s/%d/%lld",
                        PyBytes_AS_STRING(topic), <int>self.partitions[at], <long long>offset)
        number = everpost_write_long(self.where, size)
        if number == 1:
            self.where[1] = self.where[0]
        self.value[WHERE].at = &self.where[2 - number]
        self.value[WHERE].size = size + number
        return True

    cdef Plate plate(self, Py_ssize_t at, person, bint fresh):
        cdef Span kind = self.seen.kind
        locale = words_of(self.seen.locale)
        key = (
            PyBytes_FromStringAndSize(<const char *>kind.at, kind.size), self.topics[at], self.partitions[at],
            self.seen.collapse.size == 0, locale, self.seen.trace.size == 0, fresh,
        )
        pattern = (<dict>person.patterns).get(key, MISSING)
        if pattern is MISSING:
            pattern = self.express.pattern(key, at, person)
        if pattern is None or len(person.blanks) + len(pattern.targets) > VALUES - PERSON:
            return None
        if pattern.plate is None:
            if not fits(pattern):
                return None
            pattern.plate = Plate(pattern)
        return pattern.plate

    cdef int fill(self, Py_ssize_t at, Plate plate, person) except -1:
        """Write the values of the blanks down, then the records."""
        cdef Span *value = self.value
        cdef int place = PERSON
        value[EVENT_ID] = self.seen.event_id
        value[COLLAPSE] = self.seen.collapse
        value[TRACE] = self.seen.trace
        value[OFFSET].at = self.small[0]
        value[OFFSET].size = everpost_write_long(self.small[0], self.offsets[at])
        value[CONTENT].at = self.digest
        value[CONTENT].size = 9
        value[UNTIL].at = self.until
        value[EXPIRES].at = self.small[2]
        value[RAW].at = self.small[3]
        value[UNTIL].size = everpost_until(self.until, self.end)
        self.small[2][0] = 2  # the second branch
        value[EXPIRES].size = 1 + everpost_write_long(&self.small[2][1], self.end)
        value[RAW].size = everpost_write_long(self.small[3], self.raw.size)
        for blank in person.blanks:
            value[place] = span_of(blank)
            place += 1
        self.name_deliveries(plate, self.keys[at], person.places, place)
        for sheet in plate.sheets:
            self.put(<Sheet>sheet, self.keys[at])
        return 0

    cdef int put(self, Sheet sheet, bytes key) except -1:
        message = {"value": sheet.fill(self.value, self.raw), "key": key, "partition": sheet.partition}
        written = self.messages.get(sheet.topic)
        if written is None:
            written = self.messages[sheet.topic] = []
        (<list>written).append(message)
        return 0

    cdef int name_deliveries(self, Plate plate, bytes key, tuple places, int place) except -1:
        """`delivery_ids` of the event, each as an Avro string."""
        cdef Sha1 state = self.namespace  # 16 bytes; most events' next 48 end in the middle of their id
        cdef uint8_t both[LONGEST_KEY + 1 + LONGEST_PART]
        cdef uint8_t digest[20]
        cdef Span user = span_of(key), event = self.seen.id, address
        cdef int number, slash = 0
        memcpy(both, user.at, user.size)
        while both[slash] != 0x2F:  # a tenant holds no '/', a user may
            slash += 1
        both[slash] = 0x1F
        both[user.size] = 0x1F
        memcpy(&both[user.size + 1], event.at, event.size)
        everpost_sha1_take(&state, both, user.size + 1 + event.size)
        for number in range(plate.targets):
            address = span_of(places[plate.target[number]])
            everpost_sha1(digest, &state, address.at, address.size)
            write_uuid(self.ids[number], digest)
            self.value[place + number].at = self.ids[number]
            self.value[place + number].size = 37
        return 0

    cdef int note(self, Py_ssize_t at, Plate plate, page, id) except -1:
        """Remember it, and count it."""
        cdef int64_t offset = self.offsets[at]
        if len(self.traces) < MOST_LINKS and self.seen.trace.size:
            self.traces.append(words_of(self.seen.trace))
        self.verdicts[plate.verdict] = self.verdicts.get(plate.verdict, 0) + 1
        cdef int place = PLACES[self.topics[at]], byte
        if page.next[place] <= offset:
            page.next[place] = offset + 1
        if id is None:
            return 0
        cdef bytes entry = PyBytes_FromStringAndSize(NULL, 26)
        cdef uint8_t *to = <uint8_t *>PyBytes_AS_STRING(entry)
        to[0], to[1] = place, plate.number
        for byte in range(8):
            to[2 + byte] = <uint8_t>(offset >> 8 * (7 - byte))
            to[10 + byte] = <uint8_t>(self.now >> 8 * (7 - byte))
            to[18 + byte] = self.digest[1 + byte]
        page.entries[id] = entry
        return 0


cdef void write_uuid(uint8_t *to, const uint8_t *digest) noexcept:
    """36 characters behind their length: version 5 (RFC 9562)."""
    cdef int number
    cdef uint8_t byte
    to[0] = 72
    to += 1
    for number in range(16):
        byte = digest[number]
        if number == 6:
            byte = byte & 0x0F | 0x50
        elif number == 8:
            byte = byte & 0x3F | 0x80
        if number == 4 or number == 6 or number == 8 or number == 10:
            to[0] = 0x2D
            to += 1
        to[0], to[1] = HEX[byte >> 4], HEX[byte & 15]
        to += 2
