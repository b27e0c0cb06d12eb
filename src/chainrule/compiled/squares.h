/* Local least squares (nn/least_squares.py): predictions of a pixel from the samples around it.

   Elimination takes single operations in the order of the Python code; for the sums that it begins with see samples.h. */

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
#define MOST_CELL 8 /* pixels */
#define MOST_CHANGES ((NEAR_ROWS + 2) * MOST_CELLS * NEAR_POWERS)
#define MOST_OTHERS (FAR_OWN - 1)
_Static_assert(NEAR_CELL <= MOST_CELL && FAR_CELL <= MOST_CELL, "cells are larger than the room for their samples");

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

/* A picture as far as it is known, (channels, height, width). */
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

#define SIDE 4 /* cells whose systems are solved side by side */

/* Weights of all channels, one channel's after the other's, from the sums of `count` cells, SIDE at most. */
void chainrule_solve(const surroundings *by, int64_t channels, int64_t count, const int32_t *const *sums,
                     float *const *weights);

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
