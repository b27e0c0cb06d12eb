/* What the walk computes, written so that it can be checked by reading: one number after the other, sums in float64.
   Tests compare the fast code with it. Nothing else calls it. */

#include "constants.h"

#include <math.h>
#include <stdint.h>

/* The masked convolution at one pixel of an image (height, width, channels): kernels of side 2 · radius + 1, of whose
   last row the first `taps` count; weight (outputs, inputs), inputs in raster order, zeros beyond the image. */
void chainrule_reference_product(int64_t height, int64_t width, int64_t channels, int64_t radius, int64_t taps,
                                 int64_t outputs, int64_t row, int64_t column, const float *image, const float *weight,
                                 const float *bias, double *to) {
    for (int64_t o = 0; o < outputs; o++) {
        to[o] = bias[o];
        for (int64_t i = -radius; i <= 0; i++)
            for (int64_t j = -radius; j <= (i < 0 ? radius : taps - 1 - radius); j++)
                for (int64_t c = 0; c < channels; c++, weight++) {
                    const int64_t y = row + i, x = column + j;
                    if (y >= 0 && y < height && x >= 0 && x < width)
                        to[o] += (double)*weight * image[(y * width + x) * channels + c];
                }
    }
}

/* A float put on a grid: a whole number of its units, halves to even, between two ends. */
static float whole(float x, double scale, double low, double high) {
    x = rintf(x * (float)scale);
    return x < (float)low ? (float)low : x > (float)high ? (float)high : x;
}

/* relu(x), put on a grid unless `scale` is zero. */
void chainrule_reference_activate(int64_t n, double scale, double low, double high, const float *x, float *y) {
    for (int64_t i = 0; i < n; i++) {
        y[i] = x[i] < 0 ? 0 : x[i];
        if (scale != 0) y[i] = whole(y[i], scale, low, high);
    }
}

/* Layer norm of x, put on a grid first unless `scale` is zero; `constant` is n² · eps in the grid's units. The product is
   rounded before the bias is added: `volatile` keeps compilers from fusing the two. */
void chainrule_reference_norm(int64_t n, double scale, double low, double high, double constant, const float *x,
                              const float *gain, const float *bias, float *y) {
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < n; i++) {
        y[i] = scale != 0 ? whole(x[i], scale, low, high) : x[i];
        sum += y[i];
        squares += (double)y[i] * y[i];
    }
    const double n_times_deviation = sqrt(squares * (double)n - sum * sum + constant);
    const float mean = (float)(sum * (1.0 / (double)n)), inverse = (float)(1.0 / n_times_deviation * (double)n);
    for (int64_t i = 0; i < n; i++) {
        volatile float scaled = (y[i] - mean) * inverse * gain[i];
        y[i] = scaled + bias[i];
    }
}

/* tanh(a) · σ(b) of a = x[0 … n - 1], b = x[n … 2n - 1]: in float64; or, if `most` is not 0, by the table of tanh at the
   multiples of 2^-11 from -most to most, with σ(b) = (1 + tanh(b / 2)) / 2 and one rounding. */
void chainrule_reference_open_gate(int64_t n, const float *table, int64_t most, const float *x, float *y) {
    for (int64_t i = 0; i < n; i++) {
        if (!most) {
            y[i] = (float)(tanh(x[i]) / (1 + exp(-(double)x[n + i])));
            continue;
        }
        const double a = fmin(fmax(rint((double)x[i] * 2048), (double)-most), (double)most);
        const double b = fmin(fmax(rint((double)x[n + i] * 1024), (double)-most), (double)most);
        y[i] = (float)((double)table[most + (int64_t)a] * (0.5 + 0.5 * (double)table[most + (int64_t)b]));
    }
}

static double units(double x, int bits, double most) { return fmin(fmax(rint(ldexp(x, bits)), -most), most); }

/* What one head of attention finds for the last of n positions: q (depth), k and v (n, depth), `scale` = 1 / sqrt(depth).
   In float64; or, if there is a table of exponentials, in whole numbers: fixedpoint/exact_attention.py. */
