/* The walk of a stack of masked convolutions, pixel by pixel, for many images at once.

   A program is a list of operations on the memory of one image. It is run for a group of images at a time, operation
   by operation, so that the weights of an operation are read into the cache once for all of them, and within the group
   for a tile of images at a time, whose sums stay in registers. Memory holds only what later pixels need, the images of a
   group side by side at each place, since they are there at the same time; what one pixel needs lies in scratch memory
   that the groups use in turn, so that it stays in the cache. Groups are shared out among threads.

   Exact programs depend on the order of no sum (see chainrule/exact/arithmetic.py), so that this code gives the same
   bits as the matrix products of PyTorch. What is rounded (the end of a layer norm, the residual sum) is rounded by
   single operations in a fixed order; a compiler that fused a product and a sum there would change them, which is why
   they are functions of their own. */

#include "processors.h"
#include "threads.h"
#include "walk.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

#define TAPS 128 /* of a kernel, at most */
#define MOST 12 /* images in a tile, at most */

int chainrule_widest = 2;
void chainrule_limit(int64_t registers) { chainrule_widest = (int)registers; } /* for tests */

enum { NORM, ACTIVATE, PRODUCT, WIDE_PRODUCT, ADD };

/* The values of a layer at the rows and columns that a masked kernel still reaches: a ring of rows. */
typedef struct {
    int64_t rows;     /* in the ring: radius + 1; 0 for a plain vector */
    int64_t stride;   /* numbers in a row, padding included */
    int64_t channels; /* numbers in a pixel */
    int64_t taps;     /* of the kernel's last row: the pixels to the left, and the centre with type B */
} window;

typedef struct {
    int64_t kind;
    int64_t source, target; /* places in an image's scratch memory, or of windows in its memory */
    int64_t inputs, outputs;
    window from, to; /* whether source and target are windows, and what kind */
    int64_t whole;   /* whether numbers are put on a grid */
    int64_t positive; /* whether a ReLU comes first */
    double scale, low, high, constant;
    const void *weight; /* norms: the gain, float; products: (outputs / lanes, inputs, lanes), a vector for each input */
    const void *bias;
} operation;

struct program {
    int64_t count;
    const operation *operations;
    int64_t memory;  /* floats for an image */
    int64_t scratch; /* floats for an image, while it is at work on a pixel */
    int64_t head;    /* doubles for an image, from a pixel's first channel to its last */
    /* the pixels' values, as they enter the first convolution */
    int64_t input;
    window seen;
    int64_t width; /* floats for a channel */
    const float *encoding; /* (levels, width) */
    int64_t height, columns, channels, levels;
    /* the head: logits of the channels, or the hidden units of a MADE over them */
    int64_t made, exact;
    int64_t features, inputs;    /* where the head's sums lie, or what they are still to be taken of */
    int64_t units;               /* a multiple of 8 */
    const double *weight, *bias; /* (units / 8, inputs, 8), (units); none if the sums are ready */
    const int64_t *ends;         /* (channels): hidden units that the channel's logits see */
    const double *table;         /* (channels, levels, units): what a value adds to the hidden units */
    const double *out_weight, *out_bias; /* (channels * levels, units), (channels * levels) */
    double out_scale, out_low, out_high;
    const int64_t *exponentials;
    int64_t entries;
};

#define LOGIT_SCALE 1024.0
#define LARGEST 16777216.0
#define TOTAL (INT64_C(1) << 22)

/* Where a group's memory holds a pixel of a window: that of its first image; the others' follow. */
INLINE int64_t place(const window *w, int64_t start, int64_t group, int64_t row, int64_t column) {
    return (start + row % w->rows * w->stride + (column + w->rows - 1) * w->channels) * group;
}

/* A product for T images, whose sums are kept in registers, as wide as these; few images take several panels of outputs
   at once (N1, N2, N3 for one, two and three), to keep the processor busy. LANES: outputs in a panel of the weights. */
