/* Layer norm over the channels of a pixel, with a ReLU after it if asked for, and its way back. */

#include "training/norm.h"

#include "constants.h"
#include "numbers.h"
#include "threads.h"

#include <math.h>

#define WIDTHS (MOST_CHANNELS / FLOATS) /* vectors that a pixel may have */
#define PIXELS 4 /* that are worked on together: while one waits for its sum, the others go on */

typedef struct {
    int64_t whole, rest; /* vectors of sixteen channels, and the channels beyond them */
    floats gain[WIDTHS], bias[WIDTHS], there; /* there: 1 for the channels of the last vector, then 0 */
    floats gain_grad[WIDTHS], bias_grad[WIDTHS];
} affine;

INLINE void read_affine(const norm *n, affine *a) {
    a->whole = n->channels / FLOATS, a->rest = n->channels % FLOATS;
    for (int64_t j = 0; j < FLOATS; j++) a->there[j] = j < a->rest;
    EVERY_CHANNEL(a->whole, a->rest, {
        a->gain[k] = load(n->gain, k * FLOATS, FLOAT32, lanes);
        a->bias[k] = load(n->bias, k * FLOATS, FLOAT32, lanes);
        a->gain_grad[k] = a->bias_grad[k] = (floats){0};
    });
}

INLINE void norm_forwards(int kind, int count, const norm *n, const affine *a, int64_t pixel) {
    floats sum[PIXELS] = {0}, squares[PIXELS] = {0}, zero = {0};
    float mean[PIXELS], inverse[PIXELS];
    const float part = 1.0f / (float)n->channels;
    const int64_t first = pixel * n->channels;
    EVERY_CHANNEL(a->whole, a->rest, UNROLL for (int p = 0; p < count; p++) {
        sum[p] += load(n->x, first + p * n->channels + k * FLOATS, kind, lanes);
    });
    UNROLL for (int p = 0; p < count; p++) mean[p] = total(sum[p]) * part;
    EVERY_CHANNEL(a->whole, a->rest, UNROLL for (int p = 0; p < count; p++) {
        floats x = load(n->x, first + p * n->channels + k * FLOATS, kind, lanes) - mean[p];
        if (lanes < FLOATS) x *= a->there;
        squares[p] += x * x;
    });
    UNROLL for (int p = 0; p < count; p++) {
        inverse[p] = 1.0f / sqrtf(total(squares[p]) * part + (float)n->eps);
        n->moments[2 * (pixel + p)] = mean[p];
        n->moments[2 * (pixel + p) + 1] = inverse[p];
    }
    EVERY_CHANNEL(a->whole, a->rest, UNROLL for (int p = 0; p < count; p++) {
        const int64_t at = first + p * n->channels + k * FLOATS;
        floats y = (load(n->x, at, kind, lanes) - mean[p]) * inverse[p] * a->gain[k] + a->bias[k];
        if (n->relu) y = where(y < zero, zero, y);
        store(n->y, (pixel + p) * n->step + k * FLOATS, kind, lanes, y);
    });
}

INLINE void norm_backwards(int kind, int count, const norm *n, affine *a, int64_t pixel) {
    floats x_hat[WIDTHS][PIXELS], scaled[WIDTHS][PIXELS], sum[PIXELS] = {0}, along[PIXELS] = {0}, zero = {0};
    float mean[PIXELS], inverse[PIXELS], mean_grad[PIXELS], mean_along[PIXELS];
    const float part = 1.0f / (float)n->channels;
    const int64_t first = pixel * n->channels;
    UNROLL for (int p = 0; p < count; p++)
        mean[p] = n->moments[2 * (pixel + p)], inverse[p] = n->moments[2 * (pixel + p) + 1];
    EVERY_CHANNEL(a->whole, a->rest, {
        const floats gain = a->gain[k], bias = a->bias[k];
        floats gain_grad = zero, bias_grad = zero;
        UNROLL for (int p = 0; p < count; p++) {
            const int64_t at = first + p * n->channels + k * FLOATS;
            floats x = (load(n->x, at, kind, lanes) - mean[p]) * inverse[p];
            if (lanes < FLOATS) x *= a->there;
            floats grad = load(n->grad, (pixel + p) * n->step + k * FLOATS, kind, lanes);
            if (n->relu) grad = where(x * gain + bias > zero, grad, zero);
            gain_grad += grad * x;
            bias_grad += grad;
            grad *= gain;
            sum[p] += grad;
            along[p] += grad * x;
            x_hat[k][p] = x;
            scaled[k][p] = grad;
        }
        a->gain_grad[k] += gain_grad;
        a->bias_grad[k] += bias_grad;
    });
    UNROLL for (int p = 0; p < count; p++)
        mean_grad[p] = total(sum[p]) * part, mean_along[p] = total(along[p]) * part;
    EVERY_CHANNEL(a->whole, a->rest, UNROLL for (int p = 0; p < count; p++) {
        const int64_t at = first + p * n->channels + k * FLOATS;
        floats grad = (scaled[k][p] - mean_grad[p] - x_hat[k][p] * mean_along[p]) * inverse[p];
        if (n->plus) grad += load(n->plus, at, kind, lanes);
        store(n->x_grad, at, kind, lanes, grad);
    });
}

