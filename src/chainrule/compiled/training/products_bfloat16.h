/* Products of matrices of bfloat16, summed in float32, for processors that multiply bfloat16. All are made of one tile
   of eight rows by 32 columns, whose sums stay in registers. */

#ifndef CHAINRULE_PRODUCTS_BFLOAT16_H
#define CHAINRULE_PRODUCTS_BFLOAT16_H

#include "constants.h"
#include "numbers.h"
#include "training/block.h"

#include <stdint.h>
#include <string.h>

#define TILE_ROWS 8
#define CHUNK 144 /* pairs of pixels, at most, whose part of a gradient's factors fits the first cache */

#if defined(__x86_64__) && defined(__OPTIMIZE__) && (defined(__clang__) ? __clang_major__ >= 9 : __GNUC__ >= 10)
#define MULTIPLIES
#include <immintrin.h>
#define MULTIPLYING __attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx512bf16,fma")))

/* A matrix (taps, depth, columns) as a product reads it: panels of 32 columns, in each the rows two by two. */
static inline void bfloat16_pack(void *to, const float *from, int64_t taps, int64_t depth, int64_t columns, int64_t tap_step,
                          int64_t row_step, int64_t column_step) {
    uint16_t *next = to;
    for (int64_t panel = 0; panel < columns; panel += COLUMNS)
        for (int64_t tap = 0; tap < taps; tap++)
            for (int64_t k = 0; k < depth; k += 2)
                for (int64_t n = panel; n < panel + COLUMNS; n++)
                    for (int64_t upper = 0; upper < 2; upper++) {
                        float v = from[tap * tap_step + (k + upper) * row_step + n * column_step];
                        uint32_t bits;
                        memcpy(&bits, &v, 4);
                        *next++ = v == v ? (bits + 0x7fff + (bits >> 16 & 1)) >> 16 : 0x7fc0;
                    }
}

typedef struct {
    __m512 lower, upper;
} columns32;

/* Eight rows by 32 columns: sum[i] += Σ_k a(i, k) · b(k), in which k counts pairs of numbers. */
MULTIPLYING INLINE void bfloat16_tile(columns32 *sum, const uint32_t *a, int64_t row_step, int64_t pair_step,
                             const uint32_t *b, int64_t b_step, int64_t pairs) {
    for (int64_t k = 0; k < pairs; k++, a += pair_step, b += b_step) {
        const __m512bh lower = (__m512bh)_mm512_loadu_si512(b), upper = (__m512bh)_mm512_loadu_si512(b + 16);
        UNROLL for (int i = 0; i < TILE_ROWS; i++) {
            const __m512bh both = (__m512bh)_mm512_set1_epi32((int)a[i * row_step]);
            sum[i].lower = _mm512_dpbf16_ps(sum[i].lower, both, lower);
            sum[i].upper = _mm512_dpbf16_ps(sum[i].upper, both, upper);
        }
    }
}

/* to = f(Σ_taps of the pixel at its distance · the tap's matrix + bias) for so many pixels, a multiple of eight; f is
   nothing, ReLU, or zero where `open` is not positive. */
MULTIPLYING INLINE void bfloat16_product(int f, int64_t pixels, const uint16_t *from, int64_t depth, int64_t taps,
                                const int64_t *distance, const uint32_t *matrix, int64_t columns, const float *bias,
                                const uint16_t *open, uint16_t *to) {
    const int64_t pairs = depth / 2;
    const __m512 zero = _mm512_setzero_ps();
    for (int64_t n = 0; n < columns; n += COLUMNS, matrix += taps * pairs * COLUMNS) {
        const columns32 first = {bias ? _mm512_loadu_ps(bias + n) : zero, bias ? _mm512_loadu_ps(bias + n + 16) : zero};
        for (int64_t row = 0; row < pixels; row += TILE_ROWS) {
            columns32 sum[TILE_ROWS];
            UNROLL for (int i = 0; i < TILE_ROWS; i++) sum[i] = first;
            for (int64_t tap = 0; tap < taps; tap++)
                bfloat16_tile(sum, (const uint32_t *)(from + (row + distance[tap]) * depth), pairs, 1,
                     matrix + tap * pairs * COLUMNS, COLUMNS, pairs);
            UNROLL for (int i = 0; i < TILE_ROWS; i++) {
                const int64_t at = (row + i) * columns + n;
                if (f == RELU) { /* in this order what is not a number stays none */
                    sum[i].lower = _mm512_max_ps(zero, sum[i].lower);
                    sum[i].upper = _mm512_max_ps(zero, sum[i].upper);
                }
                __m512i rounded = (__m512i)_mm512_cvtne2ps_pbh(sum[i].upper, sum[i].lower);
                if (f == MASKED) {
                    const __m512i opened = _mm512_loadu_si512(open + at);
                    const __mmask32 positive = _mm512_cmpgt_epi16_mask(opened, _mm512_setzero_si512());
                    rounded = _mm512_maskz_mov_epi16(positive, rounded);
                }
                _mm512_storeu_si512(to + at, rounded);
            }
        }
    }
}

