/* A pixel's mixture of logistics (heads/mixture.py): in integers as fixedpoint/exact_logistic.py has it, and in float64.

   A head's room holds, after the network's numbers, what is kept from a pixel's first channel to its last. */

#ifndef CHAINRULE_LOGISTIC_H
#define CHAINRULE_LOGISTIC_H

#include "walk/program.h"

#include <math.h>

#define ONE (INT64_C(1) << VALUE_BITS)
#define EDGE ((int64_t)REACH << ARGUMENT_BITS)
#define SHARPEST_LOG2 (__builtin_ctz(SHARPEST))
#define TOTAL (INT64_C(1) << TOTAL_BITS)

typedef union {
    int64_t whole;
    double real;
} number;

typedef struct {
    number *shares; /* (K): of the components; in float64 their logarithms */
    number *now;    /* (K): the same of the channel at hand, in float64 not logarithms */
    number *mean;   /* (K): of the channel at hand */
    number *means, *scales, *coefficients; /* (C, K), (C, K), (C (C - 1) / 2, K) */
    number *first, *seen; /* (C): the first prediction, in half-bins, in integers 2^-10 of them; levels in half-bins */
    number *slopes;       /* (C (C - 1) / 2): of the first prediction, real ones */
    number *predicted;    /* (1 + copies, C): what means start from, as `first` */
    number *sum, *divisor;                 /* of the channel at hand */
    number *far, *far_slopes; /* as `first`, but real, and `slopes`: of the second kind of least squares, if there is one */
} mixture;

INLINE mixture mixture_of(const program *p, double *room) {
    const int64_t k = p->components, c = p->channels;
    number *at = (number *)(room + p->units);
    mixture m;
    m.shares = at, m.now = at + k, m.mean = at + 2 * k, m.means = at + 3 * k;
    m.scales = m.means + c * k, m.coefficients = m.scales + c * k;
    m.first = m.coefficients + c * (c - 1) / 2 * k, m.seen = m.first + c, m.slopes = m.seen + c;
    m.sum = m.slopes + c * (c - 1) / 2, m.divisor = m.sum + 1, m.predicted = m.divisor + 1;
    m.far = m.predicted + (1 + p->copies) * c, m.far_slopes = m.far + c;
    return m;
}

/* What component k's means start from, (C). */
INLINE const number *start_of(const program *p, const mixture *m, int64_t k) {
    const int64_t plain = p->components - p->copies;
    return m->predicted + (k < plain ? 0 : k - plain + 1) * p->channels;
}

/* Remember what residuals behind the second kind of least squares will be taken from. */
INLINE void keep_far(const program *p, const float *predictions, const mixture *m) {
    if (p->predictions <= PREDICTIONS) return;
    const int64_t pairs = p->channels * (p->channels - 1) / 2;
    const float *slopes = predictions + p->predictions * p->channels + pairs;
    for (int64_t c = 0; c < p->channels; c++) m->far[c].real = predictions[PREDICTIONS * p->channels + c];
    for (int64_t i = 0; i < pairs; i++) m->far_slopes[i].real = slopes[i];
}

INLINE double between(double x, double low, double high) { return x < low ? low : x > high ? high : x; } /* keeps NaN */

/* ----------------------------------------------------------------------------------------------------------- integers */

/* 2^32 σ(z / 2^20), on the line between two entries of the table. */
INLINE int64_t sigmoid_of(const int64_t *table, int64_t z) {
    const int bits = ARGUMENT_BITS - STEP_BITS;
    z += EDGE;
    z = z < 0 ? 0 : z > 2 * EDGE - 1 ? 2 * EDGE - 1 : z;
    const int64_t *low = table + (z >> bits);
    return low[0] + ((low[1] - low[0]) * (z & ((1 << bits) - 1)) >> bits);
}

INLINE int64_t cdf_of(const program *p, const mixture *m, int64_t channel, int64_t k, int64_t w) {
    const int64_t z = (w * (1 << LENGTH_BITS) - m->mean[k].whole) * m->scales[channel * p->components + k].whole;
    return sigmoid_of(p->sigmoids, z >> (LENGTH_BITS + VALUE_BITS - 1 - SHARPEST_LOG2 - ARGUMENT_BITS));
}

