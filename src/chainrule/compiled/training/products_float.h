/* Products of matrices of float32: of so many rows, a `tile`, by sixteen columns, whose sums stay in registers. */

#ifndef CHAINRULE_PRODUCTS_FLOAT_H
#define CHAINRULE_PRODUCTS_FLOAT_H

#include "processors.h"
#include "training/block.h"

#include <stdint.h>

#define TILE_MOST 12

/* Numbers from one pixel of a field to the next: an odd number of cache lines, so that a channel of many pixels does
   not lie in a few sets of the cache. */
static inline int64_t step_of(int64_t channels) { return channels + FLOATS; }

/* A matrix (taps, depth, columns) as a product reads it: panels of sixteen columns. */
static inline void float_pack(void *to, const float *from, int64_t taps, int64_t depth, int64_t columns, int64_t tap_step,
                       int64_t row_step, int64_t column_step) {
    float *next = to;
    for (int64_t panel = 0; panel < columns; panel += FLOATS)
        for (int64_t tap = 0; tap < taps; tap++)
            for (int64_t k = 0; k < depth; k++)
                for (int64_t n = panel; n < panel + FLOATS; n++)
                    *next++ = from[tap * tap_step + k * row_step + n * column_step];
}

/* Sixteen columns of T pixels, and T rows by sixteen columns of a gradient. Sums stay in registers only if each is as wide
   as one, so there is a version for every width; which one fits the processor at hand is known when it is compiled. */
#define DEFINE_TILES(WIDTH, VECTOR, LANES)                                                                             \
    INLINE void float_product_##WIDTH(int T, int f, const float *from, int64_t step, int64_t depth, int64_t taps,            \
                                const int64_t *distance, const float *matrix, const float *bias, const float *open,    \
                                float *to, int64_t to_step) {                                                          \
        VECTOR sum[TILE_MOST][FLOATS / (LANES)], zero = {0};                                                           \
        UNROLL for (int t = 0; t < T; t++)                                                                             \
            UNROLL for (int n = 0; n < FLOATS / (LANES); n++)                                                          \
                sum[t][n] = bias ? *(const VECTOR *)(bias + n * (LANES)) : zero;                                       \
        for (int64_t tap = 0; tap < taps; tap++) {                                                                     \
            const float *row = from + distance[tap] * step;                                                            \
            for (int64_t k = 0; k < depth; k++, matrix += FLOATS)                                                      \
                UNROLL for (int t = 0; t < T; t++) {                                                                   \
                    const float v = row[t * step + k];                                                                 \
                    UNROLL for (int n = 0; n < FLOATS / (LANES); n++)                                                  \
                        sum[t][n] += v * *(const VECTOR *)(matrix + n * (LANES));                                      \
                }                                                                                                      \
        }                                                                                                              \
        UNROLL for (int t = 0; t < T; t++)                                                                             \
            UNROLL for (int n = 0; n < FLOATS / (LANES); n++) {                                                        \
                VECTOR v = sum[t][n], *place = (VECTOR *)(to + t * to_step + n * (LANES));                             \
                __typeof__(v < zero) kept = ~(v < zero); /* what is not a number is */                                 \
                if (f == MASKED) kept = *(const VECTOR *)(open + t * to_step + n * (LANES)) > zero;                    \
                if (f != PLAIN) v = (VECTOR)((__typeof__(kept))v & kept);                                              \
                *place = v;                                                                                            \
            }                                                                                                          \
    }                                                                                                                  \
    INLINE void float_gradient_##WIDTH(int T, int64_t pixels, const float *a, int64_t a_step, const float *b,                \
                                 int64_t b_step, float *sums, int64_t step) {                                          \
        VECTOR sum[TILE_MOST][FLOATS / (LANES)];                                                                       \
        UNROLL for (int t = 0; t < T; t++)                                                                             \
            UNROLL for (int n = 0; n < FLOATS / (LANES); n++)                                                          \
                sum[t][n] = *(const VECTOR *)(sums + t * step + n * (LANES));                                          \
        for (int64_t p = 0; p < pixels; p++, a += a_step, b += b_step)                                                 \
            UNROLL for (int t = 0; t < T; t++)                                                                         \
                UNROLL for (int n = 0; n < FLOATS / (LANES); n++) sum[t][n] += a[t] * *(const VECTOR *)(b + n * (LANES)); \
        UNROLL for (int t = 0; t < T; t++)                                                                             \
            UNROLL for (int n = 0; n < FLOATS / (LANES); n++)                                                          \
                *(VECTOR *)(sums + t * step + n * (LANES)) = sum[t][n];                                                \
    }
DEFINE_TILES(floats, floats, 16)
DEFINE_TILES(halves, halves, 8)
DEFINE_TILES(quarters, quarters, 4)

/* to = f(Σ_taps of the pixel at its distance · the tap's matrix + bias) for so many pixels; f is nothing, ReLU, or zero
   where `open`, a field like `to`, is not positive. */
INLINE void float_product(const int tile, int f, int64_t pixels, const float *from, int64_t depth, int64_t taps,
                    const int64_t *distance, const float *matrix, int64_t columns, const float *bias,
                    const float *open, float *to) {
    const int64_t step = step_of(depth), to_step = step_of(columns);
    for (int64_t n = 0; n < columns; n += FLOATS, matrix += taps * depth * FLOATS) {
        int64_t row = 0;
#define TILE_OF(T)                                                                                                        \
    for (; row + (T) <= pixels; row += (T))                                                                            \
        BY_WIDTH(float_product, T, f, from + row * step, step, depth, taps, distance, matrix, bias ? bias + n : 0,           \
                 f == MASKED ? open + row * to_step + n : 0, to + row * to_step + n, to_step)
        TILE_OF(tile);
        TILE_OF(1);
#undef TILE_OF
    }
}

/* sums(m, n) += Σ_pixels a(pixel, m) · b(pixel, n): the gradient of a matrix. */
INLINE void float_gradient(const int tile, int64_t pixels, const float *a, int64_t m_count, const float *b, int64_t n_count,
                     float *sums, int64_t step) {
    const int64_t a_step = step_of(m_count), b_step = step_of(n_count);
    for (int64_t n = 0; n < n_count; n += FLOATS) {
        int64_t m = 0;
#define TILE_OF(T)                                                                                                        \
    for (; m + (T) <= m_count; m += (T))                                                                               \
        BY_WIDTH(float_gradient, T, pixels, a + m, a_step, b + n, b_step, sums + m * step + n, step)
        TILE_OF(tile);
        TILE_OF(4);
        TILE_OF(2);
        TILE_OF(1);
#undef TILE_OF
    }
}

/* sums(channel) += Σ_pixels of a field. */
INLINE void float_add_up(int64_t pixels, const float *restrict field, int64_t channels, float *restrict sums) {
    for (int64_t p = 0; p < pixels; p++, field += step_of(channels))
        for (int64_t c = 0; c < channels; c++) sums[c] += field[c];
}

#endif
