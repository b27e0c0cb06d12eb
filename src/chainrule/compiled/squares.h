/* Local least squares (nn/least_squares.py): predictions of a pixel from the samples around it.

   Sums of products are whole numbers, in any order. Elimination takes single operations in the order of the Python code. */

#ifndef CHAINRULE_SQUARES_H
#define CHAINRULE_SQUARES_H

#include "constants.h"
#include "processors.h"

#include <stdint.h>
#include <string.h>

#define BLOCK SQUARES_BLOCK /* the products of a variable with itself and all before it take a multiple of so many places */
#define OTHER (OWN - 1)
#define VARIABLES (OWN + 1) /* of a channel: its neighbours, and its t behind them */
#define MOST_VARIABLES (VARIABLES * MOST_PREDICTED)
#define MOST_REGRESSORS (OWN + (LENT + 1) * (MOST_PREDICTED - 1))
#define MOST_PAIRS (MOST_VARIABLES * (MOST_VARIABLES + BLOCK) / 2)
#define NEAR_CELLS (BEFORE + AFTER + 1)

/* A picture as far as it is known, (channels, height, width), and what is remembered of a cell. */
typedef struct {
    int64_t channels, levels, height, width;
    const int64_t *x;
} picture;

/* Where the products of variable a begin; and how many numbers there are in all. */
INLINE int64_t pairs_before(int64_t a) { return (a / BLOCK * (a / BLOCK + 1) / 2 * BLOCK + a % BLOCK * (a / BLOCK + 1)) * BLOCK; }
INLINE int64_t pairs_of(int64_t channels) { return pairs_before(VARIABLES * channels); }

INLINE int64_t cells_of(int64_t width) { return (width + CELL - 1) / CELL; }

INLINE int inside(const picture *of, int64_t row, int64_t column) {
    return row >= 0 && column >= 0 && column < of->width;
}

/* Whether all neighbours of a pixel lie inside the picture. */
INLINE int interior(const picture *of, int64_t row, int64_t column) {
    return row >= UP && column >= LEFT && column < of->width - FARTHEST_RIGHT;
}

/* A pixel in half-bins, 0 outside the picture; `whole` where that need not be asked. */
INLINE int32_t half_bins_at(const picture *of, const int64_t *plane, int64_t row, int64_t column, const int whole) {
    if (!whole && !inside(of, row, column)) return 0;
    return (int32_t)(2 * plane[row * of->width + column] - (of->levels - 1));
}

/* The neighbours of each channel, W + N, and t if the pixel is `known`. */
INLINE void variables_at(const picture *of, int64_t row, int64_t column, int known, const int whole, int32_t *z,
                         int32_t *base) {
    static const int8_t others[OTHER][2] = PLACES_OF_OTHERS;
    for (int64_t c = 0; c < of->channels; c++, z += VARIABLES) {
        const int64_t *plane = of->x + c * of->height * of->width;
        int32_t west = half_bins_at(of, plane, row, column - 1, whole);
        int32_t north = half_bins_at(of, plane, row - 1, column, whole);
        if (!whole && !column) west = north;
        if (!whole && !row) north = west;
        base[c] = west + north;
        z[0] = west - north;
        UNROLL for (int k = 0; k < OTHER; k++) {
            const int64_t down = row + others[k][0], right = column + others[k][1];
            const int32_t twice = 2 * half_bins_at(of, plane, down, right, whole) - base[c];
            z[1 + k] = whole || inside(of, down, right) ? twice : 0;
        }
        z[OWN] = known ? 2 * half_bins_at(of, plane, row, column, whole) - base[c] : 0;
    }
}

/* Sum the products at the samples of a cell, all of whose pixels are known. */
INLINE void sum_cell(const picture *of, int64_t row, int64_t cell, int32_t *restrict sums) {
    const int64_t n = VARIABLES * of->channels;
    memset(sums, 0, pairs_of(of->channels) * sizeof(int32_t));
    if (row < UP) return;
    for (int64_t column = cell * CELL; column < (cell + 1) * CELL && column < of->width - RIGHT; column++) {
        int32_t z[MOST_VARIABLES + BLOCK] = {0}, base[MOST_PREDICTED];
        if (column < LEFT) continue;
        if (interior(of, row, column))
            variables_at(of, row, column, 1, 1, z, base);
        else
            variables_at(of, row, column, 1, 0, z, base);
        for (int64_t a = 0; a < n; a++) {
            int32_t *restrict to = sums + pairs_before(a);
            for (int64_t b = 0; b < (a / BLOCK + 1) * BLOCK; b += BLOCK)
                for (int k = 0; k < BLOCK; k++) to[b + k] += z[a] * z[b + k];
        }
    }
}

typedef int32_t block __attribute__((vector_size(4 * BLOCK), aligned(4), may_alias));