/* The predictions of each channel, mixed by weights that the network chooses. They lie on the grid already. */
INLINE void mix_whole(const program *p, const double *choices, const float *predictions, const mixture *m) {
    const int64_t farthest = FARTHEST * (p->levels - 1) * (1 << LENGTH_BITS);
    for (int64_t c = 0; c < p->channels; c++) {
        const int64_t first = p->predictions ? (int64_t)((double)predictions[c] * (1 << LENGTH_BITS)) : 0;
        int64_t sum = 0;
        for (int64_t i = 1; i < p->predictions; i++) {
            const double argument = __builtin_rint(choices[(i - 1) * p->channels + c] * (1 << ARGUMENT_BITS));
            const int64_t share = sigmoid_of(p->sigmoids, (int64_t)between(argument, -(double)EDGE, (double)EDGE));
            const int64_t other = (int64_t)((double)predictions[i * p->channels + c] * (1 << LENGTH_BITS));
            sum += ((4 * share - 2 * ONE) >> CHOICE_BITS) * (other - first);
        }
        m->first[c].whole = first;
        const int64_t mixed = first + (sum >> (VALUE_BITS - CHOICE_BITS));
        m->predicted[c].whole = mixed < -farthest ? -farthest : mixed > farthest ? farthest : mixed;
    }
    for (int64_t i = 0; i < p->copies * p->channels; i++)
        m->predicted[p->channels + i].whole =
            (int64_t)__builtin_rint((double)predictions[COPIED * p->channels + i]) * (1 << LENGTH_BITS);
}

INLINE void split_whole(const program *p, const double *x, const float *predictions, const mixture *m) {
    const int64_t k = p->components, all = p->channels * k, pairs = p->channels * (p->channels - 1) / 2 * k;
    const double unit = p->unit * (1 << LENGTH_BITS), bound = (double)((int64_t)FLATTEST << ARGUMENT_BITS);
    const int64_t plain = k - p->copies;
    int64_t most = -LARGEST_LOGIT;
    for (int64_t i = 0; i < k; i++) {
        const double rounded = __builtin_rint(x[i] * (1 << LOGIT_BITS));
        m->shares[i].whole = (int64_t)between(rounded, -LARGEST_LOGIT, LARGEST_LOGIT);
        most = m->shares[i].whole > most ? m->shares[i].whole : most;
    }
    for (int64_t i = 0; i < k; i++) {
        const int64_t below = most - m->shares[i].whole, last = p->exponentials_count - 1;
        m->shares[i].whole = p->exponentials[below < last ? below : last] >> (WEIGHT_BITS - SHARE_BITS);
    }
    x += k;
    for (int64_t i = 0; i < all; i++)
        m->means[i].whole = i % k < plain ? (int64_t)between(__builtin_rint(*x++ * unit), -0x1p48, 0x1p48) : 0;
    for (int64_t i = 0; i < all; i++) {
        const double argument = __builtin_rint(x[i] * (1 << ARGUMENT_BITS)) - p->shift * (1 << ARGUMENT_BITS);
        m->scales[i].whole = sigmoid_of(p->sigmoids, (int64_t)between(argument, -bound, bound)) >> 1;
    }
    x += all;
    for (int64_t i = 0; i < pairs; i++) {
        const double argument = between(__builtin_rint(x[i] * (2 << ARGUMENT_BITS)), -(double)EDGE, (double)EDGE);
        m->coefficients[i].whole = 2 * sigmoid_of(p->sigmoids, (int64_t)argument) - ONE;
    }
    for (int64_t i = 0; i < p->channels * (p->channels - 1) / 2; i++) {
        const double slope = p->predictions ? predictions[p->predictions * p->channels + i] : 0;
        m->slopes[i].real = slope;
        for (int64_t j = 0; j < k; j++) m->coefficients[i * k + j].whole += (int64_t)(slope * (double)ONE);
    }
    mix_whole(p, x + pairs, predictions, m);
    keep_far(p, predictions, m);
}

