# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The router's objects as the compiled short way keeps them: in C arrays, made once."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport uint8_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy

from pipeline.stages.route.native.event cimport Seen, Span, everpost_plain

from pipeline.model import avro
from pipeline.model.catalogue import MAX_TEXT
from pipeline.model.window import NUMBERS
from pipeline.stages.route.people import own

cdef dict ACCEPTED = {"string": 1 << 4, "integer": 1 << 2, "number": 1 << 2 | 1 << 3, "boolean": 1 << 1}
cdef long LONGEST_TEXT = MAX_TEXT


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


cdef bint readable(Span encoded) except -1:
    """Whether an encoded string is UTF-8."""
    if everpost_plain(encoded):  # with its length before it, which is one byte then
        return True
    try:
        words_of(encoded)
    except UnicodeDecodeError:
        return False
    return True


cdef class Rules:
    """What a type in a lane asks of an event."""

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


cdef class Card:
    """What of an event and of its ruling is a user's own, in one piece of memory."""

    def __init__(self, person):
        mine = own(person.profile)
        parts = (mine.owner, *mine.blanks, *mine.places)
        self.packed, self.patterns = b"".join(parts), person.patterns
        self.blanks, self.places = len(mine.blanks), len(mine.places)
        self.sleeper = person.profile.quiet_from is not None
        self.ends = <int *>malloc(len(parts) * sizeof(int))
        if self.ends == NULL:
            raise MemoryError
        end = 0
        for number, part in enumerate(parts):
            end += len(part)
            self.ends[number] = end

    def __dealloc__(self):
        free(self.ends)

    cdef Span part(self, int number) noexcept:
        cdef Span span
        cdef int begin = self.ends[number - 1] if number else 0
        span.at = <const uint8_t *>PyBytes_AS_STRING(self.packed) + begin
        span.size = self.ends[number] - begin
        return span


cdef class Sheet:
    """One record with blanks, ready to be filled."""

    def __init__(self, form):
        self.topic, self.partition = form.topic, form.partition
        self.constants = b"".join(form.stencil.constants)
        self.blanks = len(form.stencil.places)
        for number, constant in enumerate(form.stencil.constants):
            self.size[number] = len(constant)
        for number, place in enumerate(form.stencil.places):
            self.place[number] = place

    cdef Py_ssize_t filled(self, const Span *values, Span raw) noexcept:
        """How many bytes `fill` writes."""
        cdef int number
        cdef Py_ssize_t total = PyBytes_GET_SIZE(self.constants)
        for number in range(self.blanks):
            total += values[self.place[number]].size
            if self.place[number] == RAW:
                total += raw.size
        return total

    cdef void fill(self, char *to, const Span *values, Span raw) noexcept:
        cdef int number
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


cdef class Plate:
    """A pattern, ready to be filled."""

    def __init__(self, pattern):
        self.verdict = pattern.verdict
        self.number = NUMBERS[pattern.verdict]
        self.sheets = [Sheet(form) for form in pattern.forms]
        self.targets = len(pattern.targets)
        for number, target in enumerate(pattern.targets):
            self.target[number] = target


cdef Card card_of(person):
    """The person's card; None when every ruling is one of a kind."""
    card = person.card
    if card is None and person.patterns is not None:
        card = person.card = Card(person)
    return card


cdef Plate plate_of(pattern, Card card):
    """The pattern's plate; None when it is more than the arrays hold."""
    if pattern.plate is not None:
        return pattern.plate
    if card.blanks + len(pattern.targets) > VALUES - PERSON or len(pattern.targets) > TARGETS:
        return None
    if any(len(form.stencil.places) > BLANKS for form in pattern.forms):
        return None
    pattern.plate = Plate(pattern)
    return pattern.plate
