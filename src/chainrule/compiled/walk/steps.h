/* The operations of a program, and all of them at one pixel of a group of images. */

#ifndef CHAINRULE_STEPS_H
#define CHAINRULE_STEPS_H

#include "walk/program.h"
#include "walk/tiles.h"

#include <math.h>
#include <string.h>

/* What a product reads, in the order of the weights: a vector, or the pixels of a window. */
INLINE int segments_of(const operation *op, int64_t group, int64_t row, int64_t column, int64_t *starts,
                       int64_t *lengths) {
    const window *w = &op->from;
    if (!w->rows) {
        starts[0] = op->source;
        lengths[0] = op->inputs;
        return 1;
    }
    int count = 0;
    for (int64_t k = 0; k < w->rows; k++)
        for (int64_t tap = 0; tap < (k + 1 < w->rows ? 2 * w->rows - 1 : w->taps); tap++) {
            starts[count] = (op->source + (row + 1 + k) % w->rows * w->stride + (column + tap) * w->channels) * group;
            lengths[count++] = w->channels;
        }
    return count;
}

/* round, half to even, and clamp: whole numbers in units of the grid */
INLINE float on_grid(float x, float scale, float low, float high) {
    x = __builtin_rintf(x * scale);
    x = x < low ? low : x;
    return x > high ? high : x;
}

INLINE void activate(const operation *op, const float *restrict source, float *restrict target) {
    float scale = (float)op->scale, low = (float)op->low, high = (float)op->high;
    float floor = op->positive ? 0.0f : -INFINITY;
    int64_t n = op->inputs;
    if (op->whole)
        for (int64_t i = 0; i < n; i++) {
            float x = source[i];
            target[i] = on_grid(x < floor ? floor : x, scale, low, high);
        }
    else
        for (int64_t i = 0; i < n; i++) target[i] = source[i] < floor ? floor : source[i]; /* keeps NaN */
}

/* Each rounds once: neither may be inlined where the other is. */
FOR_EVERY_PROCESSOR(normalised,
                    (float *restrict x, float mean, float inverse, const float *restrict gain, int64_t n),
                    (x, mean, inverse, gain, n)) {
    (void)tile;
    for (int64_t i = 0; i < n; i++) x[i] = (x[i] - mean) * inverse * gain[i];
}
FOR_EVERY_PROCESSOR(shifted, (float *restrict x, const float *restrict bias, int64_t n), (x, bias, n)) {
    (void)tile;
    for (int64_t i = 0; i < n; i++) x[i] += bias[i];
}

INLINE void normalise(const int tile, const operation *op, const float *restrict x, float *restrict y) {
    const int64_t n = op->inputs, whole = n / DOUBLES * DOUBLES;
    double sum[DOUBLES], squares[DOUBLES], s1 = 0, s2 = 0;
    if (op->whole) {
        float scale = (float)op->scale, low = (float)op->low, high = (float)op->high;
        for (int64_t i = 0; i < n; i++) y[i] = on_grid(x[i], scale, low, high);
    } else
        memcpy(y, x, n * sizeof(float));
    BY_WIDTH(moments, y, whole, sum, squares);
    for (int64_t i = whole; i < n; i++) {
        s1 += y[i];
        s2 += (double)y[i] * y[i];
    }
    for (int k = 0; k < DOUBLES; k++) {
        s1 += sum[k];
        s2 += squares[k];
    }
    double variance = s2 * (double)n - s1 * s1; /* exact in exact mode; otherwise rounding may carry it below zero */
    variance = variance < 0 ? 0 : variance;
    double inverse = 1.0 / sqrt(variance + op->constant) * (double)n;
    normalised(y, (float)(s1 * (1.0 / (double)n)), (float)inverse, op->weight, n);
    shifted(y, op->bias, n);
}

/* How many of the images left make the next tile: 12, 6, 3, 2 or 1, as far as the registers go. */
INLINE int next_tile(int tile, int64_t left) {
    if (tile >= 12 && left >= 12) return 12;
    if (tile >= 6 && left >= 6) return 6;
    return left >= 3 ? 3 : (int)left;
}

INLINE void run(const int tile, const program *p, const operation *op, float *memory, float *scratch, int64_t group,
                int64_t count, int64_t row, int64_t column) {
    int64_t starts[MOST_TAPS], lengths[MOST_TAPS], stride = p->scratch;
    float *source = op->from.rows ? memory : scratch;
    int64_t source_stride = op->from.rows ? op->from.channels : stride;
    switch (op->kind) {
        case NORM:
            for (int64_t b = 0; b < count; b++)
                normalise(tile, op, scratch + b * stride + op->source, scratch + b * stride + op->target);
            break;
        case ACTIVATE:
            for (int64_t b = 0; b < count; b++) {
                float *target = scratch + b * stride + op->target;
                if (op->to.rows)
                    target = memory + place(&op->to, op->target, group, row, column) + b * op->to.channels;
                activate(op, scratch + b * stride + op->source, target);
            }
            break;
        case ADD:
            for (int64_t b = 0; b < count; b++) {
                const float *restrict x = scratch + b * stride + op->source;
                float *restrict y = scratch + b * stride + op->target;
                for (int64_t i = 0, n = op->inputs; i < n; i++) y[i] += x[i];
            }
            break;
        default: {
            int segments = segments_of(op, group, row, column, starts, lengths);
            for (int64_t b = 0, n; b < count; b += n) {
                float *images[MOST], *targets[MOST];
                n = next_tile(tile, count - b);
                for (int t = 0; t < n; t++) {
                    images[t] = source + (b + t) * source_stride;
                    targets[t] = scratch + (b + t) * stride + op->target;
                }
                if (op->kind == PRODUCT)
                    BY_WIDTH(float_tile, n, op->weight, op->bias, op->inputs, op->outputs, segments, starts, lengths,
                             images, targets);
                else
                    BY_WIDTH(wide_tile, n, op->weight, op->bias, op->inputs, op->outputs, segments, starts, lengths,
                             images, targets);
            }
        }
    }
}

INLINE void pixel(const int tile, const program *p, float *memory, float *scratch, double *heads, int64_t group,
                  int64_t count, int64_t row, int64_t column) {
    for (int64_t k = 0; k < p->count; k++) run(tile, p, p->operations + k, memory, scratch, group, count, row, column);
    int64_t length = p->inputs, units = p->units;
    if (!p->weight) {
        for (int64_t b = 0; b < count; b++) {
            const float *restrict sums = scratch + b * p->scratch + p->features;
            double *restrict head = heads + b * p->head;
            for (int64_t i = 0; i < units; i++) head[i] = sums[i];
        }
        return;
    }
    for (int64_t b = 0, n; b < count; b += n) {
        float *images[MOST];
        double *targets[MOST];
        n = next_tile(tile, count - b);
        for (int t = 0; t < n; t++) {
            images[t] = scratch + (b + t) * p->scratch;
            targets[t] = heads + (b + t) * p->head;
        }
        BY_WIDTH(head_tile, n, p->weight, p->bias, length, units, 1, &p->features, &length, images, targets);
    }
}

#endif
