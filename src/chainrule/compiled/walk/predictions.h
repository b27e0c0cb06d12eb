/* Local least squares in a walk: what is remembered of a picture, and the numbers of a pixel. */

#ifndef CHAINRULE_PREDICTIONS_H
#define CHAINRULE_PREDICTIONS_H

#include "samples.h"
#include "walk/program.h"

/* Where image (pixel) k stands in its picture, and what is remembered of it: the weights of the cell at hand, then sums. */
typedef struct {
    picture of;
    int64_t row, column;
    float *weights;
    rooms_of_sums in;
} standing;

INLINE int64_t ring_of_sums(const surroundings *by) { return by->running ? SQUARES_COLUMNS : SQUARES_WINDOWS; }

/* Numbers that one kind takes: of an image of a width, or by fronts of a row. */
INLINE int64_t room_of(const surroundings *by, int64_t channels, int64_t width, int fronts) {
    const int64_t cells = fronts ? SQUARES_RING : rows_of_cells(by) * cells_of(by, width);
    const int64_t sums = fronts ? ring_of_sums(by) : rows_of_sums(by) * cells_of(by, width);
    return MOST_SQUARES_WEIGHTS + (cells + sums) * pairs_of(by, channels);
}

INLINE standing standing_of(const surroundings *by, const program *p, float *memory, const spot *s, int64_t k) {
    const int64_t size = p->channels * s->height * s->width, pairs = pairs_of(by, p->channels);
    float *start = memory + p->squares * s->group + (by->alone ? 0 : room_of(&NEAR, p->channels, s->width, s->front >= 0));
    if (s->front < 0) {
        const int64_t cells = cells_of(by, s->width), rows = rows_of_cells(by);
        float *own = start + k * p->remembered;
        int32_t *sums = (int32_t *)(own + MOST_SQUARES_WEIGHTS);
        return (standing){{p->channels, p->levels, s->height, s->width, s->x + k * size}, s->row, s->column, own,
                          {{sums, rows, cells, cells * pairs, pairs},
                           {sums + rows * cells * pairs, rows_of_sums(by), cells, cells * pairs, pairs}}};
    }
    const int64_t line = s->at[k], lines = s->height + BORDER, n = line / lines, row = line % lines - BORDER;
    float *first = start + (n * lines + BORDER) * p->remembered;
    int32_t *sums = (int32_t *)(first + MOST_SQUARES_WEIGHTS);
    return (standing){{p->channels, p->levels, s->height, s->width, s->x + n * size}, row, s->front - SKEW * row,
                      first + row * p->remembered,
                      {{sums, s->height, SQUARES_RING, p->remembered, pairs},
                       {sums + SQUARES_RING * pairs, s->height, ring_of_sums(by), p->remembered, pairs}}};
}

/* The weights of the cells that begin at some of `count` images (pixels). */
INLINE void weigh(const surroundings *by, const program *p, float *memory, int64_t count, const spot *s) {
    int32_t room[SIDE][MOST_PAIRS];
    const int32_t *sums[SIDE];
    float *weights[SIDE];
    changes moved;
    for (int64_t k = 0, n = 0, any = 0; k < count; k++) {
        const standing at = standing_of(by, p, memory, s, k);
        if (at.column % by->cell == 0) {
            if (!any++) moved = changes_of(by, p->near);
            sums[n] = sums_at(by, &at.of, &moved, &at.in, at.row, at.column / by->cell, room[n]);
            weights[n++] = at.weights;
        }
        if (n && (n == SIDE || k + 1 == count)) chainrule_solve(by, p->channels, n, sums, weights), n = 0;
    }
}

INLINE void predict_by(const surroundings *by, const program *p, float *memory, float *to, float *slopes, const spot *s,
                       int64_t k) {
    const standing at = standing_of(by, p, memory, s, k);
    numbers_at(by, &at.of, at.row, at.column, at.weights, to, slopes);
}

INLINE void remember_by(const surroundings *by, const program *p, float *memory, const spot *s, int64_t k) {
    const standing at = standing_of(by, p, memory, s, k);
    if (at.column % by->cell == by->cell - 1 || at.column == at.of.width - 1)
        keep_cell(by, &at.of, &at.in, at.row, at.column / by->cell);
}

/* The numbers of `count` images (pixels), from `to` on and as far apart as their scratch memory: predictions of both kinds,
   and slopes of both. */
INLINE void predict(const program *p, float *memory, float *to, int64_t count, const spot *s) {
    const int64_t n = p->channels, pairs = n * (n - 1) / 2;
    const int two = p->predictions > PREDICTIONS;
    weigh(&NEAR, p, memory, count, s);
    if (two) weigh(&FAR, p, memory, count, s);
    for (int64_t k = 0; k < count; k++, to += p->scratch) {
        float *slopes = to + p->predictions * n;
        predict_by(&NEAR, p, memory, to, slopes, s, k);
        if (two) predict_by(&FAR, p, memory, to + PREDICTIONS * n, slopes + pairs, s, k);
    }
}

/* Once a pixel is known: if it is the last of its cell, keep the cell's products. */
INLINE void remember(const program *p, float *memory, const spot *s, int64_t k) {
    remember_by(&NEAR, p, memory, s, k);
    if (p->predictions > PREDICTIONS) remember_by(&FAR, p, memory, s, k);
}

#endif
