# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Packed records go to librdkafka in one call a topic, where confluent-kafka would want a dict for each."""

from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE

from libc.stdint cimport int64_t
from libc.stdlib cimport calloc

import os

from confluent_kafka import cimpl


cdef extern from "librdkafka.h" nogil:
    ctypedef struct Message "everpost_message":
        pass
    ctypedef struct Counts "everpost_counts":
        int64_t acknowledged
        int64_t failed
        int64_t error
    bint everpost_find(const char *path)
    void everpost_watch(Counts *counts)
    int64_t everpost_read(const int64_t *count)
    void *everpost_take()
    int everpost_queue(void *topic, char **at, const char *end, Message *messages, int most)
    void *topic_new "everpost_rd.topic_new"(void *client, const char *name, void *conf)
    void topic_destroy "everpost_rd.topic_destroy"(void *topic)

cdef enum:
    MOST = 1_000  # messages of one call: 72 KB
    UNKNOWN_TOPIC = -188  # RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC

FOUND = bool(everpost_find(os.fsencode(cimpl.__file__)))


cdef class Direct:
    """The producer's own way into librdkafka."""

    cdef object producer  # lives as long as its handle is used
    cdef void *client
    cdef Counts *counted  # never freed: librdkafka's threads may outlive this object

    def __init__(self, make, bint counted=False):
        """`make`: makes the producer, with this module as its plugin; `counted`: count what becomes of its messages."""
        everpost_take()
        if counted:
            self.counted = <Counts *>calloc(1, sizeof(Counts))
            if self.counted == NULL:
                raise MemoryError()
        everpost_watch(self.counted)
        try:
            self.producer = make()
        finally:
            everpost_watch(NULL)
        self.client = everpost_take()
        if self.client == NULL:
            raise RuntimeError("librdkafka has not called its plugin")

    @property
    def made(self):
        """The producer."""
        return self.producer

    @property
    def counts(self):
        """How many messages are acknowledged with their offset, how many have failed, and the last error's code."""
        if self.counted == NULL:
            return 0, 0, 0
        return (
            everpost_read(&self.counted.acknowledged),
            everpost_read(&self.counted.failed),
            everpost_read(&self.counted.error),
        )

    def produce(self, str topic, bytearray packed):
        """Queue them all; librdkafka's error code, 0 for none. Nobody else may change `packed` meanwhile."""
        cdef bytes name = topic.encode()
        cdef const char *named = name
        cdef char *at = PyByteArray_AS_STRING(packed)
        cdef const char *end = at + PyByteArray_GET_SIZE(packed)
        cdef Message messages[MOST]
        cdef void *opened
        cdef int error = 0
        with nogil:
            opened = topic_new(self.client, named, NULL)
            if opened == NULL:
                error = UNKNOWN_TOPIC
            else:
                while at < end and error == 0:
                    error = everpost_queue(opened, &at, end, messages, MOST)
                topic_destroy(opened)
        return error
