/* What stands in the bytes of an ordinary event (schemas/event.avsc, Avro 1.12 "Binary Encoding").
 *
 * Nothing is copied and no object made: every part is a span of the record's own bytes. Whatever is out of
 * the ordinary (another schema or owner, deliver_at, channels of its own, damage, numbers in more bytes than
 * they need, a name twice) makes `everpost_look` give up, and the event goes the long way, which has the words.
 */
#ifndef EVERPOST_EVENT_H
#define EVERPOST_EVENT_H

#include <stdint.h>
#include <string.h>

#define EVERPOST_ENTRIES 64 /* variables of an event; more go the long way */

typedef struct {
    const uint8_t *at;
    size_t size;
} everpost_span;

typedef struct {
    everpost_span name;  /* as it is encoded */
    everpost_span text;  /* without its length */
    everpost_span value; /* with its branch: null, boolean, long, double, string */
    everpost_span words; /* of a string, without its length */
    int branch;
} everpost_entry;

typedef struct {
    everpost_span event_id; /* as it is encoded */
    everpost_span id;       /* without its length */
    everpost_span kind;     /* the type's text, then the lane */
    everpost_span type;     /* the type's text, as it is encoded */
    everpost_span unions;   /* collapse_key and locale with their branches */
    everpost_span collapse, locale, trace; /* as they are encoded; size 0: null */
    int64_t created, expires;              /* ms */
    int expiring;                          /* whether `expires` is given */
    int entries;
    everpost_entry entry[EVERPOST_ENTRIES]; /* sorted by name */
} everpost_seen;

typedef struct {
    const uint8_t *at, *end;
} everpost_reader;

static inline int everpost_long(everpost_reader *from, int64_t *value)
{
    uint64_t rest = 0;
    for (int shift = 0; from->at < from->end && shift < 64; shift += 7) {
        uint8_t byte = *from->at++;
        if (shift == 63 && byte > 1) {
            return 0; /* more than 64 bits */
        }
        rest |= (uint64_t)(byte & 127) << shift;
        if (byte < 128) {
            *value = (int64_t)(rest >> 1) ^ -(int64_t)(rest & 1);
            return byte != 0 || shift == 0;
        }
    }
    return 0;
}

/* `whole` is the string as it is encoded, `text` what it says; either may be null. */
static inline int everpost_text(everpost_reader *from, everpost_span *whole, everpost_span *text)
{
    const uint8_t *begin = from->at;
    int64_t size;
    if (!everpost_long(from, &size) || size < 0 || size > from->end - from->at) {
        return 0;
    }
    if (text != NULL) {
        text->at = from->at;
        text->size = (size_t)size;
    }
    from->at += size;
    if (whole != NULL) {
        whole->at = begin;
        whole->size = (size_t)(from->at - begin);
    }
    return 1;
}

/* One byte of the union ["null", …]: 0, 1, or -1 for neither. */
static inline int everpost_branch(everpost_reader *from)
{
    if (from->at >= from->end || (*from->at != 0 && *from->at != 2)) {
        return -1;
    }
    return *from->at++ == 2;
}

static inline int everpost_maybe_text(everpost_reader *from, everpost_span *whole)
{
    int there = everpost_branch(from);
    whole->at = from->at;
    whole->size = 0;
    return there == 0 || (there == 1 && everpost_text(from, whole, NULL));
}

static inline int everpost_value(everpost_reader *from, everpost_entry *entry)
{
    int64_t number;
    entry->value.at = from->at;
    if (from->at >= from->end || *from->at > 8 || *from->at & 1) {
        return 0;
    }
    entry->branch = *from->at++ >> 1;
    switch (entry->branch) {
    case 1:
        if (from->at >= from->end || *from->at++ > 1) {
            return 0;
        }
        break;
    case 2:
        if (!everpost_long(from, &number)) {
            return 0;
        }
        break;
    case 3:
        if (from->end - from->at < 8) {
            return 0;
        }
        from->at += 8;
        break;
    case 4:
        if (!everpost_text(from, NULL, &entry->words)) {
            return 0;
        }
        break;
    default:
        break;
    }
    entry->value.size = (size_t)(from->at - entry->value.at);
    return 1;
}

static inline int everpost_before(const everpost_span *one, const everpost_span *other)
{
    size_t both = one->size < other->size ? one->size : other->size;
    int order = memcmp(one->at, other->at, both);
    return order < 0 || (order == 0 && one->size < other->size);
}

static inline int everpost_entries(everpost_reader *from, everpost_seen *seen)
{
    int64_t count;
    seen->entries = 0;
    for (;;) {
        if (!everpost_long(from, &count) || count < 0 || count > EVERPOST_ENTRIES - seen->entries) {
            return 0;
        }
        if (count == 0) {
            return 1;
        }
        while (count-- > 0) {
            everpost_entry entry;
            int place = seen->entries++;
            if (!everpost_text(from, &entry.name, &entry.text) || !everpost_value(from, &entry)) {
                return 0;
            }
            for (; place > 0 && !everpost_before(&seen->entry[place - 1].text, &entry.text); place--) {
                if (!everpost_before(&entry.text, &seen->entry[place - 1].text)) {
                    return 0; /* the name stands there twice */
                }
                seen->entry[place] = seen->entry[place - 1];
            }
            seen->entry[place] = entry;
        }
    }
}

