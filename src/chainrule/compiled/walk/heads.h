/* From a pixel's sums to the distributions of its channels, one after the other, and from a distribution to a value.

   A head is begun at a pixel, and for each channel in turn prepared, asked, and told the value. */

#ifndef CHAINRULE_HEADS_H
#define CHAINRULE_HEADS_H

#include "walk/logistic.h"
#include "walk/program.h"
#include "walk/tiles.h"

#include <math.h>
#include <string.h>

/* The room of logits and MADEs: sums, a MADE's hidden units' final values, logits, frequencies or probabilities. */
INLINE double *logits_room(const program *p, double *room) { return room + 2 * p->units; }
INLINE int64_t *frequencies_room(const program *p, double *room) { return (int64_t *)(room + 2 * p->units + p->levels); }
INLINE double *pmf_room(const program *p, double *room) { return room + 2 * p->units + p->levels; }

/* Logits of one channel of one image. */
INLINE void logits_of(const int tile, const program *p, double *room, int64_t channel, double *logits) {
    if (p->head != MADE) {
        memcpy(logits, room + channel * p->levels, p->levels * sizeof(double));
        return;
    }
    double *hidden = room + p->units;
    int64_t end = p->ends[channel], exact = p->exact;
    double scale = p->out_scale, low = p->out_low, high = p->out_high;
    for (int64_t i = channel ? p->ends[channel - 1] : 0; i < end; i++) {
        double x = room[i] < 0 ? 0 : room[i];
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

/* Integers that sum to TOTAL: see fixedpoint/exact_softmax.py. */
INLINE void frequencies_of(const program *p, const double *logits, int64_t *frequencies) {
    int64_t levels = p->levels, first = 0, sum = 0, given = 0, last = p->exponentials_count - 1;
    for (int64_t v = 0; v < levels; v++) {
        double x = __builtin_rint(logits[v] * (1 << LOGIT_BITS));
        x = x < -LARGEST_LOGIT ? -LARGEST_LOGIT : x;
        frequencies[v] = (int64_t)(x > LARGEST_LOGIT ? LARGEST_LOGIT : x);
        if (frequencies[v] > frequencies[first]) first = v;
    }
    int64_t most = frequencies[first];
    for (int64_t v = 0; v < levels; v++) {
        int64_t below = most - frequencies[v];
        sum += frequencies[v] = p->exponentials[below < last ? below : last];
    }
    for (int64_t v = 0; v < levels; v++) given += frequencies[v] = frequencies[v] * (TOTAL - levels) / sum + 1;
    frequencies[first] += TOTAL - given;
}

INLINE void softmax_of(const program *p, const double *logits, double *pmf) {
    double most = logits[0], sum = 0;
    for (int64_t v = 1; v < p->levels; v++) most = logits[v] > most ? logits[v] : most;
    for (int64_t v = 0; v < p->levels; v++) sum += pmf[v] = exp(logits[v] - most);
    for (int64_t v = 0; v < p->levels; v++) pmf[v] /= sum;
}

/* ------------------------------------------------------------------------------------------------ what every head does */

/* At a pixel, whose sums lie in the room already; `predictions` are its own, if there are any. */
INLINE void begin_head(const program *p, double *room, const float *predictions) {
    if (p->head != MIXTURE) return;
    const mixture m = mixture_of(p, room);
    if (p->exact)
        split_whole(p, room, predictions, &m);
    else
        split_real(p, room, predictions, &m);
}

/* Make a channel ready to be asked. */
INLINE void prepare(const int tile, const program *p, double *room, int64_t channel) {
    if (p->head == MIXTURE) {
        const mixture m = mixture_of(p, room);
        if (p->exact)
            begin_whole(p, &m, channel);
        else
            begin_real(p, &m, channel);
        return;
    }
    double *logits = logits_room(p, room);
    logits_of(tile, p, room, channel, logits);
    if (p->exact)
        frequencies_of(p, logits, frequencies_room(p, room));
    else
        softmax_of(p, logits, pmf_room(p, room));
}

/* Whether the channel's distribution is finite; that of an exact model is. */
INLINE int is_finite(const program *p, double *room, int64_t channel) {
    if (p->exact) return 1;
    double all = 0;
    if (p->head == MIXTURE) {
        const mixture m = mixture_of(p, room);
        for (int64_t k = 0; k < p->components; k++)
            all += m.now[k].real + m.mean[k].real + m.scales[channel * p->components + k].real;
    } else {
        const double *logits = logits_room(p, room);
        for (int64_t v = 0; v < p->levels; v++) all += logits[v] < INFINITY ? 0 : NAN;
        all += pmf_room(p, room)[0]; /* one number that is none makes all of them none */
    }
    return all - all == 0;
}

/* Tell the head the value of a channel. */
INLINE void tell(const program *p, double *room, int64_t channel, int64_t value) {
    if (p->head == MIXTURE) {
        const mixture m = mixture_of(p, room);
        if (p->exact)
            take_whole(p, &m, channel, value);
        else
            take_real(p, &m, channel, value);
    } else if (p->head == MADE && channel + 1 < p->channels) {
        const double *add = p->table + (channel * p->levels + value) * p->units;
        for (int64_t i = 0, units = p->units; i < units; i++) room[i] += add[i];
    }
}

/* What lies below a level of the prepared channel of an exact model, out of TOTAL. */
INLINE int64_t below(const program *p, double *room, int64_t channel, int64_t v) {
    if (v <= 0) return 0;
    if (v >= p->levels) return TOTAL;
    if (p->head == MIXTURE) {
        const mixture m = mixture_of(p, room);
        return below_whole(p, &m, channel, v);
    }
    const int64_t *frequencies = frequencies_room(p, room);
    int64_t sum = 0;
    for (int64_t k = 0; k < v; k++) sum += frequencies[k];
    return sum;
}

/* Where to look first for a level of an exact mixture, and how far from there next. */
INLINE int64_t likely(const program *p, double *room, int64_t channel, int64_t *step) {
    const mixture m = mixture_of(p, room);
    return likely_whole(p, &m, channel, step);
}

/* The frequencies, or the probabilities, of all levels. */
INLINE void frequencies_at(const program *p, double *room, int64_t channel, int32_t *to) {
    if (p->head == MIXTURE) {
        for (int64_t v = 0, before = 0, up; v < p->levels; v++, before = up) {
            up = below(p, room, channel, v + 1);
            to[v] = (int32_t)(up - before);
        }
        return;
    }
    for (int64_t v = 0; v < p->levels; v++) to[v] = (int32_t)frequencies_room(p, room)[v];
}

INLINE void probabilities_at(const program *p, double *room, int64_t channel, double *pmf) {
    if (!p->exact && p->head != MIXTURE) {
        memcpy(pmf, pmf_room(p, room), p->levels * sizeof(double));
    } else if (!p->exact) {
        const mixture m = mixture_of(p, room);
        double before = 0;
        for (int64_t v = 0; v < p->levels; v++) {
            const double up = v + 1 < p->levels ? below_real(p, &m, channel, v + 1) : 1;
            pmf[v] = up - before < 0 ? 0 : up - before; /* keeps NaN */
            before = up;
        }
    } else if (p->head == MIXTURE) {
        for (int64_t v = 0, before = 0, up; v < p->levels; v++, before = up) {
            up = below(p, room, channel, v + 1);
            pmf[v] = (double)(up - before) / TOTAL;
        }
    } else {
        for (int64_t v = 0; v < p->levels; v++) pmf[v] = (double)frequencies_room(p, room)[v] / TOTAL;
    }
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

/* The same of a prepared channel; a mixture is asked at eight points of 256. */
INLINE int64_t drawn(const program *p, double *room, int64_t channel, double u) {
    int64_t low = 0, high = p->levels - 1;
    if (p->head == MIXTURE) {
        const mixture m = mixture_of(p, room);
        while (low < high) { /* the first v up to whose end there is more than u */
            const int64_t middle = (low + high) / 2;
            const double cdf = p->exact ? (double)below_whole(p, &m, channel, middle + 1) / TOTAL
                                        : below_real(p, &m, channel, middle + 1);
            if (cdf > u)
                high = middle;
            else
                low = middle + 1;
        }
        return low;
    }
    if (!p->exact) return inverse_cdf(pmf_room(p, room), p->levels, u);
    const int64_t *frequencies = frequencies_room(p, room);
    const double bound = u * TOTAL;
    for (int64_t sum = 0; low < high; low++)
        if ((double)(sum += frequencies[low]) > bound) break;
    return low;
}

#endif
