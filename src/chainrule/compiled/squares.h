/* Local least squares (nn/least_squares.py): predictions of a pixel from the samples around it.

   Sums of products are whole numbers, in any order. Elimination takes single operations in the order of the Python code. */

#ifndef CHAINRULE_SQUARES_H
#define CHAINRULE_SQUARES_H

#include "constants.h"
#include "processors.h"

#include <stdint.h>
#include <string.h>

#define BLOCK SQUARES_BLOCK /* the products of a variable with itself and all before it take a multiple of so many places */
#define MOST_VARIABLES (((FAR_OWN + 1) * MOST_PREDICTED + BLOCK - 1) / BLOCK * BLOCK)
#define MOST_REGRESSORS (FAR_OWN + (FAR_LENT + 1) * (MOST_PREDICTED - 1))
#define MOST_PAIRS (MOST_VARIABLES * (MOST_VARIABLES + BLOCK) / 2)
#define MOST_CELLS 8
#define MOST_OTHERS (FAR_OWN - 1)

/* Neighbours and samples (nn/surroundings.py). Functions that take them are inlined, so that they are constants there. */
typedef struct {
    int64_t own, lent, cell, rows, before, after, up, left, right, ridge;
    int64_t running;           /* rows of each column of cells, if these are the same for all but for where they end */
    int64_t variables;         /* of a channel: its neighbours, and its t behind them */
    int64_t alone;             /* whether there are other predictions than that by least squares */
    int8_t others[MOST_OTHERS][2];
    int64_t columns[MOST_CELLS]; /* the weights of cells, if they are the same in all rows; and the last row that counts */
    int64_t nearest[MOST_CELLS];
} surroundings;