/* 1 when `value` is an ordinary event: `head` (magic byte, schema id), then user_id and tenant as in `owner`. */
static inline int everpost_look(everpost_span value, everpost_span head, everpost_span owner, everpost_seen *seen)
{
    everpost_reader from = {value.at + head.size, value.at + value.size};
    if (value.size < head.size || memcmp(value.at, head.at, head.size) != 0
        || !everpost_text(&from, &seen->event_id, &seen->id) || (size_t)(from.end - from.at) < owner.size
        || memcmp(from.at, owner.at, owner.size) != 0) {
        return 0;
    }
    from.at += owner.size;
    seen->kind.at = from.at;
    if (!everpost_text(&from, &seen->type, NULL) || from.at++ >= from.end) {
        return 0;
    }
    seen->kind.size = (size_t)(from.at - seen->kind.at);
    if (!everpost_long(&from, &seen->created) || (seen->expiring = everpost_branch(&from)) < 0
        || (seen->expiring && !everpost_long(&from, &seen->expires))) {
        return 0;
    }
    if (from.end - from.at < 2 || from.at[0] != 0 || from.at[1] != 0) {
        return 0; /* deliver_at, channels */
    }
    from.at += 2;
    seen->unions.at = from.at;
    if (!everpost_maybe_text(&from, &seen->collapse) || !everpost_maybe_text(&from, &seen->locale)) {
        return 0;
    }
    seen->unions.size = (size_t)(from.at - seen->unions.at);
    return everpost_maybe_text(&from, &seen->trace) && everpost_entries(&from, seen) && from.at == from.end;
}

static inline size_t everpost_write_long(uint8_t *to, int64_t value)
{
    uint64_t rest = (uint64_t)value << 1 ^ (uint64_t)(value >> 63);
    size_t size = 0;
    while (rest >= 128) {
        to[size++] = (uint8_t)(rest & 127) | 128;
        rest >>= 7;
    }
    to[size++] = (uint8_t)rest;
    return size;
}

static inline uint8_t *everpost_append(uint8_t *to, everpost_span span)
{
    memcpy(to, span.at, span.size);
    return to + span.size;
}

/* What `Event.content` is a digest of, for an event without channels of its own; `to` holds the event and 16 more. */
static inline size_t everpost_content(const everpost_seen *seen, uint8_t *to)
{
    uint8_t *at = everpost_append(to, seen->type);
    *at++ = 0;
    at = everpost_append(at, seen->unions);
    at += everpost_write_long(at, seen->entries);
    for (int i = 0; i < seen->entries; i++) {
        at = everpost_append(at, seen->entry[i].name);
        at = everpost_append(at, seen->entry[i].value);
    }
    return (size_t)(at - to);
}

/* Whether all of it is printable ASCII; if not, somebody who knows Unicode must look. */
static inline int everpost_plain(everpost_span text)
{
    for (size_t i = 0; i < text.size; i++) {
        if (text.at[i] < 0x20 || text.at[i] > 0x7e) {
            return 0;
        }
    }
    return 1;
}

static inline uint8_t *everpost_digits(uint8_t *to, int64_t number, int digits)
{
    for (int place = digits - 1; place >= 0; place--, number /= 10) {
        to[place] = (uint8_t)('0' + number % 10);
    }
    return to + digits;
}

/* Year, month and day behind one another with what parts them: days since 1970 in the proleptic Gregorian
 * calendar, taken apart in eras of 400 years that begin in March. */
static inline uint8_t *everpost_date(uint8_t *to, int64_t days)
{
    int64_t shifted = days + 719468, era = shifted / 146097, day = shifted % 146097;
    int64_t year = (day - day / 1460 + day / 36524 - day / 146096) / 365;
    int64_t in_year = day - (365 * year + year / 4 - year / 100);
    int64_t month = (5 * in_year + 2) / 153;
    to = everpost_digits(to, year + era * 400 + (month >= 10), 4);
    *to++ = '-';
    to = everpost_digits(to, month < 10 ? month + 3 : month - 9, 2);
    *to++ = '-';
    return everpost_digits(to, in_year - (153 * month + 2) / 5 + 1, 2);
}

/* "until 2026-11-23T09:00:00.120000+00:00" as an Avro string, for a moment from 1970 to 9999 in ms. */
static inline size_t everpost_until(uint8_t *to, int64_t ms)
{
    int64_t rest = ms % 86400000;
    uint8_t *at = to + 1;
    memcpy(at, "until ", 6);
    at = everpost_date(at + 6, ms / 86400000);
    *at++ = 'T';
    at = everpost_digits(at, rest / 3600000, 2);
    *at++ = ':';
    at = everpost_digits(at, rest / 60000 % 60, 2);
    *at++ = ':';
    at = everpost_digits(at, rest / 1000 % 60, 2);
    if (rest % 1000 != 0) {
        *at++ = '.';
        at = everpost_digits(at, rest % 1000, 3);
        at = everpost_digits(at, 0, 3);
    }
    memcpy(at, "+00:00", 6);
    at += 6;
    to[0] = (uint8_t)(2 * (at - to - 1)); /* its length, less than 64, as a zig-zag long */
    return (size_t)(at - to);
}

#endif
