/* From a pixel's sums to the distributions of its channels, and from a distribution to a value. */

#ifndef CHAINRULE_HEADS_H
#define CHAINRULE_HEADS_H

#include "walk/program.h"
#include "walk/tiles.h"

#include <math.h>
#include <string.h>

#define TOTAL (INT64_C(1) << TOTAL_BITS)

/* Logits of one channel of one image. The head's memory: sums of the hidden units, then their final values. */
INLINE void logits_of(const int tile, const program *p, double *head, int64_t channel, double *logits) {
    if (!p->made) {
        memcpy(logits, head + channel * p->levels, p->levels * sizeof(double));
        return;
    }
    double *hidden = head + p->units;
    int64_t end = p->ends[channel], exact = p->exact;
    double scale = p->out_scale, low = p->out_low, high = p->out_high;
    for (int64_t i = channel ? p->ends[channel - 1] : 0; i < end; i++) {
        double x = head[i] < 0 ? 0 : head[i];
        if (exact) {
            x = __builtin_rint(x * scale);
            x = x < low ? low : x;
            x = x > high ? high : x;
        }
        hidden[i] = x;
    }
    for (int64_t v = 0; v < p->levels; v++) {
        const double *weight = p->out_weight + (channel * p->levels + v) * p->units;
        const int64_t whole = end / DOUBLES * DOUBLES;
        double sums[DOUBLES], sum = p->out_bias[channel * p->levels + v];
        BY_WIDTH(dot, weight, hidden, whole, sums);
        for (int64_t i = whole; i < end; i++) sum += weight[i] * hidden[i];
        for (int k = 0; k < DOUBLES; k++) sum += sums[k];
        logits[v] = sum;
    }
}

/* Integers that sum to TOTAL: see fixedpoint/exact_softmax.py. The room for logits becomes that of frequencies. */
INLINE void frequencies_of(const program *p, double *logits, int64_t *frequencies) {
    int64_t levels = p->levels, first = 0, sum = 0, given = 0;
    for (int64_t v = 0; v < levels; v++) {
        double x = __builtin_rint(logits[v] * (1 << LOGIT_BITS));
        x = x < -LARGEST_LOGIT ? -LARGEST_LOGIT : x;
        frequencies[v] = (int64_t)(x > LARGEST_LOGIT ? LARGEST_LOGIT : x);
        if (frequencies[v] > frequencies[first]) first = v;
    }
    int64_t most = frequencies[first];
    for (int64_t v = 0; v < levels; v++) {
        int64_t below = most - frequencies[v];
        frequencies[v] = p->exponentials[below < p->entries ? below : p->entries - 1];
        sum += frequencies[v];
    }
    for (int64_t v = 0; v < levels; v++) given += frequencies[v] = frequencies[v] * (TOTAL - levels) / sum + 1;
    frequencies[first] += TOTAL - given;
}

INLINE void probabilities_of(const program *p, double *logits, double *pmf) {
    if (p->exact) {
        int64_t *frequencies = (int64_t *)pmf;
        frequencies_of(p, logits, frequencies);
        for (int64_t v = 0; v < p->levels; v++) {
            int64_t frequency;
            memcpy(&frequency, frequencies + v, sizeof frequency);
            double probability = (double)frequency / TOTAL;
            memcpy(pmf + v, &probability, sizeof probability);
        }
        return;
    }
    double most = logits[0], sum = 0;
    for (int64_t v = 1; v < p->levels; v++) most = logits[v] > most ? logits[v] : most;
    for (int64_t v = 0; v < p->levels; v++) sum += pmf[v] = exp(logits[v] - most);
    for (int64_t v = 0; v < p->levels; v++) pmf[v] /= sum;
}

/* The value at which the cumulative distribution first exceeds u, as sampling/walking.py defines it. */
INLINE int64_t inverse_cdf(const double *pmf, int64_t levels, double u) {
    double sum = 0, cdf = 0;
    int64_t value = 0, last = 0;
    for (int64_t v = 0; v < levels; v++) sum += pmf[v];
    const double bound = u * sum;
    for (int64_t v = 0; v < levels; v++) {
        cdf += pmf[v];
        value += cdf <= bound;
        if (pmf[v] > 0) last = v; /* rounding may carry a uniform of almost 1 past it */
    }
    return value < last ? value : last;
}

#endif