/* Make the channel ready, once the ones before it are known. */
INLINE void begin_whole(const program *p, const mixture *m, int64_t channel) {
    const int64_t n = p->components, farthest = FARTHEST * (p->levels - 1) * (1 << LENGTH_BITS);
    const int64_t bits = p->predictions ? LENGTH_BITS : 0, first = channel * (channel - 1) / 2;
    int64_t total = 0;
    for (int64_t k = 0; k < n; k++) {
        const number *start = start_of(p, m, k);
        int64_t mean = m->means[channel * n + k].whole + start[channel].whole, lean = 0;
        for (int64_t j = 0; j < channel; j++) {
            const int64_t left = m->seen[j].whole * ((int64_t)1 << bits) - start[j].whole;
            lean += m->coefficients[(first + j) * n + k].whole * left;
        }
        mean += lean >> (VALUE_BITS - LENGTH_BITS + bits);
        m->mean[k].whole = mean < -farthest ? -farthest : mean > farthest ? farthest : mean;
        total += m->shares[k].whole;
    }
    total *= ONE;
    m->divisor->whole = (total >> SCALED_BITS) + 1;
    m->sum->whole = total / m->divisor->whole;
}

/* C: the frequencies of all levels below v, 0 < v < levels. */
INLINE int64_t below_whole(const program *p, const mixture *m, int64_t channel, int64_t v) {
    int64_t sum = 0;
    for (int64_t k = 0; k < p->components; k++)
        sum += m->shares[k].whole * cdf_of(p, m, channel, k, 2 * v - p->levels);
    const uint64_t scaled = (uint64_t)sum / (uint64_t)m->divisor->whole;
    return v + (int64_t)(scaled * (uint64_t)(TOTAL - p->levels) / (uint64_t)m->sum->whole);
}

/* A level near the middle of a prepared channel's largest component, and about how many lie from there to its quartile. */
INLINE int64_t likely_whole(const program *p, const mixture *m, int64_t channel, int64_t *step) {
    int64_t best = 0;
    for (int64_t k = 1; k < p->components; k++) best = m->shares[k].whole > m->shares[best].whole ? k : best;
    *step = 1 + (ONE >> 2) / (SHARPEST * (m->scales[channel * p->components + best].whole | 1));
    return (m->mean[best].whole + (p->levels << LENGTH_BITS)) >> (LENGTH_BITS + 1);
}

/* The components' shares, once the channel's level is known. */
INLINE void take_whole(const program *p, const mixture *m, int64_t channel, int64_t value) {
    const int64_t n = p->components, w = 2 * value - (p->levels - 1);
    int64_t most = 0;
    m->seen[channel].whole = w;
    for (int64_t k = 0; k < n; k++) {
        const int64_t above = value == p->levels - 1 ? ONE : cdf_of(p, m, channel, k, w + 1);
        const int64_t mass = above - (value ? cdf_of(p, m, channel, k, w - 1) : 0);
        m->shares[k].whole *= mass < 1 ? 1 : mass;
        most = m->shares[k].whole > most ? m->shares[k].whole : most;
    }
    const int64_t divisor = (most >> SHARE_BITS) + 1;
    for (int64_t k = 0; k < n; k++) m->shares[k].whole = (int64_t)((uint64_t)m->shares[k].whole / (uint64_t)divisor);
}

/* ------------------------------------------------------------------------------------------------------------- float64 */

INLINE double logistic(double z) { return 1.0 / (1.0 + exp(-z)); }

INLINE double log_logistic(double z) { return z < 0 ? z - log1p(exp(z)) : -log1p(exp(-z)); }

INLINE void mix_real(const program *p, const double *choices, const float *predictions, const mixture *m) {
    const double farthest = FARTHEST * (double)(p->levels - 1);
    for (int64_t c = 0; c < p->channels; c++) {
        const double first = p->predictions ? predictions[c] : 0;
        double sum = 0;
        for (int64_t i = 1; i < p->predictions; i++)
            sum += 2 * tanh(choices[(i - 1) * p->channels + c] / 2) * (predictions[i * p->channels + c] - first);
        m->first[c].real = first, m->predicted[c].real = between(first + sum, -farthest, farthest);
    }
    for (int64_t i = 0; i < p->copies * p->channels; i++)
        m->predicted[p->channels + i].real = predictions[COPIED * p->channels + i];
}

