# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Flat Avro records to dataclasses and back, without a dictionary between: a fifth of fastavro's time.

A field is told by a letter:

    s text   b bytes   ? boolean   i int or long   t time in ms (aware, UTC)   e one of `symbols`
    S, I, T  the same or null      d a map to null, boolean, long, double or text
    N        an array or null, of which only null is known here

Whatever is damaged, out of range or of another type gives None: the general way says what it is.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.datetime cimport datetime_new, import_datetime
from cpython.object cimport PyObject_GenericSetAttr
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcmp, memcpy

from datetime import UTC, datetime

from pipeline.adapters.wire.native.span cimport Span, read_flag, read_long, read_size, read_some, read_text

import_datetime()

cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL

cdef enum:
    ROOM = 4096  # bytes that are written here; longer records go the general way
    DAY = 86_400_000  # ms
    FIRST = -719_162  # the days from 1970 to the year 1
    LAST = 2_932_896  # to the end of 9999

cdef object _UTC = UTC
cdef object _ABROAD = (ValueError, OverflowError, TypeError, AttributeError)

cdef struct Room:
    unsigned char *at
    unsigned char *end


cdef class Flat:
    """The records of one class; `head` stands before each, `fields` are letters by name in the schema's order."""

    cdef object cls
    cdef bytes head
    cdef tuple names
    cdef bytes kinds
    cdef tuple symbols
    cdef dict places

    def __init__(self, cls, bytes head, dict fields, tuple symbols):
        self.cls = cls
        self.head = head
        self.names = tuple(fields)
        self.kinds = "".join(fields.values()).encode()
        self.symbols = symbols
        self.places = {symbol: number for number, symbol in enumerate(symbols)}

    def read(self, bytes value):
        """The record in the bytes, or None."""
        cdef Py_ssize_t size = PyBytes_GET_SIZE(value), begin = PyBytes_GET_SIZE(self.head)
        cdef Span span
        cdef Py_ssize_t number
        cdef object record
        cdef const char *kinds = PyBytes_AS_STRING(self.kinds)
        if size < begin or memcmp(PyBytes_AS_STRING(value), PyBytes_AS_STRING(self.head), begin) != 0:
            return None
        span.at = <const unsigned char *> PyBytes_AS_STRING(value) + begin
        span.end = <const unsigned char *> PyBytes_AS_STRING(value) + size
        record = self.cls.__new__(self.cls)
        try:
            for number in range(len(self.names)):
                PyObject_GenericSetAttr(record, self.names[number], self._field(&span, kinds[number]))
        except _ABROAD:
            return None
        return record if span.at == span.end else None

    def write(self, record):
        """The bytes of the record, or None."""
        cdef unsigned char buffer[ROOM]
        cdef Room room
        cdef Py_ssize_t number
        cdef const char *kinds = PyBytes_AS_STRING(self.kinds)
        room.at = buffer
        room.end = room.at + ROOM
        try:
            _put(&room, PyBytes_AS_STRING(self.head), PyBytes_GET_SIZE(self.head))
            for number in range(len(self.names)):
                self._put_field(&room, kinds[number], getattr(record, self.names[number]))
        except _ABROAD:
            return None
        return PyBytes_FromStringAndSize(<const char *> buffer, room.at - buffer)

    cdef object _field(self, Span *span, char kind):
        cdef int64_t number
        if kind == b"s":
            return read_text(span)
        if kind == b"S" or kind == b"I" or kind == b"T" or kind == b"N":
            if not read_some(span):
                return None
            return self._field(span, kind + 32)  # the lower letter; there is none for N
        if kind == b"i":
            return read_long(span)
        if kind == b"t":
            return _time(read_long(span))
        if kind == b"e":
            number = read_long(span)
            if not 0 <= number < len(self.symbols):
                raise ValueError
            return self.symbols[number]
        if kind == b"?":
            return read_flag(span)
        if kind == b"d":
            return _data(span)
        if kind == b"b":
            number = read_size(span)
            span.at += number
            return PyBytes_FromStringAndSize(<const char *> span.at - number, number)
        raise ValueError

    cdef int _put_field(self, Room *room, char kind, object value) except -1:
        if kind == b"s":
            return _put_text(room, value)
        if kind == b"S" or kind == b"I" or kind == b"T" or kind == b"N":
            if value is None:
                return _put_byte(room, 0)
            _put_byte(room, 2)
            return self._put_field(room, kind + 32, value)
        if kind == b"i":
            if type(value) is not int:
                raise TypeError
            return _put_long(room, value)
        if kind == b"t":
            return _put_long(room, _milliseconds(value))
        if kind == b"e":
            if type(value) is not str or value not in self.places:
                raise ValueError
            return _put_long(room, self.places[value])
        if kind == b"?":
            if type(value) is not bool:
                raise TypeError
            return _put_byte(room, value is True)
        if kind == b"b":
            if type(value) is not bytes:
                raise TypeError
            _put_long(room, PyBytes_GET_SIZE(value))
            return _put(room, PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value))
        raise ValueError


