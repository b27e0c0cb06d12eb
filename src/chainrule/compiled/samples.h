/* Sums of products over the samples of local least squares: of cells, of columns of cells, of all samples near a cell.

   They are whole numbers, in any order. */

#ifndef CHAINRULE_SAMPLES_H
#define CHAINRULE_SAMPLES_H

#include "squares.h"

typedef int32_t block __attribute__((vector_size(4 * BLOCK), aligned(4), may_alias));

/* Sum the products at the samples of a cell, all of whose pixels are known. */
INLINE void sum_cell(const surroundings *by, const picture *of, int64_t row, int64_t cell, int32_t *restrict sums) {
    const int64_t n = by->variables * of->channels;
    int32_t z[MOST_CELL][MOST_VARIABLES + BLOCK], base[MOST_PREDICTED];
    int64_t samples = 0;
    for (int64_t column = cell * by->cell; column < (cell + 1) * by->cell && column < of->width - by->right; column++) {
        if (row < by->up || column < by->left) continue;
        memset(z[samples] + n, 0, BLOCK * sizeof(int32_t));
        if (interior(by, of, row, column))
            variables_at(by, of, row, column, 1, 1, z[samples++], base);
        else
            variables_at(by, of, row, column, 1, 0, z[samples++], base);
    }
    for (int64_t a = 0; a < n; a++)
        for (int64_t b = 0; b <= a; b += BLOCK, sums += BLOCK) {
            block sum = {0};
            for (int64_t k = 0; k < samples; k++) sum += z[k][a] * *(const block *)(z[k] + b);
            *(block *)sums = sum;
        }
}

/* Where the sums of cells lie: in a ring of rows, or of cells in each row. */
typedef struct {
    int32_t *start;
    int64_t rows, cells, row, cell; /* how many, and the distance from one to the next */
} rings;

INLINE int32_t *cell_of(const rings *in, int64_t row, int64_t cell) {
    return in->start + row % in->rows * in->row + cell % in->cells * in->cell;
}

/* ------------------------------------------------------------------------------------------------------------- windows */

/* The window of samples near a cell is that of the cell above, moved down by a row: cells whose weights change by it, the
   rows that they are above the cell and how many columns of cells right of the first; those first that 2^(NEAR_POWERS - 1)
   is added for, up to ends[0], those that it is subtracted for, up to ends[1], and so on down to 1. */
typedef struct {
    int8_t down[MOST_CHANGES], right[MOST_CHANGES];
    int64_t ends[2 * NEAR_POWERS];
} changes;

/* Those for `weights` (rows + 1, cells), whole numbers. */
INLINE changes changes_of(const surroundings *by, const int64_t *weights) {
    changes found = {.ends = {0}};
    const int64_t across = by->before + by->after + 1;
    int64_t count = 0;
    if (by->running) return found; /* columns have sums of their own */
    for (int kind = 0; kind < 2 * NEAR_POWERS; kind++) {
        for (int64_t down = 0; down <= by->rows + 1; down++)
            for (int64_t right = 0; right < across; right++) {
                const int64_t now = down <= by->rows ? weights[(by->rows - down) * across + right] : 0;
                const int64_t then = down ? weights[(by->rows - down + 1) * across + right] : 0;
                const int64_t more = kind % 2 ? then - now : now - then;
                if (more <= 0 || !(more >> (NEAR_POWERS - 1 - kind / 2) & 1)) continue;
                found.down[count] = (int8_t)down, found.right[count++] = (int8_t)right;
            }
        found.ends[kind] = count;
    }
    return found;
}

/* So many blocks of a window's sums, from the place i on. */
INLINE void move_blocks(const int blocks, const int64_t *ends, const int32_t *const *found, const int32_t *above,
                        int32_t *to, int64_t i) {
    block sum[4] = {{0}};
    int64_t n = 0;
    for (int kind = 0; kind < 2 * NEAR_POWERS; kind += 2) {
        UNROLL for (int k = 0; k < blocks; k++) sum[k] += sum[k];
        for (; n < ends[kind]; n++)
            UNROLL for (int k = 0; k < blocks; k++) sum[k] += *(const block *)(found[n] + i + k * BLOCK);
        for (; n < ends[kind + 1]; n++)
            UNROLL for (int k = 0; k < blocks; k++) sum[k] -= *(const block *)(found[n] + i + k * BLOCK);
    }
    UNROLL for (int k = 0; k < blocks; k++)
        *(block *)(to + i + k * BLOCK) = *(const block *)(above + i + k * BLOCK) + sum[k];
}

