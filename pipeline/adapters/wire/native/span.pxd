# Avro's simple values, read from bytes in C. ValueError or UnicodeDecodeError: damaged, or longer than it may be.

from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport int64_t, uint64_t

cdef struct Span:
    const unsigned char *at
    const unsigned char *end


cdef inline int64_t read_long(Span *span) except? -1:
    cdef uint64_t rest = 0
    cdef int shift = 0
    cdef unsigned char byte
    while span.at < span.end and shift < 63:
        byte = span.at[0]
        span.at += 1
        rest |= <uint64_t> (byte & 127) << shift
        if byte < 128:
            return <int64_t> (rest >> 1) ^ -<int64_t> (rest & 1)
        shift += 7
    raise ValueError


cdef inline Py_ssize_t read_size(Span *span) except -1:
    cdef int64_t size = read_long(span)
    if size < 0 or size > span.end - span.at:
        raise ValueError
    return size


cdef inline str read_text(Span *span):
    cdef Py_ssize_t size = read_size(span)
    span.at += size
    return PyUnicode_DecodeUTF8(<const char *> span.at - size, size, NULL)


cdef inline bint read_flag(Span *span) except -1:
    if span.at >= span.end or span.at[0] > 1:
        raise ValueError
    span.at += 1
    return span.at[-1]


cdef inline bint read_some(Span *span) except -1:
    """Whether a union with null has a value."""
    cdef int64_t branch = read_long(span)
    if branch != 0 and branch != 1:
        raise ValueError
    return branch
