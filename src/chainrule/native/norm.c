/* Layer norm over the channels of a pixel, with a ReLU after it if asked for, and its way back. */

#include "numbers.h"

#include <math.h>

#define WIDTHS 64 /* vectors that a pixel may have: 1024 channels */
#define PIXELS 4 /* that are worked on together: while one waits for its sum, the others go on */

typedef struct {
    int64_t pixels, channels, brain, positive; /* brain: bfloat16; positive: a ReLU follows */
    double eps;
    const void *x;
    const float *gain, *bias;
    void *y;           /* the output */
    float *moments;    /* (pixels, 2): the mean, and one over the standard deviation */
    const void *slope; /* backwards: the gradient of the output */
    const void *plus;  /* what is added to the input's gradient, or none */
    void *x_slope;     /* the gradients of the input, */
    float *sums;       /* and of gain and bias, (shares, 2, channels) */
} norm;

typedef struct {
    int64_t whole, rest; /* vectors of sixteen channels, and the channels beyond them */
    floats gain[WIDTHS], bias[WIDTHS], there; /* there: 1 for the channels of the last vector, then 0 */
    floats gain_slope[WIDTHS], bias_slope[WIDTHS];
} affine;

INLINE void read_affine(const norm *n, affine *a) {
    a->whole = n->channels / FLOATS, a->rest = n->channels % FLOATS;
    for (int64_t j = 0; j < FLOATS; j++) a->there[j] = j < a->rest;
    EVERY_CHANNEL(a->whole, a->rest, {
        a->gain[k] = load(n->gain, k * FLOATS, SINGLE, lanes);
        a->bias[k] = load(n->bias, k * FLOATS, SINGLE, lanes);
        a->gain_slope[k] = a->bias_slope[k] = (floats){0};
    });
}

INLINE void norm_pixels(int kind, int count, const norm *n, const affine *a, int64_t pixel) {
    floats row[WIDTHS][PIXELS], sum[PIXELS] = {0}, squares[PIXELS] = {0}, zero = {0};
    float mean[PIXELS], inverse[PIXELS];
    const float part = 1.0f / (float)n->channels;
    const int64_t first = pixel * n->channels;
    EVERY_CHANNEL(a->whole, a->rest, UNROLL for (int p = 0; p < count; p++) {
        row[k][p] = load(n->x, first + p * n->channels + k * FLOATS, kind, lanes);
        sum[p] += row[k][p];
    });
    UNROLL for (int p = 0; p < count; p++) mean[p] = total(sum[p]) * part;
    EVERY_CHANNEL(a->whole, a->rest, UNROLL for (int p = 0; p < count; p++) {
        row[k][p] -= mean[p];
        if (lanes < FLOATS) row[k][p] *= a->there;
        squares[p] += row[k][p] * row[k][p];
    });
    UNROLL for (int p = 0; p < count; p++) {
        inverse[p] = 1.0f / sqrtf(total(squares[p]) * part + (float)n->eps);
        n->moments[2 * (pixel + p)] = mean[p];
        n->moments[2 * (pixel + p) + 1] = inverse[p];
    }
    EVERY_CHANNEL(a->whole, a->rest, UNROLL for (int p = 0; p < count; p++) {
        floats y = row[k][p] * inverse[p] * a->gain[k] + a->bias[k];
        if (n->positive) y = where(y < zero, zero, y);
        store(n->y, first + p * n->channels + k * FLOATS, kind, lanes, y);
    });
}