#define DEFINE_SUMS(NAME, REAL, REGISTER, WIDTH, LANES, TARGET, STORED)                                                \
    INLINE void NAME##_sums(int T, int N, const REAL *weight, int64_t panel, const REAL *bias, int segments,           \
                            const int64_t *starts, const int64_t *lengths, float *const *images,                       \
                            TARGET *const *targets, int64_t o) {                                                       \
        REGISTER sum[MOST][4 * (LANES) / (WIDTH)];                                                                     \
        UNROLL for (int t = 0; t < T; t++)                                                                             \
            UNROLL for (int r = 0; r < N * (LANES) / (WIDTH); r++) sum[t][r] = *(const REGISTER *)(bias + r * (WIDTH)); \
        for (int s = 0; s < segments; s++) {                                                                           \
            const float *from[MOST];                                                                                   \
            UNROLL for (int t = 0; t < T; t++) from[t] = images[t] + starts[s];                                        \
            for (int64_t i = 0, length = lengths[s]; i < length; i++, weight += (LANES))                               \
                UNROLL for (int t = 0; t < T; t++) {                                                                   \
                    const REAL v = (REAL)from[t][i];                                                                   \
                    UNROLL for (int n = 0; n < N; n++)                                                                 \
                        UNROLL for (int r = 0; r < (LANES) / (WIDTH); r++)                                             \
                            sum[t][n * (LANES) / (WIDTH) + r] += v * *(const REGISTER *)(weight + n * panel + r * (WIDTH)); \
                }                                                                                                      \
        }                                                                                                              \
        UNROLL for (int t = 0; t < T; t++)                                                                             \
            UNROLL for (int r = 0; r < N * (LANES) / (WIDTH); r++)                                                     \
                *(STORED *)(targets[t] + o + r * (WIDTH)) = __builtin_convertvector(sum[t][r], STORED);                \
    }
#define SOME(T, N, NAME, LANES)                                                                                        \
    for (; o + (N) * (LANES) <= outputs; o += (N) * (LANES))                                                           \
        NAME##_sums(T, N, weight + o * inputs, inputs * (LANES), bias + o, segments, starts, lengths, images, targets, o);
#define DEFINE_TILE(NAME, REAL, REGISTER, WIDTH, LANES, TARGET, STORED, N1, N2, N3)                                    \
    DEFINE_SUMS(NAME, REAL, REGISTER, WIDTH, LANES, TARGET, STORED)                                                    \
    INLINE void NAME(int count, const REAL *weight, const REAL *bias, int64_t inputs, int64_t outputs, int segments,   \
                     const int64_t *starts, const int64_t *lengths, float *const *images, TARGET *const *targets) {    \
        int64_t o = 0;                                                                                                 \
        switch (count) {                                                                                               \
            case 1: SOME(1, N1, NAME, LANES) SOME(1, 1, NAME, LANES) break;                                            \
            case 2: SOME(2, N2, NAME, LANES) SOME(2, 1, NAME, LANES) break;                                            \
            case 3: SOME(3, N3, NAME, LANES) SOME(3, 1, NAME, LANES) break;                                            \
            case 6: SOME(6, 1, NAME, LANES) break;                                                                     \
            default: SOME(12, 1, NAME, LANES) break;                                                                   \
        }                                                                                                              \
    }
DEFINE_TILE(float_tile_floats, float, floats, 16, FLOATS, float, floats, 4, 4, 2)
DEFINE_TILE(float_tile_halves, float, halves, 8, FLOATS, float, halves, 4, 2, 2)
DEFINE_TILE(float_tile_quarters, float, quarters, 4, FLOATS, float, quarters, 2, 1, 1)
DEFINE_TILE(wide_tile_floats, double, doubles, 8, DOUBLES, float, halves, 4, 4, 2)
DEFINE_TILE(wide_tile_halves, double, double_halves, 4, DOUBLES, float, quarters, 4, 2, 2)
DEFINE_TILE(wide_tile_quarters, double, double_quarters, 2, DOUBLES, float, pairs, 2, 1, 1)
DEFINE_TILE(head_tile_floats, double, doubles, 8, DOUBLES, double, doubles, 4, 4, 2)
DEFINE_TILE(head_tile_halves, double, double_halves, 4, DOUBLES, double, double_halves, 4, 2, 2)
DEFINE_TILE(head_tile_quarters, double, double_quarters, 2, DOUBLES, double, double_quarters, 2, 1, 1)