/* Where registers are narrower than `floats`, pixel by pixel: several at a time would only be more code. */
INLINE void norm_range(int kind, const int together, const norm *n, int64_t first, int64_t last, int64_t share) {
    affine a;
    read_affine(n, &a);
    int64_t pixel = first;
    if (!n->grad) {
        if (together > 1)
            for (; pixel + PIXELS <= last; pixel += PIXELS) norm_forwards(kind, PIXELS, n, &a, pixel);
        for (; pixel < last; pixel++) norm_forwards(kind, 1, n, &a, pixel);
        return;
    }
    if (together > 1)
        for (; pixel + PIXELS <= last; pixel += PIXELS) norm_backwards(kind, PIXELS, n, &a, pixel);
    for (; pixel < last; pixel++) norm_backwards(kind, 1, n, &a, pixel);
    EVERY_CHANNEL(a.whole, a.rest, {
        const int64_t gain = 2 * share * n->channels + k * FLOATS, bias = gain + n->channels;
        store(n->sums, gain, FLOAT32, lanes, load(n->sums, gain, FLOAT32, lanes) + a.gain_grad[k]);
        store(n->sums, bias, FLOAT32, lanes, load(n->sums, bias, FLOAT32, lanes) + a.bias_grad[k]);
    });
}

/* float32 in vectors as wide as a register that is narrower than `floats`. */
#define DEFINE_NARROW(WIDTH, LANES)                                                                                    \
    INLINE void forwards_##WIDTH(int count, const norm *n, int64_t pixel) {                                            \
        WIDTH sum[PIXELS] = {0}, squares[PIXELS] = {0}, zero = {0};                                                    \
        float mean[PIXELS], inverse[PIXELS];                                                                           \
        const int64_t channels = n->channels;                                                                          \
        const float part = 1.0f / (float)channels, *x = (const float *)n->x + pixel * channels;                        \
        float *y = (float *)n->y + pixel * n->step;                                                                    \
        for (int64_t c = 0; c < channels; c += (LANES))                                                                \
            UNROLL for (int p = 0; p < count; p++) sum[p] += *(const WIDTH *)(x + p * channels + c);                   \
        UNROLL for (int p = 0; p < count; p++) mean[p] = total_##WIDTH(sum[p]) * part;                                 \
        for (int64_t c = 0; c < channels; c += (LANES))                                                                \
            UNROLL for (int p = 0; p < count; p++) {                                                                   \
                const WIDTH v = *(const WIDTH *)(x + p * channels + c) - mean[p];                                      \
                squares[p] += v * v;                                                                                   \
            }                                                                                                          \
        UNROLL for (int p = 0; p < count; p++) {                                                                       \
            inverse[p] = 1.0f / sqrtf(total_##WIDTH(squares[p]) * part + (float)n->eps);                               \
            n->moments[2 * (pixel + p)] = mean[p];                                                                     \
            n->moments[2 * (pixel + p) + 1] = inverse[p];                                                              \
        }                                                                                                              \
        for (int64_t c = 0; c < channels; c += (LANES)) {                                                              \
            const WIDTH gain = *(const WIDTH *)(n->gain + c), bias = *(const WIDTH *)(n->bias + c);                    \
            UNROLL for (int p = 0; p < count; p++) {                                                                   \
                WIDTH v = (*(const WIDTH *)(x + p * channels + c) - mean[p]) * inverse[p] * gain + bias;               \
                if (n->relu) v = (WIDTH)((__typeof__(v < zero))v & ~(v < zero));                                       \
                *(WIDTH *)(y + p * n->step + c) = v;                                                                   \
            }                                                                                                          \
        }                                                                                                              \
    }                                                                                                                  \
    INLINE void backwards_##WIDTH(int count, const norm *n, int64_t pixel, WIDTH *gain_grad, WIDTH *bias_grad) {       \
        WIDTH x_hat[WIDTHS * FLOATS / (LANES)][PIXELS], scaled[WIDTHS * FLOATS / (LANES)][PIXELS];                     \
        WIDTH sum[PIXELS] = {0}, along[PIXELS] = {0}, zero = {0};                                                      \
        float mean[PIXELS], inverse[PIXELS], mean_grad[PIXELS], mean_along[PIXELS];                                    \
        const int64_t channels = n->channels;                                                                          \
        const float part = 1.0f / (float)channels, *x = (const float *)n->x + pixel * channels;                        \
        const float *y_grad = (const float *)n->grad + pixel * n->step;                                                \
        const float *plus = n->plus ? (const float *)n->plus + pixel * channels : 0;                                   \
        float *x_grad = (float *)n->x_grad + pixel * channels;                                                         \
        UNROLL for (int p = 0; p < count; p++)                                                                         \
            mean[p] = n->moments[2 * (pixel + p)], inverse[p] = n->moments[2 * (pixel + p) + 1];                       \
        for (int64_t c = 0, k = 0; c < channels; c += (LANES), k++) {                                                  \
            const WIDTH gain = *(const WIDTH *)(n->gain + c), bias = *(const WIDTH *)(n->bias + c);                    \
            WIDTH gains = zero, biases = zero;                                                                         \
            UNROLL for (int p = 0; p < count; p++) {                                                                   \
                const WIDTH v = (*(const WIDTH *)(x + p * channels + c) - mean[p]) * inverse[p];                       \
                WIDTH grad = *(const WIDTH *)(y_grad + p * n->step + c);                                               \
                if (n->relu) grad = (WIDTH)((__typeof__(v < zero))grad & (v * gain + bias > zero));                    \
                gains += grad * v;                                                                                     \
                biases += grad;                                                                                        \
                grad *= gain;                                                                                          \
                sum[p] += grad;                                                                                        \
                along[p] += grad * v;                                                                                  \
                x_hat[k][p] = v;                                                                                       \
                scaled[k][p] = grad;                                                                                   \
            }                                                                                                          \
            gain_grad[k] += gains;                                                                                     \
            bias_grad[k] += biases;                                                                                    \
        }                                                                                                              \
        UNROLL for (int p = 0; p < count; p++)                                                                         \
            mean_grad[p] = total_##WIDTH(sum[p]) * part, mean_along[p] = total_##WIDTH(along[p]) * part;               \
        for (int64_t c = 0, k = 0; c < channels; c += (LANES), k++)                                                    \
            UNROLL for (int p = 0; p < count; p++) {                                                                   \
                WIDTH grad = (scaled[k][p] - mean_grad[p] - x_hat[k][p] * mean_along[p]) * inverse[p];                 \
                if (plus) grad += *(const WIDTH *)(plus + p * channels + c);                                           \
                *(WIDTH *)(x_grad + p * channels + c) = grad;                                                          \
            }                                                                                                          \
    }                                                                                                                  \
    INLINE void narrow_##WIDTH(const norm *n, int64_t first, int64_t last, int64_t share) {                            \
        int64_t pixel = first;                                                                                         \
        if (!n->grad) {                                                                                                \
            for (; pixel + PIXELS <= last; pixel += PIXELS) forwards_##WIDTH(PIXELS, n, pixel);                        \
            for (; pixel < last; pixel++) forwards_##WIDTH(1, n, pixel);                                               \
            return;                                                                                                    \
        }                                                                                                              \
        WIDTH *gain_grad = (WIDTH *)(n->sums + 2 * share * n->channels), *bias_grad = gain_grad + n->channels / (LANES); \
        for (; pixel + PIXELS <= last; pixel += PIXELS) backwards_##WIDTH(PIXELS, n, pixel, gain_grad, bias_grad);     \
        for (; pixel < last; pixel++) backwards_##WIDTH(1, n, pixel, gain_grad, bias_grad);                            \
    }