void chainrule_reference_attend(int64_t n, int64_t depth, double scale, const float *q, const float *k, const float *v,
                                const float *table, int64_t entries, float *to) {
    double most = -INFINITY, sum = 0, mixed[MOST_DEPTH] = {0}, scores[MOST_KEYS];
    for (int64_t j = 0; j < n; j++) {
        scores[j] = 0;
        for (int64_t i = 0; i < depth; i++)
            if (entries)
                scores[j] += units(q[i] * scale, QUERY_BITS, LARGEST_KEY) * units(k[j * depth + i], KEY_BITS, LARGEST_KEY);
            else
                scores[j] += q[i] * scale * k[j * depth + i];
        if (entries) scores[j] = rint(ldexp(scores[j], LOGIT_BITS - QUERY_BITS - KEY_BITS));
        most = fmax(most, scores[j]);
    }
    for (int64_t j = 0; j < n; j++) {
        const double weight = entries ? table[(int64_t)fmin(most - scores[j], (double)(entries - 1))] : exp(scores[j] - most);
        sum += weight;
        for (int64_t i = 0; i < depth; i++)
            mixed[i] += weight * (entries ? units(v[j * depth + i], ATTENDED_BITS, 2 * LARGEST_KEY) : v[j * depth + i]);
    }
    for (int64_t i = 0; i < depth; i++) to[i] = (float)ldexp(mixed[i] / sum, entries ? -ATTENDED_BITS : 0);
}

/* Softmax as integers that sum to 2^TOTAL_BITS: fixedpoint/exact_softmax.py. */
void chainrule_reference_frequencies(int64_t levels, const double *logits, const int64_t *table, int64_t entries,
                                     int64_t *to) {
    const int64_t all = INT64_C(1) << TOTAL_BITS;
    int64_t first = 0, sum = 0, given = 0;
    for (int64_t v = 0; v < levels; v++) {
        const double whole_logit = rint(logits[v] * (1 << LOGIT_BITS));
        to[v] = (int64_t)fmin(fmax(whole_logit, -LARGEST_LOGIT), LARGEST_LOGIT);
        if (to[v] > to[first]) first = v;
    }
    const int64_t most = to[first];
    for (int64_t v = 0; v < levels; v++) {
        const int64_t below = most - to[v];
        sum += to[v] = below < entries ? table[below] : 0;
    }
    for (int64_t v = 0; v < levels; v++) given += to[v] = 1 + to[v] * (all - levels) / sum;
    to[first] += all - given;
}

/* The first value whose cumulative probability is more than u; the last possible one if rounding leaves none. */
int64_t chainrule_reference_inverse_cdf(int64_t levels, const double *pmf, double u) {
    double sum = 0, cdf = 0;
    int64_t value = 0;
    for (int64_t v = 0; v < levels; v++) sum += pmf[v];
    for (int64_t v = 0; v < levels; v++) {
        if (pmf[v] > 0) value = v;
        cdf += pmf[v];
        if (cdf > u * sum) break;
    }
    return value;
}

/* The next symbol of a coder (state, words left): docs/format.md, section Payload. The coder's frequency of v is the
   number of q in 0 … 2^CODER_BITS - 1 that lie between two bounds. */
int64_t chainrule_reference_decode(int64_t levels, const int64_t *frequencies, const uint32_t *words, uint64_t *state,
                                   int64_t *left) {
    while (*state >> 32 == 0 && *left > 0) *state = *state << 32 | words[--*left];
    const uint64_t intervals = UINT64_C(1) << CODER_BITS, q = *state % intervals;
    uint64_t bound[2] = {0, 0}, sum = 0;
    int64_t v = -1;
    do {
        sum += (uint64_t)frequencies[++v];
        bound[0] = bound[1];
        bound[1] = v == levels - 1 ? intervals : (sum * (intervals - (uint64_t)levels) >> TOTAL_BITS) + (uint64_t)v + 1;
    } while (q >= bound[1]);
    *state = *state / intervals * (bound[1] - bound[0]) + (q - bound[0]);
    return v;
}