cdef dict _data(Span *span):
    cdef dict found = {}
    cdef int64_t count = read_long(span)
    cdef str name
    while count:
        if count < 0:
            raise ValueError
        for _ in range(count):
            name = read_text(span)
            found[name] = _value(span, read_long(span))
        count = read_long(span)
    return found


cdef object _value(Span *span, int64_t branch):
    cdef double number
    if branch == 0:
        return None
    if branch == 1:
        return read_flag(span)
    if branch == 2:
        return read_long(span)
    if branch == 3 and span.end - span.at >= 8:
        memcpy(&number, span.at, 8)  # as an x86 or an ARM has it, too
        span.at += 8
        return number
    if branch == 4:
        return read_text(span)
    raise ValueError


cdef object _time(int64_t ms):
    """By Howard Hinnant's `civil_from_days`: eras of 400 years, years that begin in March."""
    cdef int64_t days = ms // DAY - (ms % DAY < 0), rest = ms - days * DAY
    cdef int64_t era, of_era, year, of_year, month
    if not FIRST <= days <= LAST:
        raise ValueError
    days += 719_468
    era = days // 146_097
    of_era = days - era * 146_097
    year = (of_era - of_era // 1_460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * year + year // 4 - year // 100)
    month = (5 * of_year + 2) // 153
    days = of_year - (153 * month + 2) // 5 + 1
    month += 3 if month < 10 else -9
    year += era * 400 + (month <= 2)
    return datetime_new(
        year, month, days,
        rest // 3_600_000, rest // 60_000 % 60, rest // 1_000 % 60, rest % 1_000 * 1_000, _UTC,
    )


cdef int64_t _milliseconds(object time) except? -1:
    """By Howard Hinnant's `days_from_civil`."""
    cdef int64_t year, month, of_year, of_era, days, rest
    if type(time) is not datetime or time.tzinfo is not _UTC:
        raise TypeError
    year, month = time.year, time.month
    year -= month <= 2
    of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + time.day - 1
    of_era = year % 400 * 365 + year % 400 // 4 - year % 400 // 100 + of_year
    days = year // 400 * 146_097 + of_era - 719_468
    rest = (time.hour * 60 + time.minute) * 60 + time.second
    return days * DAY + rest * 1_000 + time.microsecond // 1_000


cdef int _put(Room *room, const char *bytes, Py_ssize_t size) except -1:
    if size > room.end - room.at:
        raise OverflowError
    memcpy(room.at, bytes, size)
    room.at += size
    return 0


cdef int _put_byte(Room *room, unsigned char byte) except -1:
    return _put(room, <const char *> &byte, 1)


cdef int _put_long(Room *room, int64_t value) except -1:
    cdef uint64_t rest = (<uint64_t> value << 1) ^ <uint64_t> (value >> 63)
    while rest >= 128:
        _put_byte(room, (rest & 127) | 128)
        rest >>= 7
    return _put_byte(room, rest)


cdef int _put_text(Room *room, object text) except -1:
    cdef Py_ssize_t size = 0
    cdef const char *words
    if type(text) is not str:
        raise TypeError
    words = PyUnicode_AsUTF8AndSize(text, &size)
    _put_long(room, size)
    return _put(room, words, size)
