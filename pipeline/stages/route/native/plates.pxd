# The router's objects as the compiled short way keeps them: what stands in `plates.pyx`.

from libc.stdint cimport int32_t, int64_t, uint8_t

from pipeline.stages.route.native.event cimport Seen, Span

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


cdef inline Span span_of(bytes whole):
    cdef Span span
    span.at = <const uint8_t *>whole
    span.size = len(whole)
    return span


cdef class Rules:
    cdef readonly object kind
    cdef int64_t lasts
    cdef list names
    cdef int variables, required
    cdef Span name[VARIABLES]
    cdef int accepted[VARIABLES]
    cdef bint needed[VARIABLES]
    cdef bint pass_(self, const Seen *seen) except -1
    cdef int find(self, Span name) noexcept


cdef class Card:
    cdef bytes packed
    cdef dict patterns
    cdef bint sleeper
    cdef int blanks, places
    cdef int *ends  # of the owner, the blanks and the places
    cdef Span part(self, int number) noexcept


cdef class Sheet:
    cdef str topic
    cdef int32_t partition
    cdef bytes constants
    cdef int blanks
    cdef Py_ssize_t size[BLANKS + 1]
    cdef int place[BLANKS]
    cdef Py_ssize_t filled(self, const Span *values, Span raw) noexcept
    cdef void fill(self, char *to, const Span *values, Span raw) noexcept


cdef class Plate:
    cdef list sheets
    cdef str verdict
    cdef int number, targets
    cdef int target[TARGETS]


cdef bint printable(Span text, long most) except -1
cdef bint readable(Span encoded) except -1
cdef str words_of(Span encoded)
cdef Card card_of(person)
cdef Plate plate_of(pattern, Card card)