INLINE void split_real(const program *p, const double *x, const float *predictions, const mixture *m) {
    const int64_t k = p->components, all = p->channels * k, pairs = p->channels * (p->channels - 1) / 2 * k;
    for (int64_t i = 0; i < k; i++) m->shares[i].real = between(x[i], -MIXTURE_LARGEST, MIXTURE_LARGEST);
    x += k;
    for (int64_t i = 0; i < all; i++) m->means[i].real = i % k < k - p->copies ? *x++ * p->unit : 0;
    for (int64_t i = 0; i < all; i++)
        m->scales[i].real = SHARPEST * logistic(between(x[i] - p->shift, -FLATTEST, FLATTEST));
    x += all;
    for (int64_t i = 0; i < pairs; i++) {
        const double slope = p->predictions ? predictions[p->predictions * p->channels + i / k] : 0;
        m->slopes[i / k].real = slope;
        m->coefficients[i].real = tanh(x[i]) + slope;
    }
    mix_real(p, x + pairs, predictions, m);
    keep_far(p, predictions, m);
}

INLINE void begin_real(const program *p, const mixture *m, int64_t channel) {
    const int64_t n = p->components, first = channel * (channel - 1) / 2;
    const double farthest = FARTHEST * (double)(p->levels - 1);
    double most = m->shares[0].real, sum = 0;
    for (int64_t k = 1; k < n; k++) most = m->shares[k].real > most ? m->shares[k].real : most;
    for (int64_t k = 0; k < n; k++) {
        const number *start = start_of(p, m, k);
        double mean = m->means[channel * n + k].real + start[channel].real;
        for (int64_t j = 0; j < channel; j++)
            mean += m->coefficients[(first + j) * n + k].real * (m->seen[j].real - start[j].real);
        m->mean[k].real = between(mean, -farthest, farthest);
        sum += m->now[k].real = exp(m->shares[k].real - most);
    }
    for (int64_t k = 0; k < n; k++) m->now[k].real /= sum;
}

/* The probability of all levels below v, 0 < v < levels. */
INLINE double below_real(const program *p, const mixture *m, int64_t channel, int64_t v) {
    const number *scale = m->scales + channel * p->components;
    double sum = 0;
    for (int64_t k = 0; k < p->components; k++)
        sum += m->now[k].real * logistic(((double)(2 * v - p->levels) - m->mean[k].real) * scale[k].real);
    return sum;
}

INLINE void take_real(const program *p, const mixture *m, int64_t channel, int64_t value) {
    const int64_t n = p->components;
    const double w = (double)(2 * value - (p->levels - 1));
    m->seen[channel].real = w;
    for (int64_t k = 0; k < n; k++) {
        const double inverse = m->scales[channel * n + k].real, mean = m->mean[k].real;
        double mass = 0;
        if (value < p->levels - 1) mass += log_logistic((w + 1 - mean) * inverse);
        if (value) mass += log_logistic((mean - w + 1) * inverse);
        if (value && value < p->levels - 1) mass += log(-expm1(-2 * inverse));
        m->shares[k].real += mass;
    }
}

/* What a kind of least squares leaves of a channel's value in half-bins, leaning on the channels before: without rounding. */
INLINE double residual_of(const program *p, double *room, int64_t far, int64_t channel, int64_t value) {
    const mixture m = mixture_of(p, room);
    const number *slopes = (far ? m.far_slopes : m.slopes) + channel * (channel - 1) / 2;
    double left = (double)(2 * value - (p->levels - 1));
    for (int64_t j = -1; j < channel; j++) {
        const int64_t of = j < 0 ? channel : j;
        const double first = far        ? m.far[of].real
                             : p->exact ? (double)m.first[of].whole / (1 << LENGTH_BITS)
                                        : m.first[of].real;
        if (j < 0)
            left -= first;
        else
            left -= slopes[j].real * ((p->exact ? (double)m.seen[j].whole : m.seen[j].real) - first);
    }
    return left;
}

#endif