/* Eight partial sums, whatever the width: of numbers and of their squares; and of products. */
#define DEFINE_PARTIAL_SUMS(WHICH, REGISTER, WIDTH, NARROW)                                                            \
    INLINE void moments_##WHICH(const float *x, int64_t n, double *sums, double *squares) {                            \
        REGISTER sum[DOUBLES / (WIDTH)] = {0}, square[DOUBLES / (WIDTH)] = {0};                                        \
        for (int64_t i = 0; i < n; i += DOUBLES)                                                                       \
            UNROLL for (int r = 0; r < DOUBLES / (WIDTH); r++) {                                                       \
                const REGISTER wide = __builtin_convertvector(*(const NARROW *)(x + i + r * (WIDTH)), REGISTER);       \
                sum[r] += wide;                                                                                        \
                square[r] += wide * wide;                                                                              \
            }                                                                                                          \
        memcpy(sums, sum, sizeof sum), memcpy(squares, square, sizeof square);                                         \
    }                                                                                                                  \
    INLINE void dot_##WHICH(const double *a, const double *b, int64_t n, double *sums) {                               \
        REGISTER sum[DOUBLES / (WIDTH)] = {0};                                                                         \
        for (int64_t i = 0; i < n; i += DOUBLES)                                                                       \
            UNROLL for (int r = 0; r < DOUBLES / (WIDTH); r++)                                                         \
                sum[r] += *(const REGISTER *)(a + i + r * (WIDTH)) * *(const REGISTER *)(b + i + r * (WIDTH));         \
        memcpy(sums, sum, sizeof sum);                                                                                 \
    }
DEFINE_PARTIAL_SUMS(floats, doubles, 8, halves)
DEFINE_PARTIAL_SUMS(halves, double_halves, 4, quarters)
DEFINE_PARTIAL_SUMS(quarters, double_quarters, 2, pairs)

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
    int64_t starts[TAPS], lengths[TAPS], stride = p->scratch;
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

/* Integers that sum to 2^22: see chainrule/exact/head.py. The room for logits becomes that of frequencies. */
INLINE void frequencies_of(const program *p, double *logits, int64_t *frequencies) {
    int64_t levels = p->levels, first = 0, sum = 0, given = 0;
    for (int64_t v = 0; v < levels; v++) {
        double x = __builtin_rint(logits[v] * LOGIT_SCALE);
        x = x < -LARGEST ? -LARGEST : x;
        frequencies[v] = (int64_t)(x > LARGEST ? LARGEST : x);
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
            double probability = (double)frequency * 0x1p-22;
            memcpy(pmf + v, &probability, sizeof probability);
        }
        return;
    }
    double most = logits[0], sum = 0;
    for (int64_t v = 1; v < p->levels; v++) most = logits[v] > most ? logits[v] : most;
    for (int64_t v = 0; v < p->levels; v++) sum += pmf[v] = exp(logits[v] - most);
    for (int64_t v = 0; v < p->levels; v++) pmf[v] /= sum;
}

/* Tell the walk of a group's image k the value of a channel. */
INLINE void take(const program *p, float *memory, double *head, int64_t group, int64_t k, int64_t row, int64_t column,
                 int64_t channel, int64_t value) {
    if (p->made && channel + 1 < p->channels) {
        const double *add = p->table + (channel * p->levels + value) * p->units;
        for (int64_t i = 0, units = p->units; i < units; i++) head[i] += add[i];
    }
    float *pixel = memory + place(&p->seen, p->input, group, row, column) + k * p->seen.channels;
    memcpy(pixel + channel * p->width, p->encoding + value * p->width, p->width * sizeof(float));
}

