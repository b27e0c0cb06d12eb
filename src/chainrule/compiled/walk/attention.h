/* Attention over all pixels so far: see fixedpoint/exact_attention.py.

   Every image has keys and values of all its pixels: keys (width, pixels), so that a query's products with all of them are
   sums of vectors, and behind them values (pixels, width). In exact programs both are whole numbers. */

#ifndef CHAINRULE_ATTENTION_H
#define CHAINRULE_ATTENTION_H

#include "numbers.h"
#include "walk/program.h"

#include <math.h>

/* A whole number of units of 2^-bits, halves to even, `most` from zero at most. */
INLINE double in_units(double x, int bits, double most) {
    x = __builtin_rint(x * (double)(1 << bits));
    x = x < -most ? -most : x;
    return x > most ? most : x;
}

/* What the weights of n scores are: e^(score - largest), by a table in exact programs. */
INLINE void weights_of(const operation *op, int64_t n, const double *scores, float *restrict weights) {
    if (op->whole) {
        const float *table = (const float *)op->weight;
        const int32_t last = (int32_t)op->high;
        int32_t whole[MOST_KEYS], most = INT32_MIN;
        for (int64_t j = 0; j < n; j++)
            whole[j] = (int32_t)__builtin_rint(scores[j] * (1.0 / (1 << (QUERY_BITS + KEY_BITS - LOGIT_BITS))));
        for (int64_t j = 0; j < n; j++) most = whole[j] > most ? whole[j] : most;
        for (int64_t j = 0; j < n; j++) weights[j] = table[most - whole[j] < last ? most - whole[j] : last];
        return;
    }
    double most = -INFINITY;
    for (int64_t j = 0; j < n; j++) most = scores[j] > most ? scores[j] : most;
    for (int64_t j = 0; j < n; j++) weights[j] = exponential_of_one((float)(scores[j] - most));
}

/* The queries, keys and values of a pixel are x (3, width); what is found takes the place of the queries. In a
   browser somebody may watch: the shares of the places up to here, averaged over heads, are added to a row of `noted`,
   (pixels, pixels). */
FOR_EVERY_PROCESSOR(attend, (const operation *op, int64_t pixels, int64_t at, float *restrict kept, float *restrict x),
                    (op, pixels, at, kept, x)) {
    (void)tile;
    const int64_t width = op->inputs, depth = width / op->outputs, n = at + 1;
    float *keys = kept, *values = kept + width * pixels;
    for (int64_t i = 0; i < width; i++) {
        const float key = x[width + i], value = x[2 * width + i];
        keys[i * pixels + at] = op->whole ? (float)in_units(key, KEY_BITS, LARGEST_KEY) : key;
        values[at * width + i] = op->whole ? (float)in_units(value, ATTENDED_BITS, 2 * LARGEST_KEY) : value;
    }
    for (int64_t first = 0; first < width; first += depth) {
        double scores[MOST_KEYS], mixed[MOST_DEPTH] = {0}, sum = 0;
        float weights[MOST_KEYS];
        for (int64_t j = 0; j < n; j++) scores[j] = 0;
        for (int64_t i = first; i < first + depth; i++) {
            const double scaled = (double)x[i] * op->constant;
            const double query = op->whole ? in_units(scaled, QUERY_BITS, LARGEST_KEY) : scaled;
            const float *key = keys + i * pixels;
            for (int64_t j = 0; j < n; j++) scores[j] += query * key[j];
        }
        weights_of(op, n, scores, weights);
        for (int64_t j = 0; j < n; j++) {
            const double weight = weights[j];
            const float *value = values + j * width + first;
            sum += weight;
            for (int64_t i = 0; i < depth; i++) mixed[i] += weight * value[i];
        }
#ifdef __wasm__
        float *noted = (float *)op->bias;
        for (int64_t j = 0; noted && j < n; j++) noted[at * pixels + j] += (float)(weights[j] / sum / (double)op->outputs);
#endif
        const double unit = op->whole ? 1.0 / (1 << ATTENDED_BITS) : 1.0;
        for (int64_t i = 0; i < depth; i++) x[first + i] = (float)(mixed[i] / sum * unit);
    }
}

/* What a pixel's place adds; or, at the first pixel, what stands there instead of the sum. */
INLINE void add_place(const operation *op, int64_t at, float *restrict y) {
    const float *table = (const float *)op->weight + at * op->inputs;
    const int first = op->positive && !at;
    for (int64_t i = 0; i < op->inputs; i++) y[i] = first ? table[i] : y[i] + table[i];
}

/* The values of the pixel before, zeros at the first. */
INLINE void recall(const operation *op, int64_t at, const float *memory, float *restrict y, const program *p, int64_t k,
                   const spot *s) {
    const spot before = {s->group, (at - 1) / p->columns, (at - 1) % p->columns, -1, s->at};
    const float *pixel = memory + (at ? place(&op->from, op->source, &before) + along(s, k, op->inputs) : 0);
    for (int64_t i = 0; i < op->inputs; i++) y[i] = at ? pixel[i] : 0;
}

#endif
