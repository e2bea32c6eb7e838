# What `event.h` and `digest.h` offer to Cython.

from libc.stdint cimport int64_t, uint8_t

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
