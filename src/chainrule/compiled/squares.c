/* The systems of local least squares, solved by single operations in the order of nn/least_squares.py; and the numbers of
   whole pictures. */

#include "samples.h"
#include "threads.h"

#include <stdlib.h>

/* Products must not be fused with sums, whatever the processor could do, and whatever flags ask for it. */
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#define SINGLY __attribute__((noinline, unused))
#else
#define SINGLY __attribute__((noinline, unused, optimize("fp-contract=off")))
#endif
#if defined(__x86_64__) && defined(__GNUC__)
#define SINGLY_AVX2 SINGLY __attribute__((target("avx2")))
#else
#define SINGLY_AVX2 SINGLY
#endif

/* Systems side by side, each in a lane of its own: of a (n, n) the lower triangle counts; y holds the right-hand side, then
   the weights. */
#define EACH for (int r = 0; r < PARTS; r++)
#define DEFINE_ELIMINATE(NAME, PROCESSOR, REGISTER, WIDTH)                                                             \
    PROCESSOR static void NAME(int64_t n, double (*matrix)[MOST_REGRESSORS][SIDE], double (*right)[SIDE]) {            \
        enum { PARTS = SIDE / (WIDTH) };                                                                               \
        REGISTER(*restrict a)[MOST_REGRESSORS][PARTS] = (void *)matrix;                                                \
        REGISTER(*restrict y)[PARTS] = (void *)right;                                                                  \
        REGISTER inverses[MOST_REGRESSORS][PARTS], column[MOST_REGRESSORS][PARTS];                                     \
        for (int64_t k = 0; k < n; k++) {                                                                              \
            UNROLL EACH inverses[k][r] = 1.0 / a[k][k][r];                                                             \
            for (int64_t i = k + 1; i < n; i++) UNROLL EACH column[i][r] = a[i][k][r];                                 \
            for (int64_t i = k + 1; i < n; i++) {                                                                      \
                REGISTER factor[PARTS];                                                                                \
                UNROLL EACH a[i][k][r] = factor[r] = column[i][r] * inverses[k][r];                                    \
                for (int64_t j = k + 1; j <= i; j++) UNROLL EACH a[i][j][r] -= factor[r] * column[j][r];               \
                UNROLL EACH y[i][r] -= factor[r] * y[k][r];                                                            \
            }                                                                                                          \
        }                                                                                                              \
        for (int64_t k = 0; k < n; k++) UNROLL EACH y[k][r] *= inverses[k][r];                                         \
        for (int64_t k = n - 1; k > 0; k--)                                                                            \
            for (int64_t i = 0; i < k; i++) UNROLL EACH y[i][r] -= a[k][i][r] * y[k][r];                               \
    }
DEFINE_ELIMINATE(eliminate_halves, SINGLY_AVX2, double_halves, 4)
DEFINE_ELIMINATE(eliminate_quarters, SINGLY, double_quarters, 2)
#define eliminate_floats eliminate_halves

INLINE void solve(const int tile, const surroundings *by, int64_t channels, int64_t count, const int32_t *const *sums,
                  float *const *weights) {
    static const double start[2] = {0, -0.5}, lent[3] = {0.8, 0, 0.4};
    const double grid = 1 << SQUARES_BITS, largest = LARGEST_WEIGHT, ridge = (double)by->ridge;
    const int32_t *from[SIDE];
    for (int64_t s = 0; s < SIDE; s++) from[s] = sums[s < count ? s : 0];
    for (int64_t c = 0, first = 0; c < channels; c++) {
        double a[MOST_REGRESSORS][MOST_REGRESSORS][SIDE], y[MOST_REGRESSORS][SIDE], begun[MOST_REGRESSORS];
        int64_t chosen[MOST_REGRESSORS], n = 0, target = by->variables * c + by->own;
        for (int64_t k = 0; k < by->own; k++) begun[n] = k < 2 ? start[k] : 0, chosen[n++] = by->variables * c + k;
        for (int64_t j = 0; j < c; j++) {
            const double near = j == c - 1;
            begun[n] = near * lent[0], chosen[n++] = by->variables * j + by->own;
            for (int64_t k = 0; k < by->lent; k++)
                begun[n] = k < 2 ? near * lent[1 + k] : 0, chosen[n++] = by->variables * j + k;
        }
        for (int64_t i = 0; i < n; i++) {
            const int64_t one = chosen[i];
            for (int64_t j = 0; j <= i; j++) {
                const int64_t other = chosen[j];
                const int64_t at = one > other ? pairs_before(one) + other : pairs_before(other) + one;
                UNROLL for (int s = 0; s < SIDE; s++) a[i][j][s] = from[s][at];
            }
            const int64_t at = one > target ? pairs_before(one) + target : pairs_before(target) + one;
            UNROLL for (int s = 0; s < SIDE; s++) a[i][i][s] += ridge, y[i][s] = from[s][at] + ridge * begun[i];
        }
        BY_WIDTH(eliminate, n, a, y);
        for (int64_t s = 0; s < count; s++)
            for (int64_t i = 0; i < n; i++) {
                const double rounded = __builtin_rint(y[i][s] * grid) / grid;
                weights[s][first + i] = (float)(rounded < -largest ? -largest : rounded > largest ? largest : rounded);
            }
        first += n;
    }
}

