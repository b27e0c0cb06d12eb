/* The systems of local least squares, solved by single operations in the order of nn/least_squares.py; and the numbers of
   whole pictures. */

#include "squares.h"

#include "threads.h"

#include <stdlib.h>

/* Products must not be fused with sums, whatever the processor could do. */
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#define SINGLY __attribute__((noinline))
#else
#define SINGLY __attribute__((noinline, optimize("fp-contract=off")))
#endif

/* Of a (n, n) the lower triangle counts; y holds the right-hand side, then the weights. */
SINGLY static void eliminate(int64_t n, double (*restrict a)[MOST_REGRESSORS], double *restrict y) {
    double inverses[MOST_REGRESSORS], column[MOST_REGRESSORS];
    for (int64_t k = 0; k < n; k++) {
        const double inverse = inverses[k] = 1.0 / a[k][k];
        for (int64_t i = k + 1; i < n; i++) column[i] = a[i][k];
        for (int64_t i = k + 1; i < n; i++) {
            const double factor = a[i][k] = column[i] * inverse;
            for (int64_t j = k + 1; j <= i; j++) a[i][j] -= factor * column[j];
            y[i] -= factor * y[k];
        }
    }
    for (int64_t k = 0; k < n; k++) y[k] *= inverses[k];
    for (int64_t k = n - 1; k > 0; k--)
        for (int64_t i = 0; i < k; i++) y[i] -= a[k][i] * y[k];
}

void chainrule_solve(int64_t channels, const int32_t *sums, float *weights) {
    static const double start[OWN] = {0, -0.5}, lent[1 + LENT] = {0.8, 0, 0.4};
    const double grid = 1 << SQUARES_BITS, largest = LARGEST_WEIGHT;
    for (int64_t c = 0; c < channels; c++) {
        double a[MOST_REGRESSORS][MOST_REGRESSORS], y[MOST_REGRESSORS];
        int64_t chosen[MOST_REGRESSORS], n = 0, target = VARIABLES * c + OWN;
        for (int64_t k = 0; k < OWN; k++) y[n] = start[k], chosen[n++] = VARIABLES * c + k;
        for (int64_t j = 0; j < c; j++) {
            const double near = j == c - 1;
            y[n] = near * lent[0], chosen[n++] = VARIABLES * j + OWN;
            for (int64_t k = 0; k < LENT; k++) y[n] = near * lent[1 + k], chosen[n++] = VARIABLES * j + k;
        }
        for (int64_t i = 0; i < n; i++) {
            const int64_t one = chosen[i];
            for (int64_t j = 0; j <= i; j++) {
                const int64_t other = chosen[j];
                a[i][j] = sums[one > other ? pairs_before(one) + other : pairs_before(other) + one];
            }
            a[i][i] += RIDGE;
            y[i] = sums[one > target ? pairs_before(one) + target : pairs_before(target) + one] + RIDGE * y[i];
        }
        eliminate(n, a, y);
        for (int64_t i = 0; i < n; i++) {
            const double rounded = __builtin_rint(y[i] * grid) / grid;
            *weights++ = (float)(rounded < -largest ? -largest : rounded > largest ? largest : rounded);
        }
    }
}

/* ------------------------------------------------------------------------------------------------------ whole pictures */

typedef struct {
    picture of;
    int64_t pictures, numbers, failed;
    const int64_t *near;
    float *to; /* (pictures, height, width, numbers) */
} job;

FOR_EVERY_PROCESSOR(whole_picture, (const job *j, const picture *of, int32_t *ring, float *to), (j, of, ring, to)) {
    (void)tile;
    const int64_t pairs = pairs_of(of->channels), cells = cells_of(of->width);
    int32_t sums[MOST_PAIRS];
    float weights[MOST_SQUARES_WEIGHTS];
    const rings in = {ring, ROWS + 1, cells, cells * pairs, pairs};
    for (int64_t row = 0; row < of->height; row++)
        for (int64_t cell = 0; cell < cells; cell++) {
            gather(of, j->near, &in, row, cell, sums);
            chainrule_solve(of->channels, sums, weights);
            for (int64_t column = cell * CELL; column < (cell + 1) * CELL && column < of->width; column++)
                numbers_at(of, row, column, weights, to + (row * of->width + column) * j->numbers);
            sum_cell(of, row, cell, cell_of(&in, row, cell));
        }
}

static void share_of(const void *argument, int64_t share, int64_t shares) {
    job *j = (job *)argument;
    const int64_t size = j->of.channels * j->of.height * j->of.width, area = j->of.height * j->of.width;
    int32_t *ring = malloc((ROWS + 1) * cells_of(j->of.width) * pairs_of(j->of.channels) * sizeof(int32_t));
    if (!ring) {
        j->failed = 1;
        return;
    }
    for (int64_t n = j->pictures * share / shares; n < j->pictures * (share + 1) / shares; n++) {
        picture of = j->of;
        of.x += n * size;
        whole_picture(j, &of, ring, j->to + n * area * j->numbers);
    }
    free(ring);
}

/* The numbers of all pixels of pictures x (pictures, channels, height, width), levels: 0, or 1 where memory has ended. */
int64_t chainrule_squares(int64_t shares, int64_t pictures, int64_t channels, int64_t levels, int64_t height,
                          int64_t width, int64_t numbers, const int64_t *x, const int64_t *near, float *to) {
    job j = {{channels, levels, height, width, x}, pictures, numbers, 0, near, to};
    beside_pytorch(share_of, &j, shares);
    return j.failed;
}