/* Where the sums of cells lie: in a ring of rows, or of cells in each row. */
typedef struct {
    int32_t *start;
    int64_t rows, cells, row, cell; /* how many, and the distance from one to the next */
} rings;

INLINE int32_t *cell_of(const rings *in, int64_t row, int64_t cell) {
    return in->start + row % in->rows * in->row + cell % in->cells * in->cell;
}

/* The weighted sum of the products of all samples near a cell; `near` (ROWS + 1, NEAR_CELLS) are the cells' weights, powers
   of two. */
INLINE void gather(const picture *of, const int64_t *near, const rings *in, int64_t row, int64_t cell,
                   int32_t *restrict sums) {
    const int32_t *found[WEIGHTS][(ROWS + 1) * NEAR_CELLS];
    int64_t counts[WEIGHTS] = {0};
    const int64_t cells = cells_of(of->width), pairs = pairs_of(of->channels);
    for (int64_t down = 0; down <= ROWS; down++)
        for (int64_t right = 0; right < NEAR_CELLS; right++) {
            const int64_t weight = near[down * NEAR_CELLS + right], r = row + down - ROWS, c = cell + right - BEFORE;
            if (!weight || r < UP || c < 0 || c >= cells) continue;
            const int kind = __builtin_ctzll((uint64_t)weight);
            found[kind][counts[kind]++] = cell_of(in, r, c);
        }
    const int32_t **end[WEIGHTS];
    for (int kind = 0; kind < WEIGHTS; kind++) end[kind] = found[kind] + counts[kind];
    int64_t i = 0;
    for (; i + 4 * BLOCK <= pairs; i += 4 * BLOCK) {
        block sum[4] = {{0}};
        for (int kind = WEIGHTS - 1; kind >= 0; kind--) {
            UNROLL for (int k = 0; k < 4; k++) sum[k] += sum[k];
            for (const int32_t **from = found[kind]; from < end[kind]; from++)
                UNROLL for (int k = 0; k < 4; k++) sum[k] += *(const block *)(*from + i + k * BLOCK);
        }
        UNROLL for (int k = 0; k < 4; k++) *(block *)(sums + i + k * BLOCK) = sum[k];
    }
    for (; i < pairs; i += BLOCK) {
        block sum = {0};
        for (int kind = WEIGHTS - 1; kind >= 0; kind--) {
            sum += sum;
            for (const int32_t **from = found[kind]; from < end[kind]; from++) sum += *(const block *)(*from + i);
        }
        *(block *)(sums + i) = sum;
    }
}

/* Weights of all channels from the sums, one channel's after the other's. */
void chainrule_solve(int64_t channels, const int32_t *sums, float *weights);

/* The numbers of a pixel from its cell's weights: predictions, all channels of each side by side, then slopes. */
INLINE void numbers_of(const picture *of, int64_t row, int64_t column, const int whole, const float *weights,
                       float *restrict to) {
    static const int8_t alone[PREDICTIONS - 2][2] = PLACES_OF_ALONE;
    const int64_t n = of->channels;
    const double grid = 1 << PREDICTION_BITS, farthest = (double)(of->levels - 1);
    int32_t z[MOST_VARIABLES], base[MOST_PREDICTED];
    double predicted[MOST_PREDICTED];
    float *slopes = to + PREDICTIONS * n;
    variables_at(of, row, column, 0, whole, z, base);
    for (int64_t c = 0; c < n; c++) {
        double sum = base[c];
        for (int k = 0; k < OWN; k++) sum += (double)*weights++ * z[VARIABLES * c + k];
        for (int64_t j = 0; j < c; j++) {
            *slopes++ = *weights;
            sum += (double)*weights++ * (2 * predicted[j] - base[j]);
            for (int k = 0; k < LENT; k++) sum += (double)*weights++ * z[VARIABLES * j + k];
        }
        const double rounded = __builtin_rint(sum * (grid / 2)) / grid;
        predicted[c] = rounded < -farthest ? -farthest : rounded > farthest ? farthest : rounded;
        to[c] = (float)predicted[c];
        to[n + c] = (float)base[c] / 2 - (float)z[VARIABLES * c + 1] / 4;
        const int64_t *plane = of->x + c * of->height * of->width;
        UNROLL for (int k = 0; k < PREDICTIONS - 2; k++) {
            const int64_t down = row + alone[k][0], right = column + alone[k][1];
            const float there = (float)half_bins_at(of, plane, down, right, whole);
            to[(2 + k) * n + c] = whole || inside(of, down, right) ? there : to[c];
        }
    }
}

INLINE void numbers_at(const picture *of, int64_t row, int64_t column, const float *weights, float *restrict to) {
    if (interior(of, row, column))
        numbers_of(of, row, column, 1, weights, to);
    else
        numbers_of(of, row, column, 0, weights, to);
}

#endif