/* One site of a walk over images first … last - 1: take the values chosen at the site before, unless it is the first,
   and give the probabilities of the next value, pmf (images, levels). */
FOR_EVERY_PROCESSOR(advance,
                    (const program *p, float *memory, float *scratch, double *heads, int64_t group, int64_t first,
                     int64_t last, int64_t site, const int64_t *values, double *pmf),
                    (p, memory, scratch, heads, group, first, last, site, values, pmf)) {
    int64_t channel = site % p->channels, row = site / p->channels / p->columns, column = site / p->channels % p->columns;
    for (int64_t b = first; b < last; b += group) {
        int64_t count = last - b < group ? last - b : group;
        float *own = memory + b * p->memory;
        double *own_heads = heads + b * p->head;
        if (values) {
            int64_t at = site - 1, before = at / p->channels;
            for (int64_t k = 0; k < count; k++)
                take(p, own, own_heads + k * p->head, group, k, before / p->columns, before % p->columns,
                     at % p->channels, values[b + k]);
        }
        if (!channel) pixel(tile, p, own, scratch, own_heads, group, count, row, column);
        for (int64_t k = 0; k < count; k++) {
            double *head = own_heads + k * p->head, *logits = head + 2 * p->units;
            logits_of(tile, p, head, channel, logits);
            probabilities_of(p, logits, pmf + (b + k) * p->levels);
        }
    }
}

/* Walk over given images of an exact program, a group after the other in the same memory: x (images, channels, height,
   columns), and frequencies (sites, all, levels), of which the columns from `offset` on are these images'. */
FOR_EVERY_PROCESSOR(score,
                    (const program *p, float *memory, float *scratch, double *heads, int64_t group, int64_t images,
                     const int64_t *x, int32_t *frequencies, int64_t all, int64_t offset),
                    (p, memory, scratch, heads, group, images, x, frequencies, all, offset)) {
    int64_t area = p->height * p->columns, size = p->channels * area;
    for (int64_t b = 0; b < images; b += group) {
        int64_t count = images - b < group ? images - b : group;
        memset(memory, 0, group * p->memory * sizeof(float));
        for (int64_t i = 0; i < area; i++) {
            int64_t row = i / p->columns, column = i % p->columns;
            pixel(tile, p, memory, scratch, heads, group, count, row, column);
            for (int64_t c = 0; c < p->channels; c++)
                for (int64_t k = 0; k < count; k++) {
                    double *head = heads + k * p->head, *logits = head + 2 * p->units;
                    int64_t *found = (int64_t *)(logits + p->levels);
                    int32_t *to = frequencies + ((i * p->channels + c) * all + offset + b + k) * p->levels;
                    logits_of(tile, p, head, c, logits);
                    frequencies_of(p, logits, found);
                    for (int64_t v = 0; v < p->levels; v++) to[v] = (int32_t)found[v];
                    take(p, memory, head, group, k, row, column, c, x[(b + k) * size + c * area + i]);
                }
        }
    }
}

/* The value at which the cumulative distribution first exceeds u, as chainrule/sampling.py defines it. */
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

/* A whole walk: x (images, channels, height, columns), of which the `known` entries are kept and the others drawn by the
   uniforms u (images, sites); none is known without `known`. */
