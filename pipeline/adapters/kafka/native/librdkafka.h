/* What the router and the relay use of librdkafka's public interface (rdkafka.h, version 2), found when the program runs, in
 * the library that confluent-kafka has brought: its header is not in the wheel.
 *
 * A client's handle comes by the documented way of a plugin (rdkafka.h: rd_kafka_plugin_f_conf_init_t): librdkafka
 * loads this module by the setting `plugin.library.paths`, calls conf_init(), and tells every new handle. */

#ifndef EVERPOST_LIBRDKAFKA_H
#define EVERPOST_LIBRDKAFKA_H

#include <dlfcn.h>
#include <stddef.h>
#include <stdint.h>

typedef struct everpost_message { /* rd_kafka_message_t */
    int err;
    void *topic;
    int32_t partition;
    void *payload;
    size_t len;
    void *key;
    size_t key_len;
    int64_t offset;
    void *private;
} everpost_message;

enum { EVERPOST_COPY = 0x2, EVERPOST_PARTITION = 0x8 }; /* RD_KAFKA_MSG_F_COPY, RD_KAFKA_MSG_F_PARTITION */

typedef int (*everpost_on_new)(void *client, const void *conf, void *opaque, char *error, size_t size);

typedef void (*everpost_on_acknowledgement)(void *client, everpost_message *message, void *opaque);

typedef struct everpost_counts { /* of a producer, since it was made */
    int64_t acknowledged; /* written, and the broker has told where */
    int64_t failed;
    int64_t error; /* librdkafka's code of the last failure */
} everpost_counts;

static struct {
    int (*add_on_acknowledgement)(void *client, const char *name, everpost_on_acknowledgement call, void *opaque);
    int (*add_on_new)(void *conf, const char *name, everpost_on_new call, void *opaque);
    void *(*topic_new)(void *client, const char *name, void *conf);
    void (*topic_destroy)(void *topic);
    int (*produce_batch)(void *topic, int32_t partition, int flags, everpost_message *messages, int count);
} everpost_rd;

static _Thread_local void *everpost_newest; /* the handle that this thread has made last */
static _Thread_local everpost_counts *everpost_counting; /* for the handle that this thread makes next, or NULL */

/* Find the functions in a library that is loaded already; 0 when one of them is not there. */
static int everpost_find(const char *path) {
    void *library = dlopen(path, RTLD_LAZY | RTLD_NOLOAD);
    if (library == NULL)
        return 0;
    *(void **)&everpost_rd.add_on_new = dlsym(library, "rd_kafka_conf_interceptor_add_on_new");
    *(void **)&everpost_rd.add_on_acknowledgement = dlsym(library, "rd_kafka_interceptor_add_on_acknowledgement");
    *(void **)&everpost_rd.topic_new = dlsym(library, "rd_kafka_topic_new");
    *(void **)&everpost_rd.topic_destroy = dlsym(library, "rd_kafka_topic_destroy");
    *(void **)&everpost_rd.produce_batch = dlsym(library, "rd_kafka_produce_batch");
    return everpost_rd.add_on_new && everpost_rd.add_on_acknowledgement && everpost_rd.topic_new &&
           everpost_rd.topic_destroy && everpost_rd.produce_batch;
}

/* On a thread of librdkafka, for every message that ends. One without an offset is none that was written: see
 * decision page 0009. */
static void everpost_count(void *client, everpost_message *message, void *opaque) {
    everpost_counts *counts = opaque;
    (void)client;
    if (message->err == 0 && message->offset >= 0) {
        __atomic_add_fetch(&counts->acknowledged, 1, __ATOMIC_RELEASE);
    } else {
        __atomic_store_n(&counts->error, message->err, __ATOMIC_RELEASE);
        __atomic_add_fetch(&counts->failed, 1, __ATOMIC_RELEASE);
    }
}

static int everpost_tell(void *client, const void *conf, void *opaque, char *error, size_t size) {
    everpost_counts *counts = everpost_counting;
    (void)conf, (void)opaque, (void)error, (void)size;
    everpost_newest = client;
    everpost_counting = NULL;
    return counts ? everpost_rd.add_on_acknowledgement(client, "everpost", everpost_count, counts) : 0;
}

/* rd_kafka_plugin_f_conf_init_t; in the one module that includes this. */
__attribute__((visibility("default"))) int conf_init(void *conf, void **opaque, char *error, size_t size) {
    (void)opaque, (void)error, (void)size;
    return everpost_rd.add_on_new ? everpost_rd.add_on_new(conf, "everpost", everpost_tell, NULL) : -1;
}

/* Count what becomes of the messages of the handle that this thread makes next. */
static void everpost_watch(everpost_counts *counts) { everpost_counting = counts; }

static int64_t everpost_read(const int64_t *count) { return __atomic_load_n(count, __ATOMIC_ACQUIRE); }

static void *everpost_take(void) {
    void *client = everpost_newest;
    everpost_newest = NULL;
    return client;
}

/* Queue the records from `at` on (see `unpack` in pipeline/model/record.py), at most `most` of them; the first
 * error of librdkafka, or 0. Moves `at` behind them. */
static int everpost_queue(void *topic, char **at, const char *end, everpost_message *messages, int most) {
    int32_t head[3];
    int count = 0, queued;
    while (*at < end && count < most) {
        everpost_message *message = &messages[count++];
        __builtin_memcpy(head, *at, sizeof(head));
        *at += sizeof(head);
        message->err = 0;
        message->topic = NULL;
        message->partition = head[0];
        message->key = head[1] < 0 ? NULL : *at;
        message->key_len = head[1] < 0 ? 0 : (size_t)head[1];
        message->payload = *at + message->key_len;
        message->len = (size_t)head[2];
        message->offset = 0;
        message->private = NULL; /* confluent-kafka makes no report of a message without it */
        *at += message->key_len + message->len;
    }
    queued = everpost_rd.produce_batch(topic, -1, EVERPOST_COPY | EVERPOST_PARTITION, messages, count);
    for (int number = 0; queued < count && number < count; number++)
        if (messages[number].err)
            return messages[number].err;
    return queued < count ? -1 : 0;
}

#endif