/* Pixels two by two: channel c of pixels 2p and 2p + 1 side by side at (p, c); and their sums over all pixels. */
MULTIPLYING INLINE void bfloat16_pair(const uint16_t *from, int64_t channels, int64_t pairs, uint32_t *to, float *sums) {
    uint16_t order[COLUMNS];
    for (int k = 0; k < COLUMNS; k++) order[k] = k / 2 + k % 2 * COLUMNS;
    const __m512i first = _mm512_loadu_si512(order), second = _mm512_add_epi16(first, _mm512_set1_epi16(16));
    const __m512i high = _mm512_set1_epi32(-65536);
    for (int64_t c = 0; c < channels; c += COLUMNS) {
        __m512 lower = _mm512_setzero_ps(), upper = _mm512_setzero_ps();
        for (int64_t p = 0; p < pairs; p++) {
            const uint16_t *at = from + 2 * p * channels + c;
            const __m512i even = _mm512_loadu_si512(at), odd = _mm512_loadu_si512(at + channels);
            const __m512i low = _mm512_permutex2var_epi16(even, first, odd);
            const __m512i up = _mm512_permutex2var_epi16(even, second, odd);
            _mm512_storeu_si512(to + p * channels + c, low);
            _mm512_storeu_si512(to + p * channels + c + 16, up);
            if (sums) {
                lower = _mm512_add_ps(lower, (__m512)_mm512_slli_epi32(low, 16));
                lower = _mm512_add_ps(lower, (__m512)_mm512_and_si512(low, high));
                upper = _mm512_add_ps(upper, (__m512)_mm512_slli_epi32(up, 16));
                upper = _mm512_add_ps(upper, (__m512)_mm512_and_si512(up, high));
            }
        }
        if (sums) {
            _mm512_storeu_ps(sums + c, _mm512_add_ps(_mm512_loadu_ps(sums + c), lower));
            _mm512_storeu_ps(sums + c + 16, _mm512_add_ps(_mm512_loadu_ps(sums + c + 16), upper));
        }
    }
}

/* sums(m, n) += Σ_pixels a(pixel, m) · b(pixel, n): the gradient of a matrix; pixels come in pairs. */
MULTIPLYING INLINE void bfloat16_gradient(const uint32_t *a, int64_t m_count, const uint32_t *b, int64_t n_count, int64_t pairs,
                                 float *sums, int64_t step) {
    const int64_t chunks = (pairs + CHUNK - 1) / CHUNK;
    for (int64_t chunk = 0; chunk < chunks; chunk++) {
        const int64_t k = pairs * chunk / chunks, now = pairs * (chunk + 1) / chunks - k;
        for (int64_t n = 0; n < n_count; n += COLUMNS)
            for (int64_t m = 0; m < m_count; m += TILE_ROWS) {
                float *to = sums + m * step + n;
                columns32 sum[TILE_ROWS];
                UNROLL for (int i = 0; i < TILE_ROWS; i++) {
                    sum[i].lower = _mm512_loadu_ps(to + i * step);
                    sum[i].upper = _mm512_loadu_ps(to + i * step + 16);
                }
                bfloat16_tile(sum, a + k * m_count + m, 1, m_count, b + k * n_count + n, n_count, now);
                UNROLL for (int i = 0; i < TILE_ROWS; i++) {
                    _mm512_storeu_ps(to + i * step, sum[i].lower);
                    _mm512_storeu_ps(to + i * step + 16, sum[i].upper);
                }
            }
    }
}
#endif

#endif
