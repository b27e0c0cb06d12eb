/* Vectors of numbers that are float32 or bfloat16 in memory and float32 in registers: what compiled layers are made of. */

#ifndef CHAINRULE_NUMBERS_H
#define CHAINRULE_NUMBERS_H

#include "processors.h"

#include <string.h>

typedef uint16_t shorts __attribute__((vector_size(32), aligned(2), may_alias));
typedef uint32_t words __attribute__((vector_size(64), aligned(4), may_alias));
typedef int32_t integers __attribute__((vector_size(64), aligned(4), may_alias));

/* Kinds of numbers; ROUNDED is bfloat16 where the processor has an instruction that rounds to it. */
enum { FLOAT32, BFLOAT16, ROUNDED };

/* GCC knows the processor from version 10 on; Clang, and GCC that does not optimise, refuse the instruction also in code
   that is never reached. */
#if defined(__x86_64__) && defined(__OPTIMIZE__) && !defined(__clang__) && __GNUC__ >= 10
#define ROUNDS(tile) ((tile) == AVX512_TILE && __builtin_cpu_supports("avx512bf16"))
#endif

/* Vectors of eight, which are often what is left of a pixel's channels: as the first half of one of sixteen, and back.
   Compilers that cannot shuffle go through memory. */
typedef uint16_t few_shorts __attribute__((vector_size(16), aligned(2), may_alias));
#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define LOWER(v) __builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7)
#define UPPER(v) __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15)
#define WIDENED(v, zero) __builtin_shufflevector(v, zero, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)
#endif
#endif
#ifdef LOWER
INLINE floats wide_of(halves v) { return WIDENED(v, (halves){0}); }
INLINE shorts wide_shorts(few_shorts v) { return WIDENED(v, (few_shorts){0}); }
#else
INLINE floats wide_of(halves v) { floats all = {0}; return memcpy(&all, &v, 32), all; }
INLINE shorts wide_shorts(few_shorts v) { shorts all = {0}; return memcpy(&all, &v, 16), all; }
INLINE halves float_part(const floats *v, int upper) { halves part; return memcpy(&part, (char *)v + 32 * upper, 32), part; }
#define LOWER(v) float_part(&(v), 0)
#define UPPER(v) float_part(&(v), 1)
#endif

INLINE float total_quarters(quarters four) {
#ifdef WIDENED
    quarters two = four + __builtin_shufflevector(four, four, 2, 3, 0, 1);
    return two[0] + two[1];
#else
    return (four[0] + four[2]) + (four[1] + four[3]);
#endif
}

INLINE float total_halves(halves both) {
#ifdef WIDENED
    return total_quarters(__builtin_shufflevector(both, both, 0, 1, 2, 3) + __builtin_shufflevector(both, both, 4, 5, 6, 7));
#else
    float sum = 0;
    UNROLL for (int k = 0; k < 4; k++) sum += both[k] + both[k + 4];
    return sum;
#endif
}

INLINE float total(floats v) { return total_halves(LOWER(v) + UPPER(v)); }

/* `lanes` numbers from the i-th on; the vector's rest is 0. */
INLINE floats load(const void *from, int64_t i, int kind, int64_t lanes) {
    if (kind) {
        const uint16_t *place = (const uint16_t *)from + i;
        shorts all = {0};
        if (lanes == FLOATS)
            all = *(const shorts *)place;
        else if (lanes == 8)
            all = wide_shorts(*(const few_shorts *)place);
        else
            for (int64_t k = 0; k < lanes; k++) all[k] = place[k];
        return (floats)(__builtin_convertvector(all, words) << 16);
    }
    const float *place = (const float *)from + i;
    floats all = {0};
    if (lanes == FLOATS) return *(const floats *)place;
    if (lanes == 8) return wide_of(*(const halves *)place);
    for (int64_t k = 0; k < lanes; k++) all[k] = place[k];
    return all;
}

