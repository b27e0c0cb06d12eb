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
    rings in;
} standing;

INLINE standing standing_of(const program *p, float *memory, const spot *s, int64_t k) {
    const int64_t size = p->channels * s->height * s->width, pairs = pairs_of(p->channels);
    float *start = memory + p->squares * s->group;
    if (s->front < 0) {
        const int64_t cells = cells_of(s->width);
        float *own = start + k * p->remembered;
        return (standing){{p->channels, p->levels, s->height, s->width, s->x + k * size}, s->row, s->column, own,
                          {(int32_t *)(own + MOST_SQUARES_WEIGHTS), ROWS + 1, cells, cells * pairs, pairs}};
    }
    const int64_t line = s->at[k], lines = s->height + BORDER, n = line / lines, row = line % lines - BORDER;
    float *first = start + (n * lines + BORDER) * p->remembered;
    return (standing){{p->channels, p->levels, s->height, s->width, s->x + n * size}, row, s->front - SKEW * row,
                      first + row * p->remembered,
                      {(int32_t *)(first + MOST_SQUARES_WEIGHTS), s->height, SQUARES_RING, p->remembered, pairs}};
}

/* The numbers of a pixel; at the first of a cell its weights are computed. */
INLINE void predict(const program *p, float *memory, float *to, const spot *s, int64_t k) {
    const standing at = standing_of(p, memory, s, k);
    if (at.column % CELL == 0) {
        int32_t sums[MOST_PAIRS];
        gather(&at.of, p->near, &at.in, at.row, at.column / CELL, sums);
        chainrule_solve(p->channels, sums, at.weights);
    }
    numbers_at(&at.of, at.row, at.column, at.weights, to);
}

/* Once a pixel is known: if it is the last of its cell, sum the cell's products. */
INLINE void remember(const program *p, float *memory, const spot *s, int64_t k) {
    const standing at = standing_of(p, memory, s, k);
    if (at.column % CELL == CELL - 1 || at.column == at.of.width - 1)
        sum_cell(&at.of, at.row, at.column / CELL, cell_of(&at.in, at.row, at.column / CELL));
}

#endif