/* The weighted sums of all samples near a cell, from those near the cell above: either may lie in the other's place. */
INLINE const int32_t *move_window(const surroundings *by, const picture *of, const changes *moved, const rings *cells,
                                  const rings *windows, int64_t row, int64_t cell) {
    static const int32_t nothing[MOST_PAIRS];
    const int64_t all = cells_of(by, of->width), pairs = pairs_of(by, of->channels), count = moved->ends[2 * NEAR_POWERS - 1];
    int32_t *to = cell_of(windows, row, cell);
    if (row < by->up) return memset(to, 0, pairs * sizeof(int32_t));
    const int32_t *found[MOST_CHANGES], *above = cell_of(windows, row - 1, cell);
    for (int64_t n = 0; n < count; n++) {
        const int64_t r = row - moved->down[n], c = cell - by->before + moved->right[n];
        found[n] = r < by->up || c < 0 || c >= all ? nothing : cell_of(cells, r, c);
    }
    int64_t i = 0;
    for (; i + 4 * BLOCK <= pairs; i += 4 * BLOCK) move_blocks(4, moved->ends, found, above, to, i);
    for (; i < pairs; i += BLOCK) move_blocks(1, moved->ends, found, above, to, i);
    return to;
}

/* ------------------------------------------------------------------------------------------------------------- columns */

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

/* The weighted sums of all samples near a cell, from the sums of columns. */
INLINE void gather_columns(const surroundings *by, const picture *of, const rings *columns, int64_t row, int64_t cell,
                           int32_t *restrict sums) {
    static const int32_t nothing[MOST_PAIRS];
    const int64_t cells = cells_of(by, of->width), pairs = pairs_of(by, of->channels);
    const int32_t *from[MOST_CELLS];
    for (int64_t right = 0; right <= by->before + by->after; right++) {
        const int64_t c = cell + right - by->before, r = row - by->nearest[right];
        from[right] = r < by->up || c < 0 || c >= cells ? nothing : cell_of(columns, r, c);
    }
    for (int64_t i = 0; i < pairs; i += BLOCK) {
        block sum = {0};
        UNROLL for (int right = 0; right <= by->before + by->after; right++)
            sum += (int32_t)by->columns[right] * *(const block *)(from[right] + i);
        *(block *)(sums + i) = sum;
    }
}

/* ---------------------------------------------------------------------------------------------------------- both kinds */

/* Where cells lie, and sums of columns or of windows, in raster order or by fronts. */
typedef struct {
    rings cells, sums;
} rooms_of_sums;

INLINE int64_t rows_of_cells(const surroundings *by) { return by->running ? by->running + 1 : by->rows + 2; }
INLINE int64_t rows_of_sums(const surroundings *by) {
    return by->running ? by->nearest[by->before + by->after] + 1 : 1;
}

/* The sums for a cell's weights; there may be `room` needed for them. The cell above has been asked for before. */
INLINE const int32_t *sums_at(const surroundings *by, const picture *of, const changes *moved, const rooms_of_sums *in,
                              int64_t row, int64_t cell, int32_t *restrict room) {
    if (!by->running) return move_window(by, of, moved, &in->cells, &in->sums, row, cell);
    gather_columns(by, of, &in->sums, row, cell, room);
    return room;
}

/* Keep the products of a cell, all of whose pixels are known now. */
INLINE void keep_cell(const surroundings *by, const picture *of, const rooms_of_sums *in, int64_t row, int64_t cell) {
    sum_cell(by, of, row, cell, cell_of(&in->cells, row, cell));
    if (by->running) sum_column(by, of, &in->cells, &in->sums, row, cell);
}

#endif