/* bfloat16: to the nearest, halves to even; what is not a number stays none. */
INLINE void store(void *to, int64_t i, int kind, int64_t lanes, floats v) {
    if (kind) {
        uint16_t *place = (uint16_t *)to + i;
        shorts all;
#ifdef ROUNDS
        if (kind == ROUNDED)
            __asm__("vcvtneps2bf16 %1, %0" : "=v"(all) : "v"(v));
        else
#endif
        {
            words bits = (words)v, lost = (words)(v != v);
            bits = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
            all = __builtin_convertvector((bits & ~lost) | (0x7fc0 & lost), shorts);
        }
        if (lanes == FLOATS)
            *(shorts *)place = all;
        else if (lanes == 8)
            memcpy(place, &all, 16);
        else
            for (int64_t k = 0; k < lanes; k++) place[k] = all[k];
        return;
    }
    float *place = (float *)to + i;
    if (lanes == FLOATS)
        *(floats *)place = v;
    else if (lanes == 8)
        *(halves *)place = LOWER(v);
    else
        for (int64_t k = 0; k < lanes; k++) place[k] = v[k];
}

INLINE floats where(integers mask, floats yes, floats no) {
    return (floats)(((integers)yes & mask) | ((integers)no & ~mask));
}

/* e^x between e^-40 and e^40: 2^k times the series of e^f, |f| ≤ ln 2 / 2, as long as the kind's precision wants it. */
INLINE floats exponential(int kind, floats x) {
    const floats zero = {0}, bound = zero + 40.0f;
    x = where(x > bound, bound, x);
    x = where(x < -bound, -bound, x);
    floats k = (x * 1.44269504f + 12582912.0f) - 12582912.0f; /* 1.5 · 2^23: beyond it floats are whole */
    floats f = (x - k * 0.693359375f) + k * 2.12194440e-4f; /* ln 2 in two parts, the first of few bits */
    floats sum = f * (1.0f / 120) + 1.0f / 24;
    if (kind == FLOAT32) {
        sum = f * (1.0f / 5040) + 1.0f / 720;
        sum = sum * f + 1.0f / 120;
        sum = sum * f + 1.0f / 24;
    }
    sum = sum * f + 1.0f / 6;
    sum = sum * f + 0.5f;
    sum = sum * f + 1.0f;
    sum = sum * f + 1.0f;
    integers power = (__builtin_convertvector(k, integers) + 127) << 23;
    return sum * (floats)power;
}

/* The same of one float32, for loops. */
INLINE float exponential_of_one(float x) {
    x = x > 40.0f ? 40.0f : x;
    x = x < -40.0f ? -40.0f : x;
    const float k = (x * 1.44269504f + 12582912.0f) - 12582912.0f;
    const float f = (x - k * 0.693359375f) + k * 2.12194440e-4f;
    float sum = f * (1.0f / 5040) + 1.0f / 720, power;
    sum = sum * f + 1.0f / 120;
    sum = sum * f + 1.0f / 24;
    sum = sum * f + 1.0f / 6;
    sum = sum * f + 0.5f;
    sum = sum * f + 1.0f;
    sum = sum * f + 1.0f;
    const uint32_t bits = (uint32_t)((int32_t)k + 127) << 23;
    memcpy(&power, &bits, 4);
    return sum * power;
}

/* BY_KIND(kind, work(KIND, …)): the work, compiled for each kind of numbers. */
#ifdef ROUNDS
#define ROUNDING(tile) ROUNDS(tile)
#else
#define ROUNDING(tile) ((void)(tile), 0)
#endif
#define BY_KIND(IS_BFLOAT16, WORK, ...)                                                                                \
    do {                                                                                                               \
        if (!(IS_BFLOAT16))                                                                                            \
            WORK(FLOAT32, __VA_ARGS__);                                                                                \
        else if (ROUNDING(tile))                                                                                       \
            WORK(ROUNDED, __VA_ARGS__);                                                                                \
        else                                                                                                           \
            WORK(BFLOAT16, __VA_ARGS__);                                                                               \
    } while (0)

/* EVERY_CHANNEL(whole, rest, statements): for the k-th vector of a pixel, of so many `lanes`. Eight are often the rest. */
#define EVERY_CHANNEL(WHOLE, REST, ...)                                                                                \
    do {                                                                                                               \
        int64_t k = 0;                                                                                                 \
        for (; k < (WHOLE); k++) {                                                                                     \
            const int64_t lanes = FLOATS;                                                                              \
            __VA_ARGS__                                                                                                \
        }                                                                                                              \
        if ((REST) == 8) {                                                                                             \
            const int64_t lanes = 8;                                                                                   \
            __VA_ARGS__                                                                                                \
        } else if (REST) {                                                                                             \
            const int64_t lanes = (REST);                                                                              \
            __VA_ARGS__                                                                                                \
        }                                                                                                              \
    } while (0)

#endif
