# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The short way, compiled: the same bytes as `pipeline/stages/route/express.py`, in a tenth of its time.

What is looked at and written is bytes in C (`event.h`, `digest.h`); this module ties them to the router's
objects. Whoever it is not sure about goes the long way. Without a compiler at installation there is no such
module, and `express.py` does its work; a property test holds all three ways to the same bytes.
"""

from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE, PyByteArray_Resize
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport int32_t, int64_t, uint8_t
from libc.stdio cimport snprintf
from libc.stdlib cimport free, realloc
from libc.string cimport memcmp, memcpy

from pipeline.stages.route.native.event cimport (
    Seen,
    Sha1,
    Span,
    everpost_blake2b,
    everpost_content,
    everpost_look,
    everpost_sha1,
    everpost_sha1_start,
    everpost_sha1_take,
    everpost_until,
    everpost_write_long,
)
from pipeline.stages.route.native.plates cimport (
    COLLAPSE,
    CONTENT,
    EVENT_ID,
    EXPIRES,
    LONGEST_KEY,
    LONGEST_PART,
    NOW,
    OFFSET,
    PERSON,
    RAW,
    TARGETS,
    TRACE,
    UNTIL,
    VALUES,
    WHERE,
    Card,
    Plate,
    Rules,
    Sheet,
    card_of,
    plate_of,
    printable,
    readable,
    span_of,
    words_of,
)

cdef extern from "Python.h":
    ctypedef struct PyByteArrayObject:
        Py_ssize_t ob_alloc  # bytes that it has room for

from pipeline.model.catalogue import MAX_ID
from pipeline.model.topics import RELEASED
from pipeline.model.window import NUMBERS, PLACES, SOURCES
from pipeline.stages.route.work import LINKS

cdef int REJECTED = NUMBERS["rejected"]
cdef int64_t FAR = 253_402_300_799_000  # ms: the end of year 9999, beyond which there is no datetime
cdef bytes DELIVERIES = bytes.fromhex("6f1a3c526f0e5c0e9d0a0b7e3f2d9a41")  # model/delivery.py
cdef const char *HEX = "0123456789abcdef"
cdef long LONGEST_ID = MAX_ID
cdef int MOST_LINKS = LINKS
cdef object NO_TOPIC = RELEASED
cdef object MISSING = object()


cdef class Short:
    """Rules on the ordinary events of one batch, as `Express` does, whom it asks for what is seldom."""

    cdef object express, page_of, decided
    cdef dict rules, people, packed, verdicts, awake
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
        self.packed, self.verdicts, self.traces = work.written.packed, work.verdicts, work.traces
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
        cdef Card card = None if person is None else card_of(person)
        if card is None or self.topics[at] == NO_TOPIC or len(key) > LONGEST_KEY:
            return False
        self.raw = span_of(value)
        if not everpost_look(self.raw, span_of(self.head), card.part(0), &self.seen):
            return False
        cdef Span kind = self.seen.kind
        cdef Rules rules = self.rules.get(PyBytes_FromStringAndSize(<const char *>kind.at, kind.size))
        if rules is None or not self.ordinary(rules, card, person):
            return False
        page = self.page_of(self.partitions[at])
        id = self.identify(key)
        before = self.decided(self.partitions[at], id)
        if before is not None and not self.repeats(before, at):
            return False
        plate = self.plate(at, card, person, before is None)
        if plate is None:
            return False
        self.fill(at, plate, card)
        self.note(at, plate, page, id if before is None else None)
        return True

    cdef bint ordinary(self, Rules rules, Card card, person) except -1:
        """Whether the gates that look at what changes from event to event let it pass in their usual words."""
        cdef const Seen *seen = &self.seen
        self.end = seen.expires if seen.expiring else seen.created + rules.lasts
        if seen.created > self.latest or self.end <= self.now or self.end >= FAR or seen.id.size == 0:
            return False
        if not printable(seen.id, LONGEST_ID) or not rules.pass_(seen):
            return False
        if not readable(seen.collapse) or not readable(seen.locale) or not readable(seen.trace):
            return False
        self.digest_content()
        if card.sleeper and not self.wakes(card.patterns, person.profile):
            return False
        if not self.recalls:
            return True
        id = PyUnicode_DecodeUTF8(<const char *>seen.id.at, seen.id.size, NULL)
        return not self.express.recalled(
            rules.kind, person.profile, id, words_of(seen.collapse), seen.created
        )

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

    cdef Plate plate(self, Py_ssize_t at, Card card, person, bint fresh):
        cdef Span kind = self.seen.kind
        locale = words_of(self.seen.locale)
        key = (
            PyBytes_FromStringAndSize(<const char *>kind.at, kind.size), self.topics[at], self.partitions[at],
            self.seen.collapse.size == 0, locale, self.seen.trace.size == 0, fresh,
        )
        pattern = card.patterns.get(key, MISSING)
        if pattern is MISSING:
            pattern = self.express.pattern(key, at, person)
        return None if pattern is None else plate_of(pattern, card)

    cdef int fill(self, Py_ssize_t at, Plate plate, Card card) except -1:
        """Write the values of the blanks down, then the records."""
        cdef Span *value = self.value
        cdef int number
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
        for number in range(card.blanks):
            value[PERSON + number] = card.part(1 + number)
        self.name_deliveries(plate, self.keys[at], card)
        for sheet in plate.sheets:
            self.put(<Sheet>sheet, self.keys[at])
        return 0

    cdef int put(self, Sheet sheet, bytes key) except -1:
        """`Written.put`: the record is filled in where it goes out from."""
        packed = self.packed.get(sheet.topic)
        if packed is None:
            packed = self.packed[sheet.topic] = bytearray()
        cdef Py_ssize_t before = PyByteArray_GET_SIZE(packed), size = sheet.filled(self.value, self.raw)
        cdef int32_t head[3]
        head[0], head[1], head[2] = sheet.partition, <int32_t>PyBytes_GET_SIZE(key), <int32_t>size
        cdef Py_ssize_t after = before + <Py_ssize_t>sizeof(head) + head[1] + size
        if after >= (<PyByteArrayObject *>packed).ob_alloc:
            PyByteArray_Resize(packed, 2 * after)  # by itself it grows by an eighth, and copies megabytes each time
        PyByteArray_Resize(packed, after)
        cdef char *to = PyByteArray_AS_STRING(packed) + before
        memcpy(to, head, sizeof(head))
        memcpy(to + sizeof(head), PyBytes_AS_STRING(key), head[1])
        sheet.fill(to + sizeof(head) + head[1], self.value, self.raw)
        return 0

    cdef int name_deliveries(self, Plate plate, bytes key, Card card) except -1:
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
            address = card.part(1 + card.blanks + plate.target[number])
            everpost_sha1(digest, &state, address.at, address.size)
            write_uuid(self.ids[number], digest)
            self.value[PERSON + card.blanks + number].at = self.ids[number]
            self.value[PERSON + card.blanks + number].size = 37
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