INLINE void norm_slopes(int kind, int count, const norm *n, affine *a, int64_t pixel) {
    floats row[WIDTHS][PIXELS], pull[WIDTHS][PIXELS], sum[PIXELS] = {0}, along[PIXELS] = {0}, zero = {0};
    float mean[PIXELS], inverse[PIXELS], shift[PIXELS], turn[PIXELS];
    const float part = 1.0f / (float)n->channels;
    const int64_t first = pixel * n->channels;
    UNROLL for (int p = 0; p < count; p++)
        mean[p] = n->moments[2 * (pixel + p)], inverse[p] = n->moments[2 * (pixel + p) + 1];
    EVERY_CHANNEL(a->whole, a->rest, {
        const floats gain = a->gain[k], bias = a->bias[k];
        floats gain_slope = zero, bias_slope = zero;
        UNROLL for (int p = 0; p < count; p++) {
            const int64_t at = first + p * n->channels + k * FLOATS;
            floats x = (load(n->x, at, kind, lanes) - mean[p]) * inverse[p];
            if (lanes < FLOATS) x *= a->there;
            floats slope = load(n->slope, at, kind, lanes);
            if (n->positive) slope = where(x * gain + bias > zero, slope, zero);
            gain_slope += slope * x;
            bias_slope += slope;
            slope *= gain;
            sum[p] += slope;
            along[p] += slope * x;
            row[k][p] = x;
            pull[k][p] = slope;
        }
        a->gain_slope[k] += gain_slope;
        a->bias_slope[k] += bias_slope;
    });
    UNROLL for (int p = 0; p < count; p++) shift[p] = total(sum[p]) * part, turn[p] = total(along[p]) * part;
    EVERY_CHANNEL(a->whole, a->rest, UNROLL for (int p = 0; p < count; p++) {
        const int64_t at = first + p * n->channels + k * FLOATS;
        floats slope = (pull[k][p] - shift[p] - row[k][p] * turn[p]) * inverse[p];
        if (n->plus) slope += load(n->plus, at, kind, lanes);
        store(n->x_slope, at, kind, lanes, slope);
    });
}

INLINE void norm_range(int kind, const norm *n, int64_t first, int64_t last, int64_t share) {
    affine a;
    read_affine(n, &a);
    int64_t pixel = first;
    if (!n->slope) {
        for (; pixel + PIXELS <= last; pixel += PIXELS) norm_pixels(kind, PIXELS, n, &a, pixel);
        for (; pixel < last; pixel++) norm_pixels(kind, 1, n, &a, pixel);
        return;
    }
    for (; pixel + PIXELS <= last; pixel += PIXELS) norm_slopes(kind, PIXELS, n, &a, pixel);
    for (; pixel < last; pixel++) norm_slopes(kind, 1, n, &a, pixel);
    EVERY_CHANNEL(a.whole, a.rest, {
        store(n->sums, 2 * share * n->channels + k * FLOATS, SINGLE, lanes, a.gain_slope[k]);
        store(n->sums, (2 * share + 1) * n->channels + k * FLOATS, SINGLE, lanes, a.bias_slope[k]);
    });
}

FOR_EVERY_PROCESSOR(norm_share, (const norm *n, int64_t first, int64_t last, int64_t share), (n, first, last, share)) {
    (void)tile;
    BY_KIND(n->brain, norm_range, n, first, last, share);
}

static void norms(void *argument, int64_t share, int64_t shares) {
    const norm *n = argument;
    norm_share(n, n->pixels * share / shares, n->pixels * (share + 1) / shares, share);
}

/* y = norm(x), and its moments. */
void chainrule_norm(int64_t shares, int64_t pixels, int64_t channels, int64_t brain, int64_t positive, double eps,
                    const void *x, const float *gain, const float *bias, void *y, float *moments) {
    norm n = {pixels, channels, brain, positive, eps, x, gain, bias, y, moments, 0, 0, 0, 0};
    shared_out(norms, &n, shares);
}

/* The gradients of x, plus `plus`, and of gain and bias: (shares, 2, channels), zeros before, to be summed over shares. */
void chainrule_norm_back(int64_t shares, int64_t pixels, int64_t channels, int64_t brain, int64_t positive,
                         const void *x, const float *gain, const float *bias, float *moments, const void *slope,
                         const void *plus, void *x_slope, float *sums) {
    norm n = {pixels, channels, brain, positive, 0, x, gain, bias, 0, moments, slope, plus, x_slope, sums};
    shared_out(norms, &n, shares);
}
