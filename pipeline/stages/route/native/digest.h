/* BLAKE2b without a key (RFC 7693) and SHA-1 (FIPS 180-4), each over one piece of memory.
 *
 * The router makes four digests an event; through hashlib each costs 0.6 us in objects and calls, here 0.15.
 * tests/unit/stages/test_route_express.py holds both to hashlib's answers.
 */
#ifndef EVERPOST_DIGEST_H
#define EVERPOST_DIGEST_H

#include <stdint.h>
#include <string.h>

#define EVERPOST_RIGHT64(word, by) ((word) >> (by) | (word) << (64 - (by)))
#define EVERPOST_LEFT32(word, by) ((word) << (by) | (word) >> (32 - (by)))

static const uint64_t everpost_start[8] = {
    0x6a09e667f3bcc908ULL, 0xbb67ae8584caa73bULL, 0x3c6ef372fe94f82bULL, 0xa54ff53a5f1d36f1ULL,
    0x510e527fade682d1ULL, 0x9b05688c2b3e6c1fULL, 0x1f83d9abfb41bd6bULL, 0x5be0cd19137e2179ULL,
};

static const uint8_t everpost_sigma[12][16] = {
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
    {14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3},
    {11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4},
    {7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8},
    {9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13},
    {2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9},
    {12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11},
    {13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10},
    {6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5},
    {10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0},
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
    {14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3},
};

#define EVERPOST_MIX(a, b, c, d, x, y)             \
    do {                                           \
        v[a] += v[b] + (x);                        \
        v[d] = EVERPOST_RIGHT64(v[d] ^ v[a], 32);  \
        v[c] += v[d];                              \
        v[b] = EVERPOST_RIGHT64(v[b] ^ v[c], 24);  \
        v[a] += v[b] + (y);                        \
        v[d] = EVERPOST_RIGHT64(v[d] ^ v[a], 16);  \
        v[c] += v[d];                              \
        v[b] = EVERPOST_RIGHT64(v[b] ^ v[c], 63);  \
    } while (0)

static inline void everpost_blake2b_block(uint64_t h[8], const uint8_t block[128], uint64_t counted, int last)
{
    uint64_t v[16], m[16];
    for (int i = 0; i < 16; i++) {
        m[i] = 0;
        for (int byte = 7; byte >= 0; byte--) {
            m[i] = m[i] << 8 | block[8 * i + byte]; /* little-endian, whatever the machine is */
        }
    }
    for (int i = 0; i < 8; i++) {
        v[i] = h[i];
        v[i + 8] = everpost_start[i];
    }
    v[12] ^= counted;
    if (last) {
        v[14] = ~v[14];
    }
    for (int round = 0; round < 12; round++) {
        const uint8_t *s = everpost_sigma[round];
        EVERPOST_MIX(0, 4, 8, 12, m[s[0]], m[s[1]]);
        EVERPOST_MIX(1, 5, 9, 13, m[s[2]], m[s[3]]);
        EVERPOST_MIX(2, 6, 10, 14, m[s[4]], m[s[5]]);
        EVERPOST_MIX(3, 7, 11, 15, m[s[6]], m[s[7]]);
        EVERPOST_MIX(0, 5, 10, 15, m[s[8]], m[s[9]]);
        EVERPOST_MIX(1, 6, 11, 12, m[s[10]], m[s[11]]);
        EVERPOST_MIX(2, 7, 8, 13, m[s[12]], m[s[13]]);
        EVERPOST_MIX(3, 4, 9, 14, m[s[14]], m[s[15]]);
    }
    for (int i = 0; i < 8; i++) {
        h[i] ^= v[i] ^ v[i + 8];
    }
}