FOR_EVERY_PROCESSOR(draw,
                    (const program *p, float *memory, float *scratch, double *heads, int64_t group, int64_t images,
                     const double *u, const uint8_t *known, int64_t *x),
                    (p, memory, scratch, heads, group, images, u, known, x)) {
    const int64_t area = p->height * p->columns, size = p->channels * area;
    for (int64_t b = 0; b < images; b += group) {
        const int64_t count = images - b < group ? images - b : group;
        memset(memory, 0, group * p->memory * sizeof(float));
        for (int64_t i = 0; i < area; i++) {
            const int64_t row = i / p->columns, column = i % p->columns;
            pixel(tile, p, memory, scratch, heads, group, count, row, column);
            for (int64_t c = 0; c < p->channels; c++)
                for (int64_t k = 0; k < count; k++) {
                    const int64_t at = (b + k) * size + c * area + i;
                    double *head = heads + k * p->head, *logits = head + 2 * p->units, *pmf = logits + p->levels;
                    logits_of(tile, p, head, c, logits); /* which later channels build on */
                    if (!known || !known[at]) {
                        probabilities_of(p, logits, pmf);
                        x[at] = inverse_cdf(pmf, p->levels, u[(b + k) * size + i * p->channels + c]);
                    }
                    take(p, memory, head, group, k, row, column, c, x[at]);
                }
        }
    }
}

/* What the two sides must agree on, lest a library built for another version be used: the sizes of the records. */
int64_t chainrule_layout(void) { return (int64_t)(sizeof(program) * 65536 + sizeof(operation)); }

/* What Python calls. Images lie in groups of `group`; `threads` share them, each with scratch memory for one group. */
typedef struct {
    const program *p;
    float *memory, *scratch;
    double *heads;
    int64_t group, images, threads, site;
    const int64_t *values;
    double *pmf;
    int32_t *frequencies;
    const double *u;
    const uint8_t *known;
    int64_t *x;
} job;

static void share_of(const job *j, int64_t share, int64_t *first, int64_t *last) {
    int64_t groups = (j->images + j->group - 1) / j->group;
    *first = groups * share / j->threads * j->group;
    *last = groups * (share + 1) / j->threads * j->group;
    if (*last > j->images) *last = j->images;
}

static void advance_share(const void *argument, int64_t share) {
    const job *j = argument;
    int64_t first, last;
    share_of(j, share, &first, &last);
    if (first < last)
        advance(j->p, j->memory, j->scratch + share * j->group * j->p->scratch, j->heads, j->group, first, last, j->site,
                j->values, j->pmf);
}

static void score_share(const void *argument, int64_t share) {
    const job *j = argument;
    int64_t first, last, at = share * j->group;
    share_of(j, share, &first, &last);
    if (first < last)
        score(j->p, j->memory + at * j->p->memory, j->scratch + at * j->p->scratch, j->heads + at * j->p->head, j->group,
              last - first, j->values + first * j->p->channels * j->p->height * j->p->columns, j->frequencies, j->images,
              first);
}

static void draw_share(const void *argument, int64_t share) {
    const job *j = argument;
    const program *p = j->p;
    int64_t first, last, at = share * j->group, size = p->channels * p->height * p->columns;
    share_of(j, share, &first, &last);
    if (first < last)
        draw(p, j->memory + at * p->memory, j->scratch + at * p->scratch, j->heads + at * p->head, j->group,
             last - first, j->u + first * size, j->known ? j->known + first * size : 0, j->x + first * size);
}

void chainrule_advance(const program *p, float *memory, float *scratch, double *heads, int64_t group, int64_t images,
                       int64_t threads, int64_t site, const int64_t *values, double *pmf) {
    job j = {p, memory, scratch, heads, group, images, threads, site, values, pmf, 0, 0, 0, 0};
    in_parallel(advance_share, &j, threads);
}

void chainrule_score(const program *p, float *memory, float *scratch, double *heads, int64_t group, int64_t images,
                     int64_t threads, const int64_t *x, int32_t *frequencies) {
    job j = {p, memory, scratch, heads, group, images, threads, 0, x, 0, frequencies, 0, 0, 0};
    in_parallel(score_share, &j, threads);
}

void chainrule_draw(const program *p, float *memory, float *scratch, double *heads, int64_t group, int64_t images,
                    int64_t threads, const double *u, const uint8_t *known, int64_t *x) {
    job j = {p, memory, scratch, heads, group, images, threads, 0, 0, 0, 0, u, known, x};
    in_parallel(draw_share, &j, threads);
}
