/* Products for a few images at a time, and sums in a fixed order, for registers of every width. */

#ifndef CHAINRULE_TILES_H
#define CHAINRULE_TILES_H

#include "constants.h"
#include "processors.h"

#include <stdint.h>
#include <string.h>

_Static_assert(FLOATS == LANES && DOUBLES == WIDE_LANES, "panels of weights are as wide as the vectors here");

#define MOST 12 /* images in a tile, at most */

/* A product for T images, whose sums are kept in registers, as wide as these; few images take several panels of outputs
   at once (N1, N2, N3 for one, two and three), to keep the processor busy. LANES: outputs in a panel of the weights. */
#define DEFINE_SUMS(NAME, REAL, REGISTER, WIDTH, LANES, TARGET, STORED)                                                \
    INLINE void NAME##_sums(int T, int N, const REAL *weight, int64_t panel, const REAL *bias, int segments,           \
                            const int64_t *starts, const int64_t *lengths, float *const *images,                       \
                            TARGET *const *targets, int64_t o) {                                                       \
        REGISTER sum[MOST][4 * (LANES) / (WIDTH)];                                                                     \
        UNROLL for (int t = 0; t < T; t++)                                                                             \
            UNROLL for (int r = 0; r < N * (LANES) / (WIDTH); r++) sum[t][r] = *(const REGISTER *)(bias + r * (WIDTH)); \
        for (int s = 0; s < segments; s++) {                                                                           \
            const float *from[MOST];                                                                                   \
            UNROLL for (int t = 0; t < T; t++) from[t] = images[t] + starts[s];                                        \
            for (int64_t i = 0, length = lengths[s]; i < length; i++, weight += (LANES))                               \
                UNROLL for (int t = 0; t < T; t++) {                                                                   \
                    const REAL v = (REAL)from[t][i];                                                                   \
                    UNROLL for (int n = 0; n < N; n++)                                                                 \
                        UNROLL for (int r = 0; r < (LANES) / (WIDTH); r++)                                             \
                            sum[t][n * (LANES) / (WIDTH) + r] += v * *(const REGISTER *)(weight + n * panel + r * (WIDTH)); \
                }                                                                                                      \
        }                                                                                                              \
        UNROLL for (int t = 0; t < T; t++)                                                                             \
            UNROLL for (int r = 0; r < N * (LANES) / (WIDTH); r++)                                                     \
                *(STORED *)(targets[t] + o + r * (WIDTH)) = __builtin_convertvector(sum[t][r], STORED);                \
    }
#define SOME(T, N, NAME, LANES)                                                                                        \
    for (; o + (N) * (LANES) <= outputs; o += (N) * (LANES))                                                           \
        NAME##_sums(T, N, weight + o * inputs, inputs * (LANES), bias + o, segments, starts, lengths, images, targets, o);
/* A function by itself: within a large one compilers run out of registers for the sums. */
#define DEFINE_TILE(NAME, PROCESSOR, REAL, REGISTER, WIDTH, LANES, TARGET, STORED, N1, N2, N3)                         \
    DEFINE_SUMS(NAME, REAL, REGISTER, WIDTH, LANES, TARGET, STORED)                                                    \
    PROCESSOR static void NAME(int count, const REAL *weight, const REAL *bias, int64_t inputs, int64_t outputs, int segments,   \
                     const int64_t *starts, const int64_t *lengths, float *const *images, TARGET *const *targets) {    \
        int64_t o = 0;                                                                                                 \
        switch (count) {                                                                                               \
            case 1: SOME(1, N1, NAME, LANES) SOME(1, 1, NAME, LANES) break;                                            \
            case 2: SOME(2, N2, NAME, LANES) SOME(2, 1, NAME, LANES) break;                                            \
            case 3: SOME(3, N3, NAME, LANES) SOME(3, 1, NAME, LANES) break;                                            \
            case 6: SOME(6, 1, NAME, LANES) break;                                                                     \
            default: SOME(12, 1, NAME, LANES) break;                                                                   \
        }                                                                                                              \
    }
DEFINE_TILE(float_tile_floats, AVX512, float, floats, 16, FLOATS, float, floats, 4, 4, 2)
DEFINE_TILE(float_tile_halves, AVX2, float, halves, 8, FLOATS, float, halves, 4, 2, 2)
DEFINE_TILE(float_tile_quarters, ANY, float, quarters, 4, FLOATS, float, quarters, 2, 1, 1)
DEFINE_TILE(wide_tile_floats, AVX512, double, doubles, 8, DOUBLES, float, halves, 4, 4, 2)
DEFINE_TILE(wide_tile_halves, AVX2, double, double_halves, 4, DOUBLES, float, quarters, 4, 2, 2)
DEFINE_TILE(wide_tile_quarters, ANY, double, double_quarters, 2, DOUBLES, float, pairs, 2, 1, 1)
DEFINE_TILE(head_tile_floats, AVX512, double, doubles, 8, DOUBLES, double, doubles, 4, 4, 2)
DEFINE_TILE(head_tile_halves, AVX2, double, double_halves, 4, DOUBLES, double, double_halves, 4, 2, 2)
DEFINE_TILE(head_tile_quarters, ANY, double, double_quarters, 2, DOUBLES, double, double_quarters, 2, 1, 1)

/* Eight partial sums, whatever the width: of numbers and of their squares; and of products. */
#define DEFINE_PARTIAL_SUMS(WHICH, REGISTER, WIDTH, NARROW)                                                            \
    INLINE void moments_##WHICH(const float *x, int64_t n, double *sums, double *squares) {                            \
        REGISTER sum[DOUBLES / (WIDTH)] = {0}, square[DOUBLES / (WIDTH)] = {0};                                        \
        for (int64_t i = 0; i < n; i += DOUBLES)                                                                       \
            UNROLL for (int r = 0; r < DOUBLES / (WIDTH); r++) {                                                       \
                const REGISTER wide = __builtin_convertvector(*(const NARROW *)(x + i + r * (WIDTH)), REGISTER);       \
                sum[r] += wide;                                                                                        \
                square[r] += wide * wide;                                                                              \
            }                                                                                                          \
        memcpy(sums, sum, sizeof sum), memcpy(squares, square, sizeof square);                                         \
    }                                                                                                                  \
    INLINE void dot_##WHICH(const double *a, const double *b, int64_t n, double *sums) {                               \
        REGISTER sum[DOUBLES / (WIDTH)] = {0};                                                                         \
        for (int64_t i = 0; i < n; i += DOUBLES)                                                                       \
            UNROLL for (int r = 0; r < DOUBLES / (WIDTH); r++)                                                         \
                sum[r] += *(const REGISTER *)(a + i + r * (WIDTH)) * *(const REGISTER *)(b + i + r * (WIDTH));         \
        memcpy(sums, sum, sizeof sum);                                                                                 \
    }
DEFINE_PARTIAL_SUMS(floats, doubles, 8, halves)
DEFINE_PARTIAL_SUMS(halves, double_halves, 4, quarters)
DEFINE_PARTIAL_SUMS(quarters, double_quarters, 2, pairs)

#endif
