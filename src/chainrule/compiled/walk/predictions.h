/* Local least squares in a walk: what is remembered of a picture, and the numbers of a pixel. */

#ifndef CHAINRULE_PREDICTIONS_H
#define CHAINRULE_PREDICTIONS_H

#include "squares.h"
#include "walk/program.h"

/* Where image (pixel) k stands in its picture, and what is remembered of it: the weights of the cell at hand, then sums. */
typedef struct {
    picture of;
    int64_t row, column;
    float *weights;
    rooms_of_sums in;
} standing;

/* Numbers that one kind takes: of an image of a width, or by fronts of a row. */
INLINE int64_t room_of(const surroundings *by, int64_t channels, int64_t width, int fronts) {
    const int64_t cells = fronts ? SQUARES_RING : rows_of_cells(by) * cells_of(by, width);
    const int64_t columns = fronts ? SQUARES_COLUMNS : rows_of_columns(by) * cells_of(by, width);
    return MOST_SQUARES_WEIGHTS + (cells + (by->running ? columns : 0)) * pairs_of(by, channels);
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
                           {sums + rows * cells * pairs, rows_of_columns(by), cells, cells * pairs, pairs}}};
    }
    const int64_t line = s->at[k], lines = s->height + BORDER, n = line / lines, row = line % lines - BORDER;
    float *first = start + (n * lines + BORDER) * p->remembered;
    int32_t *sums = (int32_t *)(first + MOST_SQUARES_WEIGHTS);
    return (standing){{p->channels, p->levels, s->height, s->width, s->x + n * size}, row, s->front - SKEW * row,
                      first + row * p->remembered,
                      {{sums, s->height, SQUARES_RING, p->remembered, pairs},
                       {sums + SQUARES_RING * pairs, s->height, SQUARES_COLUMNS, p->remembered, pairs}}};
}

INLINE void predict_by(const surroundings *by, const program *p, float *memory, float *to, float *slopes, const spot *s,
                       int64_t k) {
    const standing at = standing_of(by, p, memory, s, k);
    if (at.column % by->cell == 0) {
        int32_t sums[MOST_PAIRS];
        sums_at(by, &at.of, p->near, &at.in, at.row, at.column / by->cell, sums);
        chainrule_solve(by, p->channels, sums, at.weights);
    }
    numbers_at(by, &at.of, at.row, at.column, at.weights, to, slopes);
}

INLINE void remember_by(const surroundings *by, const program *p, float *memory, const spot *s, int64_t k) {
    const standing at = standing_of(by, p, memory, s, k);
    if (at.column % by->cell == by->cell - 1 || at.column == at.of.width - 1)
        keep_cell(by, &at.of, &at.in, at.row, at.column / by->cell);
}

/* The numbers of a pixel: predictions of both kinds, and slopes of both. At the first of a cell its weights are computed. */
INLINE void predict(const program *p, float *memory, float *to, const spot *s, int64_t k) {
    float *slopes = to + p->predictions * p->channels;
    predict_by(&NEAR, p, memory, to, slopes, s, k);
    if (p->predictions > PREDICTIONS)
        predict_by(&FAR, p, memory, to + PREDICTIONS * p->channels, slopes + p->channels * (p->channels - 1) / 2, s, k);
}

/* Once a pixel is known: if it is the last of its cell, keep the cell's products. */
INLINE void remember(const program *p, float *memory, const spot *s, int64_t k) {
    remember_by(&NEAR, p, memory, s, k);
    if (p->predictions > PREDICTIONS) remember_by(&FAR, p, memory, s, k);
}

#endif
