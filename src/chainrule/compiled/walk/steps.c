/* The operations of a program, and all of them at one pixel of a group of images, or at some pixels of a front. */

#include "walk/steps.h"

#include "numbers.h"
#include "walk/predictions.h"
#include "walk/attention.h"
#include "walk/heads.h"
#include "walk/tiles.h"

#include <math.h>
#include <string.h>

/* What a product reads, in the order of the weights: a vector, or the pixels of a window. */
INLINE int segments_of(const operation *op, const spot *s, int64_t *starts, int64_t *lengths) {
    const window *w = &op->from;
    if (!w->rows) {
        starts[0] = op->source;
        lengths[0] = op->inputs;
        return 1;
    }
    int count = 0;
    for (int64_t k = 1 - w->rows; k <= 0; k++)
        for (int64_t tap = 0, taps = k ? 2 * w->reach + 1 : w->taps; tap < taps; tap++) {
            lengths[count] = w->channels;
            if (s->front >= 0) {
                const int64_t column = (s->front + SKEW * k + tap - w->reach) & (w->stride - 1);
                starts[count++] = (op->source + column * w->channels) * s->group + k * w->channels;
            } else {
                const int64_t row = (s->row + k + w->rows) % w->rows;
                starts[count++] = (op->source + row * w->stride + (s->column + tap) * w->channels) * s->group;
            }
        }
    return count;
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

/* The predictions' spread: the first of each channel in -1 … 1, then how far the others are from it. */
INLINE void spread(const program *p, const operation *op, const float *restrict x, float *restrict y) {
    const float scale = (float)op->scale, low = (float)op->low, high = (float)op->high;
    const int64_t channels = op->outputs;
    for (int64_t i = 0; i < op->inputs; i++) {
        const double away = (double)x[i] - (i < channels ? 0 : x[i % channels]);
        const float soft = (float)(i < channels ? away / (p->levels - 1) : softened(away, SPREAD_SOFTNESS));
        y[i] = op->whole ? on_grid(soft, scale, low, high) : soft;
    }
}

INLINE void add(const operation *op, const float *restrict x, float *restrict y) {
    for (int64_t i = 0, n = op->inputs; i < n; i++) y[i] += x[i];
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

/* What a gate computes: see fixedpoint/exact_gates.py. The table goes from -most to most, and `gates` is its middle. */
INLINE float tanh_at(const float *gates, float x, float scale, float most) {
    return gates[(int64_t)on_grid(x, scale, -most, most)];
}

INLINE void gate(const operation *op, const float *restrict x, float *restrict y) {
    const int64_t n = op->inputs;
    if (op->whole) {
        const float *gates = (const float *)op->weight + (int64_t)op->high;
        const float most = (float)op->high, scale = 1 << LOGIT_BITS;
        for (int64_t i = 0; i < n; i++) {
            const float open = tanh_at(gates, x[n + i], scale, most) * 0.5f + 0.5f;
            y[i] = tanh_at(gates, x[i], 2 * scale, most) * open;
        }
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        const float e = exponential_of_one(-2 * x[i]), f = exponential_of_one(-x[n + i]);
        y[i] = x[i] - x[i] == 0 && x[n + i] - x[n + i] == 0 ? (1 - e) / ((1 + e) * (1 + f)) : NAN;
    }
}

/* How many of the images left make the next tile: 12, 6, 3, 2 or 1, as far as the registers go. */
INLINE int next_tile(int tile, int64_t left) {
    if (tile >= 12 && left >= 12) return 12;
    if (tile >= 6 && left >= 6) return 6;
    return left >= 3 ? 3 : (int)left;
}

/* Where a source or target of image (pixel) b begins. */
INLINE float *vector_of(const window *w, int64_t start, float *memory, float *scratch, int64_t stride, const spot *s,
                        int64_t b) {
    if (w->rows) return memory + place(w, start, s) + along(s, b, w->channels);
    return scratch + b * stride + start;
}

INLINE void run(const int tile, const program *p, const operation *op, float *memory, float *scratch, int64_t count,
                const spot *s) {
    const int64_t stride = p->scratch;
    if (op->kind == PRODUCT || op->kind == WIDE_PRODUCT) {
        int64_t starts[MOST_TAPS], lengths[MOST_TAPS];
        const int segments = segments_of(op, s, starts, lengths);
        for (int64_t b = 0, n; b < count; b += n) {
            float *images[MOST], *targets[MOST];
            n = next_tile(tile, count - b);
            for (int t = 0; t < n; t++) {
                images[t] = op->from.rows ? memory + along(s, b + t, op->from.channels) : scratch + (b + t) * stride;
                targets[t] = scratch + (b + t) * stride + op->target;
            }
            if (op->kind == PRODUCT)
                BY_WIDTH(float_tile, n, op->weight, op->bias, op->inputs, op->outputs, segments, starts, lengths, images,
                         targets);
            else
                BY_WIDTH(wide_tile, n, op->weight, op->bias, op->inputs, op->outputs, segments, starts, lengths, images,
                         targets);
        }
        return;
    }
    if (op->kind == SQUARES) {
        predict(p, memory, scratch + op->target, count, s);
        return;
    }
    const int64_t at = s->row * p->columns + s->column, pixels = p->height * p->columns;
    for (int64_t b = 0; b < count; b++) {
        if (op->kind == ATTEND) {
            float *kept = memory + op->target * s->group + b * 2 * op->inputs * pixels;
            attend(op, pixels, at, kept, scratch + b * stride + op->source);
            continue;
        }
        const float *x = vector_of(&op->from, op->source, memory, scratch, stride, s, b);
        float *y = vector_of(&op->to, op->target, memory, scratch, stride, s, b);
        switch (op->kind) {
            case NORM: normalise(tile, op, x, y); break;
            case ACTIVATE: activate(op, x, y); break;
            case GATE: gate(op, x, y); break;
            case SPREAD: spread(p, op, x, y); break;
            case PLACE: add_place(op, at, y); break;
            case RECALL: recall(op, at, memory, y, p, b, s); break;
            default: add(op, x, y);
        }
    }
}

FOR_EVERY_PROCESSOR(all_steps,
                    (const program *p, float *memory, float *scratch, double *rooms, int64_t count, const spot *s),
                    (p, memory, scratch, rooms, count, s)) {
    if (!s->column && s->front < 0)
        for (int64_t stage = 1; stage <= p->stages; stage++) {
            spot ahead = *s;
            for (; ahead.column < p->columns; ahead.column++)
                for (int64_t k = 0; k < p->count; k++)
                    if (p->operations[k].stage == stage)
                        run(tile, p, p->operations + k, memory, scratch, count, &ahead);
        }
    for (int64_t k = 0; k < p->count; k++)
        if (!p->operations[k].stage) run(tile, p, p->operations + k, memory, scratch, count, s);
    const int64_t length = p->inputs;
    for (int64_t b = 0, n; b < count; b += n) {
        float *images[MOST];
        double *targets[MOST];
        n = next_tile(tile, count - b);
        for (int t = 0; t < n; t++) {
            images[t] = scratch + (b + t) * p->scratch;
            targets[t] = rooms + (b + t) * p->room;
            if (!p->weight)
                for (int64_t i = 0; i < p->units; i++) targets[t][i] = images[t][p->features + i];
        }
        if (p->weight)
            BY_WIDTH(head_tile, n, p->weight, p->bias, length, p->units, 1, &p->features, &length, images, targets);
        for (int t = 0; t < n; t++) begin_head(p, targets[t], images[t] + (p->predicted < 0 ? 0 : p->predicted));
    }
}

void pixel(const program *p, float *memory, float *scratch, double *rooms, int64_t count, const spot *s) {
    all_steps(p, memory, scratch, rooms, count, s);
}