#define SURROUNDINGS(OF, ALONE)                                                                                        \
    {OF##_OWN, OF##_LENT, OF##_CELL, OF##_ROWS, OF##_BEFORE, OF##_AFTER, OF##_UP, OF##_LEFT, OF##_RIGHT, OF##_RIDGE,   \
     OF##_RUNNING, OF##_OWN + 1, ALONE, OF##_OTHERS, OF##_COLUMNS, OF##_NEAREST}
static const surroundings NEAR = SURROUNDINGS(NEAR, 1), FAR = SURROUNDINGS(FAR, 0);

/* A picture as far as it is known, (channels, height, width), and what is remembered of a cell. */
typedef struct {
    int64_t channels, levels, height, width;
    const int64_t *x;
} picture;

/* Where the products of variable a begin; and how many numbers there are in all. */
INLINE int64_t pairs_before(int64_t a) { return (a / BLOCK * (a / BLOCK + 1) / 2 * BLOCK + a % BLOCK * (a / BLOCK + 1)) * BLOCK; }
INLINE int64_t pairs_of(const surroundings *by, int64_t channels) { return pairs_before(by->variables * channels); }

INLINE int64_t cells_of(const surroundings *by, int64_t width) { return (width + by->cell - 1) / by->cell; }

INLINE int inside(const picture *of, int64_t row, int64_t column) {
    return row >= 0 && column >= 0 && column < of->width;
}

/* Whether all neighbours of a pixel lie inside the picture. */
INLINE int interior(const surroundings *by, const picture *of, int64_t row, int64_t column) {
    const int64_t right = by->right > FARTHEST_RIGHT ? by->right : FARTHEST_RIGHT;
    return row >= by->up && column >= by->left && column < of->width - right;
}

/* A pixel in half-bins, 0 outside the picture; `whole` where that need not be asked. */
INLINE int32_t half_bins_at(const picture *of, const int64_t *plane, int64_t row, int64_t column, const int whole) {
    if (!whole && !inside(of, row, column)) return 0;
    return (int32_t)(2 * plane[row * of->width + column] - (of->levels - 1));
}

/* The neighbours of each channel, W + N, and t if the pixel is `known`. */
INLINE void variables_at(const surroundings *by, const picture *of, int64_t row, int64_t column, int known,
                         const int whole, int32_t *z, int32_t *base) {
    for (int64_t c = 0; c < of->channels; c++, z += by->variables) {
        const int64_t *plane = of->x + c * of->height * of->width;
        int32_t west = half_bins_at(of, plane, row, column - 1, whole);
        int32_t north = half_bins_at(of, plane, row - 1, column, whole);
        if (!whole && !column) west = north;
        if (!whole && !row) north = west;
        base[c] = west + north;
        z[0] = west - north;
        UNROLL for (int k = 0; k < by->own - 1; k++) {
            const int64_t down = row + by->others[k][0], right = column + by->others[k][1];
            const int32_t twice = 2 * half_bins_at(of, plane, down, right, whole) - base[c];
            z[1 + k] = whole || inside(of, down, right) ? twice : 0;
        }
        z[by->own] = known ? 2 * half_bins_at(of, plane, row, column, whole) - base[c] : 0;
    }
}

/* Sum the products at the samples of a cell, all of whose pixels are known. */
INLINE void sum_cell(const surroundings *by, const picture *of, int64_t row, int64_t cell, int32_t *restrict sums) {
    const int64_t n = by->variables * of->channels;
    memset(sums, 0, pairs_of(by, of->channels) * sizeof(int32_t));
    if (row < by->up) return;
    for (int64_t column = cell * by->cell; column < (cell + 1) * by->cell && column < of->width - by->right; column++) {
        int32_t z[MOST_VARIABLES + BLOCK] = {0}, base[MOST_PREDICTED];
        if (column < by->left) continue;
        if (interior(by, of, row, column))
            variables_at(by, of, row, column, 1, 1, z, base);
        else
            variables_at(by, of, row, column, 1, 0, z, base);
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

/* The weighted sum of the products of all samples near a cell; `weights` (rows + 1, cells) are those of the cells, powers of
   two. */
INLINE void gather(const surroundings *by, const picture *of, const int64_t *weights, const rings *in, int64_t row,
                   int64_t cell, int32_t *restrict sums) {
    const int32_t *found[NEAR_POWERS][(NEAR_ROWS + 1) * MOST_CELLS];
    int64_t counts[NEAR_POWERS] = {0};
    const int64_t cells = cells_of(by, of->width), pairs = pairs_of(by, of->channels), across = by->before + by->after + 1;
    for (int64_t down = 0; down <= by->rows; down++)
        for (int64_t right = 0; right < across; right++) {
            const int64_t weight = weights[down * across + right], r = row + down - by->rows, c = cell + right - by->before;
            if (!weight || r < by->up || c < 0 || c >= cells) continue;
            const int kind = __builtin_ctzll((uint64_t)weight);
            found[kind][counts[kind]++] = cell_of(in, r, c);
        }
    const int32_t **end[NEAR_POWERS];
    for (int kind = 0; kind < NEAR_POWERS; kind++) end[kind] = found[kind] + counts[kind];
    int64_t i = 0;
    for (; i + 4 * BLOCK <= pairs; i += 4 * BLOCK) {
        block sum[4] = {{0}};
        for (int kind = NEAR_POWERS - 1; kind >= 0; kind--) {
            UNROLL for (int k = 0; k < 4; k++) sum[k] += sum[k];
            for (const int32_t **from = found[kind]; from < end[kind]; from++)
                UNROLL for (int k = 0; k < 4; k++) sum[k] += *(const block *)(*from + i + k * BLOCK);
        }
        UNROLL for (int k = 0; k < 4; k++) *(block *)(sums + i + k * BLOCK) = sum[k];
    }
    for (; i < pairs; i += BLOCK) {
        block sum = {0};
        for (int kind = NEAR_POWERS - 1; kind >= 0; kind--) {
            sum += sum;
            for (const int32_t **from = found[kind]; from < end[kind]; from++) sum += *(const block *)(*from + i);
        }
        *(block *)(sums + i) = sum;
    }
}

/* Of a column of cells the last rows have a sum of their own, kept up to date: at a cell whose products have just been
   summed it is that of the row above, with this cell and without the one that is too far away now. */
INLINE void sum_column(const surroundings *by, const picture *of, const rings *cells, const rings *columns, int64_t row,
                       int64_t cell) {
    const int64_t pairs = pairs_of(by, of->channels), gone = row - by->running;
    const int32_t *now = cell_of(cells, row, cell);
    int32_t *restrict to = cell_of(columns, row, cell);
    if (row <= by->up) {
        memcpy(to, now, pairs * sizeof(int32_t));
        return;
    }
    const int32_t *above = cell_of(columns, row - 1, cell);
    if (gone < by->up)
        for (int64_t i = 0; i < pairs; i++) to[i] = above[i] + now[i];
    else {
        const int32_t *old = cell_of(cells, gone, cell);
        for (int64_t i = 0; i < pairs; i++) to[i] = above[i] + now[i] - old[i];
    }
}

/* What `gather` does, from the sums of columns. */
INLINE void gather_columns(const surroundings *by, const picture *of, const rings *columns, int64_t row, int64_t cell,
                           int32_t *restrict sums) {
    const int64_t cells = cells_of(by, of->width), pairs = pairs_of(by, of->channels);
    memset(sums, 0, pairs * sizeof(int32_t));
    for (int64_t right = 0; right <= by->before + by->after; right++) {
        const int64_t c = cell + right - by->before, r = row - by->nearest[right], weight = by->columns[right];
        if (r < by->up || c < 0 || c >= cells) continue;
        const int32_t *restrict from = cell_of(columns, r, c);
        for (int64_t i = 0; i < pairs; i++) sums[i] += (int32_t)weight * from[i];
    }
}

/* Where cells and columns of cells lie, in raster order or by fronts. */
typedef struct {
    rings cells, columns;
} rooms_of_sums;

INLINE int64_t rows_of_cells(const surroundings *by) { return by->running ? by->running + 1 : by->rows + 1; }
INLINE int64_t rows_of_columns(const surroundings *by) {
    return by->running ? by->nearest[by->before + by->after] + 1 : 0;
}

/* The sums for a cell's weights. */
INLINE void sums_at(const surroundings *by, const picture *of, const int64_t *weights, const rooms_of_sums *in,
                    int64_t row, int64_t cell, int32_t *restrict sums) {
    if (by->running)
        gather_columns(by, of, &in->columns, row, cell, sums);
    else
        gather(by, of, weights, &in->cells, row, cell, sums);
}

/* Keep the products of a cell, all of whose pixels are known now. */
INLINE void keep_cell(const surroundings *by, const picture *of, const rooms_of_sums *in, int64_t row, int64_t cell) {
    sum_cell(by, of, row, cell, cell_of(&in->cells, row, cell));
    if (by->running) sum_column(by, of, &in->cells, &in->columns, row, cell);
}

/* Weights of all channels from the sums, one channel's after the other's. */
void chainrule_solve(const surroundings *by, int64_t channels, const int32_t *sums, float *weights);

/* The numbers of a pixel from its cell's weights: that by least squares, then the other predictions, all channels of each
   side by side; and slopes. */
INLINE void numbers_of(const surroundings *by, const picture *of, int64_t row, int64_t column, const int whole,
                       const float *weights, float *restrict to, float *restrict slopes) {
    static const int8_t alone[PREDICTIONS - 2][2] = PLACES_OF_ALONE;
    const int64_t n = of->channels;
    const double grid = 1 << PREDICTION_BITS, farthest = (double)(of->levels - 1);
    int32_t z[MOST_VARIABLES], base[MOST_PREDICTED];
    double predicted[MOST_PREDICTED];
    variables_at(by, of, row, column, 0, whole, z, base);
    for (int64_t c = 0; c < n; c++) {
        double sum = base[c];
        for (int k = 0; k < by->own; k++) sum += (double)*weights++ * z[by->variables * c + k];
        for (int64_t j = 0; j < c; j++) {
            *slopes++ = *weights;
            sum += (double)*weights++ * (2 * predicted[j] - base[j]);
            for (int k = 0; k < by->lent; k++) sum += (double)*weights++ * z[by->variables * j + k];
        }
        const double rounded = __builtin_rint(sum * (grid / 2)) / grid;
        predicted[c] = rounded < -farthest ? -farthest : rounded > farthest ? farthest : rounded;
        to[c] = (float)predicted[c];
        if (!by->alone) continue;
        to[n + c] = (float)base[c] / 2 - (float)z[by->variables * c + 1] / 4;
        const int64_t *plane = of->x + c * of->height * of->width;
        UNROLL for (int k = 0; k < PREDICTIONS - 2; k++) {
            const int64_t down = row + alone[k][0], right = column + alone[k][1];
            const float there = (float)half_bins_at(of, plane, down, right, whole);
            to[(2 + k) * n + c] = whole || inside(of, down, right) ? there : to[c];
        }
    }
}

INLINE void numbers_at(const surroundings *by, const picture *of, int64_t row, int64_t column, const float *weights,
                       float *restrict to, float *restrict slopes) {
    if (interior(by, of, row, column))
        numbers_of(by, of, row, column, 1, weights, to, slopes);
    else
        numbers_of(by, of, row, column, 0, weights, to, slopes);
}

#endif