FOR_EVERY_PROCESSOR(solve_any, (const surroundings *by, int64_t channels, int64_t count, const int32_t *const *sums,
                                float *const *weights), (by, channels, count, sums, weights)) {
    by->alone ? solve(tile, &NEAR, channels, count, sums, weights) : solve(tile, &FAR, channels, count, sums, weights);
}

void chainrule_solve(const surroundings *by, int64_t channels, int64_t count, const int32_t *const *sums,
                     float *const *weights) {
    solve_any(by, channels, count, sums, weights);
}

/* ------------------------------------------------------------------------------------------------------ whole pictures */

typedef struct {
    picture of;
    int64_t far, pictures, numbers, failed;
    const int64_t *weights;
    float *to; /* (pictures, height, width, numbers) */
} job;

INLINE void one_picture(const surroundings *by, const job *j, const picture *of, int32_t *room, float *to) {
    const int64_t pairs = pairs_of(by, of->channels), cells = cells_of(by, of->width), rows = rows_of_cells(by);
    int32_t rooms[SIDE][MOST_PAIRS];
    float weights[SIDE][MOST_SQUARES_WEIGHTS];
    const rooms_of_sums in = {{room, rows, cells, cells * pairs, pairs},
                              {room + rows * cells * pairs, rows_of_sums(by), cells, cells * pairs, pairs}};
    const changes moved = changes_of(by, j->weights);
    for (int64_t row = 0; row < of->height; row++) {
        for (int64_t cell = 0; cell < cells; cell++) keep_cell(by, of, &in, row, cell);
        for (int64_t first = 0, count; first < cells; first += count) {
            const int32_t *sums[SIDE];
            float *to_weights[SIDE];
            count = cells - first < SIDE ? cells - first : SIDE;
            for (int64_t s = 0; s < count; s++)
                sums[s] = sums_at(by, of, &moved, &in, row, first + s, rooms[s]), to_weights[s] = weights[s];
            chainrule_solve(by, of->channels, count, sums, to_weights);
            for (int64_t column = first * by->cell; column < (first + count) * by->cell && column < of->width; column++) {
                float *numbers = to + (row * of->width + column) * j->numbers;
                numbers_at(by, of, row, column, weights[column / by->cell - first], numbers,
                           numbers + (by->alone ? PREDICTIONS : 1) * of->channels);
            }
        }
    }
}

FOR_EVERY_PROCESSOR(whole_picture, (const job *j, const picture *of, int32_t *room, float *to), (j, of, room, to)) {
    (void)tile;
    if (j->far)
        one_picture(&FAR, j, of, room, to);
    else
        one_picture(&NEAR, j, of, room, to);
}

static void share_of(const void *argument, int64_t share, int64_t shares) {
    job *j = (job *)argument;
    const surroundings *by = j->far ? &FAR : &NEAR;
    const int64_t size = j->of.channels * j->of.height * j->of.width, area = j->of.height * j->of.width;
    const int64_t rows = rows_of_cells(by) + rows_of_sums(by);
    int32_t *room = malloc(rows * cells_of(by, j->of.width) * pairs_of(by, j->of.channels) * sizeof(int32_t));
    if (!room) {
        j->failed = 1;
        return;
    }
    for (int64_t n = j->pictures * share / shares; n < j->pictures * (share + 1) / shares; n++) {
        picture of = j->of;
        of.x += n * size;
        whole_picture(j, &of, room, j->to + n * area * j->numbers);
    }
    free(room);
}

/* The numbers of all pixels of pictures x (pictures, channels, height, width), levels, by NEAR or FAR: 0, or 1 where memory
   has ended. */
int64_t chainrule_squares(int64_t shares, int64_t far, int64_t pictures, int64_t channels, int64_t levels,
                          int64_t height, int64_t width, int64_t numbers, const int64_t *x, const int64_t *weights,
                          float *to) {
    job j = {{channels, levels, height, width, x}, far, pictures, numbers, 0, weights, to};
    beside_pytorch(share_of, &j, shares);
    return j.failed;
}