/* `size` bytes of digest (1 to 64) over `length` bytes. */
static inline void everpost_blake2b(uint8_t *out, size_t size, const uint8_t *in, size_t length)
{
    uint64_t h[8];
    uint8_t rest[128] = {0};
    size_t done = 0;
    memcpy(h, everpost_start, sizeof h);
    h[0] ^= 0x01010000ULL ^ (uint64_t)size;
    for (; length - done > 128; done += 128) {
        everpost_blake2b_block(h, in + done, done + 128, 0);
    }
    memcpy(rest, in + done, length - done);
    everpost_blake2b_block(h, rest, length, 1);
    for (size_t i = 0; i < size; i++) {
        out[i] = (uint8_t)(h[i / 8] >> 8 * (i % 8));
    }
}

#define EVERPOST_TURN(f, constant)                                                \
    do {                                                                          \
        uint32_t next = EVERPOST_LEFT32(a, 5) + (f) + e + w[i] + (constant);      \
        e = d;                                                                    \
        d = c;                                                                    \
        c = EVERPOST_LEFT32(b, 30);                                               \
        b = a;                                                                    \
        a = next;                                                                 \
    } while (0)

static inline void everpost_sha1_block(uint32_t h[5], const uint8_t block[64])
{
    uint32_t w[80], a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];
    for (int i = 0; i < 16; i++) {
        w[i] = (uint32_t)block[4 * i] << 24 | (uint32_t)block[4 * i + 1] << 16 | (uint32_t)block[4 * i + 2] << 8
               | (uint32_t)block[4 * i + 3];
    }
    for (int i = 16; i < 80; i++) {
        w[i] = EVERPOST_LEFT32(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
    }
    int i = 0;
    for (; i < 20; i++) {
        EVERPOST_TURN((b & c) | (~b & d), 0x5a827999U);
    }
    for (; i < 40; i++) {
        EVERPOST_TURN(b ^ c ^ d, 0x6ed9eba1U);
    }
    for (; i < 60; i++) {
        EVERPOST_TURN((b & c) | (b & d) | (c & d), 0x8f1bbcdcU);
    }
    for (; i < 80; i++) {
        EVERPOST_TURN(b ^ c ^ d, 0xca62c1d6U);
    }
    h[0] += a;
    h[1] += b;
    h[2] += c;
    h[3] += d;
    h[4] += e;
}

typedef struct {
    uint32_t h[5];
    uint8_t rest[64];
    size_t length; /* bytes taken in so far */
} everpost_sha1_state;

static inline void everpost_sha1_start(everpost_sha1_state *state)
{
    static const uint32_t start[5] = {0x67452301U, 0xefcdab89U, 0x98badcfeU, 0x10325476U, 0xc3d2e1f0U};
    memcpy(state->h, start, sizeof start);
    state->length = 0;
}

static inline void everpost_sha1_take(everpost_sha1_state *state, const uint8_t *in, size_t length)
{
    while (length > 0) {
        size_t there = state->length % 64, some = length < 64 - there ? length : 64 - there;
        memcpy(state->rest + there, in, some);
        state->length += some;
        in += some;
        length -= some;
        if (there + some == 64) {
            everpost_sha1_block(state->h, state->rest);
        }
    }
}

/* 20 bytes of digest over what `state` has taken in and `length` bytes more; it stays as it is. */
static inline void everpost_sha1(uint8_t out[20], const everpost_sha1_state *before, const uint8_t *in, size_t length)
{
    everpost_sha1_state state = *before;
    everpost_sha1_take(&state, in, length);
    size_t left = state.length % 64;
    state.rest[left++] = 0x80;
    if (left > 56) {
        memset(state.rest + left, 0, 64 - left);
        everpost_sha1_block(state.h, state.rest);
        left = 0;
    }
    memset(state.rest + left, 0, 56 - left);
    for (int i = 0; i < 8; i++) {
        state.rest[56 + i] = (uint8_t)((uint64_t)state.length * 8 >> (56 - 8 * i));
    }
    everpost_sha1_block(state.h, state.rest);
    for (int i = 0; i < 20; i++) {
        out[i] = (uint8_t)(state.h[i / 4] >> (24 - 8 * (i % 4)));
    }
}

#endif