DEFINE_NARROW(halves, 8)
DEFINE_NARROW(quarters, 4)

FOR_EVERY_PROCESSOR(norm_share, (const norm *n, int64_t first, int64_t last, int64_t share), (n, first, last, share)) {
    if (tile != AVX512_TILE && !n->bfloat16 && n->channels % DOUBLES == 0) {
        if (HALVES(tile))
            narrow_halves(n, first, last, share);
        else
            narrow_quarters(n, first, last, share);
        return;
    }
    BY_KIND(n->bfloat16, norm_range, tile == AVX512_TILE ? PIXELS : 1, n, first, last, share);
}

void norm_pixels(const norm *n, int64_t first, int64_t last, int64_t share) { norm_share(n, first, last, share); }

static void norms(const void *argument, int64_t share, int64_t shares) {
    const norm *n = argument;
    norm_share(n, n->pixels * share / shares, n->pixels * (share + 1) / shares, share);
}

/* y = norm(x), and its moments. */
void chainrule_norm(int64_t shares, int64_t pixels, int64_t channels, int64_t bfloat16, int64_t relu, double eps,
                    const void *x, const float *gain, const float *bias, void *y, float *moments) {
    norm n = {pixels, channels, channels, bfloat16, relu, eps, x, gain, bias, y, moments, 0, 0, 0, 0};
    beside_pytorch(norms, &n, shares);
}

/* The gradients of x, and of gain and bias: (shares, 2, channels), zeros before, to be summed over shares. */
void chainrule_norm_back(int64_t shares, int64_t pixels, int64_t channels, int64_t bfloat16, int64_t relu,
                         const void *x, const float *gain, const float *bias, float *moments, const void *grad,
                         void *x_grad, float *sums) {
    norm n = {pixels, channels, channels, bfloat16, relu, 0, x, gain, bias, 0, moments, grad, 0, x_grad, sums};
    beside_pytorch(norms, &n, shares);
}
