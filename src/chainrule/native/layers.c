/* Layers between the convolutions, in one pass over memory each way: layer norm (with ReLU), and the gate.

   PyTorch takes each of their operations by itself, in mixed precision with a cast in front and one behind, and memory
   is what they wait for. Here a pixel's channels are read once and written once; sums are taken in float32. Numbers are
   float32 or bfloat16, pixels lie one after the other with their channels side by side (channels_last). */

#include "processors.h"

#include <math.h>
#include <string.h>

#define WIDTHS 64 /* vectors that a pixel may have: 1024 channels */
#define PIXELS 4 /* that are worked on together: while one waits for its sum, the others go on */

typedef uint16_t shorts __attribute__((vector_size(32), aligned(2), may_alias));
typedef uint32_t words __attribute__((vector_size(64), aligned(4), may_alias));
typedef int32_t integers __attribute__((vector_size(64), aligned(4), may_alias));

/* ------------------------------------------------------------------------------------------------------------- threads

   PyTorch's own, so that its waiting threads and ours do not take each other's cores. They are those of the OpenMP
   library that PyTorch has loaded by the time this one is; where there is none, the caller does the work alone. */

typedef void (*work)(void *, int64_t share, int64_t shares);
typedef struct {
    work run;
    void *argument;
} task;

#ifdef __linux__
extern void GOMP_parallel(void (*)(void *), void *, unsigned, unsigned) __attribute__((weak));
extern int omp_get_thread_num(void) __attribute__((weak));
extern int omp_get_num_threads(void) __attribute__((weak));

static void one_share(void *argument) {
    const task *t = argument;
    t->run(t->argument, omp_get_thread_num(), omp_get_num_threads());
}

static void shared_out(work run, void *argument, int64_t shares) {
    task t = {run, argument};
    if (shares > 1 && GOMP_parallel && omp_get_thread_num && omp_get_num_threads)
        GOMP_parallel(one_share, &t, (unsigned)shares, 0);
    else
        run(argument, 0, 1);
}
#else
static void shared_out(work run, void *argument, int64_t shares) { (void)shares, run(argument, 0, 1); }
#endif

/* ------------------------------------------------------------------------------------------------------------- numbers */

/* Kinds of numbers; ROUNDED is bfloat16 where the processor has an instruction that rounds to it. */
enum { SINGLE, BRAIN, ROUNDED };

/* GCC knows the processor from version 10 on; Clang, and GCC that does not optimise, refuse the instruction also in code
   that is never reached. */
#if defined(__x86_64__) && defined(__OPTIMIZE__) && !defined(__clang__) && __GNUC__ >= 10
#define ROUNDS(tile) ((tile) == 12 && __builtin_cpu_supports("avx512bf16"))
#endif

/* Vectors of eight, which are often what is left of a pixel's channels: as the first half of one of sixteen, and back.
   Compilers that cannot shuffle go through memory. */
typedef uint16_t few_shorts __attribute__((vector_size(16), aligned(2), may_alias));
#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define LOWER(v) __builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7)
#define UPPER(v) __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15)
#define WIDENED(v, zero) __builtin_shufflevector(v, zero, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)
#endif
#endif
#ifdef LOWER
INLINE floats wide_of(halves v) { return WIDENED(v, (halves){0}); }
INLINE shorts wide_shorts(few_shorts v) { return WIDENED(v, (few_shorts){0}); }
#else
INLINE floats wide_of(halves v) { floats all = {0}; return memcpy(&all, &v, 32), all; }
INLINE shorts wide_shorts(few_shorts v) { shorts all = {0}; return memcpy(&all, &v, 16), all; }
INLINE halves float_part(const floats *v, int upper) { halves part; return memcpy(&part, (char *)v + 32 * upper, 32), part; }
#define LOWER(v) float_part(&(v), 0)
#define UPPER(v) float_part(&(v), 1)
#endif

INLINE float total(floats v) {
    halves both = LOWER(v) + UPPER(v);
    float sum = 0;
    UNROLL for (int k = 0; k < 4; k++) sum += both[k] + both[k + 4];
    return sum;
}

/* `lanes` numbers from the i-th on; the vector's rest is 0. */
INLINE floats load(const void *from, int64_t i, int kind, int64_t lanes) {
    if (kind) {
        const uint16_t *place = (const uint16_t *)from + i;
        shorts all = {0};
        if (lanes == FLOATS)
            all = *(const shorts *)place;
        else if (lanes == 8)
            all = wide_shorts(*(const few_shorts *)place);
        else
            for (int64_t k = 0; k < lanes; k++) all[k] = place[k];
        return (floats)(__builtin_convertvector(all, words) << 16);
    }
    const float *place = (const float *)from + i;
    floats all = {0};
    if (lanes == FLOATS) return *(const floats *)place;
    if (lanes == 8) return wide_of(*(const halves *)place);
    for (int64_t k = 0; k < lanes; k++) all[k] = place[k];
    return all;
}

/* bfloat16: to the nearest, halves to even; what is not a number stays none. */
INLINE void store(void *to, int64_t i, int kind, int64_t lanes, floats v) {
    if (kind) {
        uint16_t *place = (uint16_t *)to + i;
        shorts all;
#ifdef ROUNDS
        if (kind == ROUNDED)
            __asm__("vcvtneps2bf16 %1, %0" : "=v"(all) : "v"(v));
        else
#endif
        {
            words bits = (words)v, lost = (words)(v != v);
            bits = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
            all = __builtin_convertvector((bits & ~lost) | (0x7fc0 & lost), shorts);
        }
        if (lanes == FLOATS)
            *(shorts *)place = all;
        else if (lanes == 8)
            memcpy(place, &all, 16);
        else
            for (int64_t k = 0; k < lanes; k++) place[k] = all[k];
        return;
    }
    float *place = (float *)to + i;
    if (lanes == FLOATS)
        *(floats *)place = v;
    else if (lanes == 8)
        *(halves *)place = LOWER(v);
    else
        for (int64_t k = 0; k < lanes; k++) place[k] = v[k];
}

INLINE floats where(integers mask, floats yes, floats no) {
    return (floats)(((integers)yes & mask) | ((integers)no & ~mask));
}

/* e^x between e^-40 and e^40: 2^k times the series of e^f, |f| ≤ ln 2 / 2, as long as the kind's precision wants it. */
INLINE floats exponential(int kind, floats x) {
    const floats zero = {0}, bound = zero + 40.0f;
    x = where(x > bound, bound, x);
    x = where(x < -bound, -bound, x);
    floats k = (x * 1.44269504f + 12582912.0f) - 12582912.0f; /* 1.5 · 2^23: beyond it floats are whole */
    floats f = (x - k * 0.693359375f) + k * 2.12194440e-4f; /* ln 2 in two parts, the first of few bits */
    floats sum = f * (1.0f / 120) + 1.0f / 24;
    if (kind == SINGLE) {
        sum = f * (1.0f / 5040) + 1.0f / 720;
        sum = sum * f + 1.0f / 120;
        sum = sum * f + 1.0f / 24;
    }
    sum = sum * f + 1.0f / 6;
    sum = sum * f + 0.5f;
    sum = sum * f + 1.0f;
    sum = sum * f + 1.0f;
    integers power = (__builtin_convertvector(k, integers) + 127) << 23;
    return sum * (floats)power;
}

/* BY_KIND(kind, work(KIND, …)): the work, compiled for each kind of numbers. */
#ifdef ROUNDS
#define ROUNDING(tile) ROUNDS(tile)
#else
#define ROUNDING(tile) ((void)(tile), 0)
#endif
#define BY_KIND(BRAINS, WORK, ...)                                                                                     \
    do {                                                                                                               \
        if (!(BRAINS))                                                                                                 \
            WORK(SINGLE, __VA_ARGS__);                                                                                 \
        else if (ROUNDING(tile))                                                                                         \
            WORK(ROUNDED, __VA_ARGS__);                                                                                \
        else                                                                                                           \
            WORK(BRAIN, __VA_ARGS__);                                                                                  \
    } while (0)

/* EVERY_CHANNEL(whole, rest, statements): for the k-th vector of a pixel, of so many `lanes`. Eight are often the rest. */
#define EVERY_CHANNEL(WHOLE, REST, ...)                                                                                \
    do {                                                                                                               \
        int64_t k = 0;                                                                                                 \
        for (; k < (WHOLE); k++) {                                                                                     \
            const int64_t lanes = FLOATS;                                                                              \
            __VA_ARGS__                                                                                                \
        }                                                                                                              \
        if ((REST) == 8) {                                                                                             \
            const int64_t lanes = 8;                                                                                   \
            __VA_ARGS__                                                                                                \
        } else if (REST) {                                                                                             \
            const int64_t lanes = (REST);                                                                              \
            __VA_ARGS__                                                                                                \
        }                                                                                                              \
    } while (0)

/* ---------------------------------------------------------------------------------------------------------- layer norm */

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

/* ---------------------------------------------------------------------------------------------------------------- gate */

typedef struct {
    int64_t pixels, filters, brain;
    const void *x, *slope; /* (pixels, 2 · filters); (pixels, filters), none on the way forwards */
    void *to;              /* tanh(a) · σ(b), (pixels, filters), or the gradient of x */
} gate;

INLINE void gate_range(int kind, const gate *g, int64_t first, int64_t last) {
    for (int64_t pixel = first; pixel < last; pixel++)
        EVERY_CHANNEL(g->filters / FLOATS, g->filters % FLOATS, {
            const int64_t at = pixel * g->filters + k * FLOATS;
            const int64_t a = at + pixel * g->filters;
            const int64_t b = a + g->filters;
            /* tanh(a) = (e - 1) / (e + 1), e = exp 2a, and σ(b) = 1 / (1 + exp -b), with one division for both. */
            floats e = exponential(kind, 2.0f * load(g->x, a, kind, lanes));
            floats below = exponential(kind, -load(g->x, b, kind, lanes)) + 1.0f;
            floats both = 1.0f / ((e + 1.0f) * below);
            if (g->slope) {
                floats tanh_a = (e - 1.0f) * below * both;
                floats open = (e + 1.0f) * both;
                floats slope = load(g->slope, at, kind, lanes);
                store(g->to, a, kind, lanes, slope * open * (1.0f - tanh_a * tanh_a));
                store(g->to, b, kind, lanes, slope * tanh_a * open * (1.0f - open));
            } else
                store(g->to, at, kind, lanes, (e - 1.0f) * both);
        });
}

FOR_EVERY_PROCESSOR(gate_share, (const gate *g, int64_t first, int64_t last), (g, first, last)) {
    (void)tile;
    BY_KIND(g->brain, gate_range, g, first, last);
}

static void gates(void *argument, int64_t share, int64_t shares) {
    const gate *g = argument;
    gate_share(g, g->pixels * share / shares, g->pixels * (share + 1) / shares);
}

/* Forwards without a slope; with one, backwards. */
void chainrule_gate(int64_t shares, int64_t pixels, int64_t filters, int64_t brain, const void *x, const void *slope,
                    void *to) {
    gate g = {pixels, filters, brain, x, slope, to};
    shared_out(gates, &g, shares);
}

/* -------------------------------------------------------------------------------------------------------- lookup, ReLU */

#define SUMMED 64 /* variables, at most */

typedef struct {
    int64_t pixels, units, brain, variables, rows;
    const int64_t *row;                /* (pixels, variables): which rows of the table are summed */
    const float *table, *bias;         /* (rows, units), (units) */
    const void *plus;                  /* (pixels, units) */
    void *y;                           /* relu(bias + rows + plus) */
    const void *slope;                 /* backwards: of y, */
    void *plus_slope;                  /* of plus, */
    float *sums;                       /* of the table: (shares, rows, units) */
} lookup;

INLINE void lookup_pixels(int kind, int64_t variables, const lookup *l, int64_t first, int64_t last, int64_t share) {
    const int64_t units = l->units;
    float *sums = l->slope ? l->sums + share * l->rows * units : 0;
    const floats zero = {0};
    for (int64_t pixel = first; pixel < last; pixel++) {
        int64_t row[SUMMED];
        for (int64_t v = 0; v < variables; v++) row[v] = l->row[pixel * variables + v] * units;
        const int64_t at = pixel * units;
        if (sums)
            EVERY_CHANNEL(units / FLOATS, units % FLOATS, {
                const int64_t i = k * FLOATS;
                floats slope = load(l->slope, at + i, kind, lanes);
                slope = where(load(l->y, at + i, kind, lanes) > zero, slope, zero);
                store(l->plus_slope, at + i, kind, lanes, slope);
                for (int64_t v = 0; v < variables; v++)
                    store(sums, row[v] + i, SINGLE, lanes, load(sums, row[v] + i, SINGLE, lanes) + slope);
            });
        else
            EVERY_CHANNEL(units / FLOATS, units % FLOATS, {
                const int64_t i = k * FLOATS;
                floats sum = load(l->bias, i, SINGLE, lanes) + load(l->plus, at + i, kind, lanes);
                for (int64_t v = 0; v < variables; v++) sum += load(l->table, row[v] + i, SINGLE, lanes);
                store(l->y, at + i, kind, lanes, where(sum < zero, zero, sum));
            });
    }
}

INLINE void lookup_range(int kind, const lookup *l, int64_t first, int64_t last, int64_t share) {
    if (l->variables == 3) /* channels of an image */
        lookup_pixels(kind, 3, l, first, last, share);
    else
        lookup_pixels(kind, l->variables, l, first, last, share);
}

FOR_EVERY_PROCESSOR(lookup_share, (const lookup *l, int64_t first, int64_t last, int64_t share),
                    (l, first, last, share)) {
    BY_KIND(l->brain, lookup_range, l, first, last, share);
}

static void lookups(void *argument, int64_t share, int64_t shares) {
    const lookup *l = argument;
    lookup_share(l, l->pixels * share / shares, l->pixels * (share + 1) / shares, share);
}

/* y = relu(bias + the table's rows + plus). */
void chainrule_lookup(int64_t shares, int64_t pixels, int64_t units, int64_t brain, int64_t variables, int64_t rows,
                      const int64_t *row, const float *table, const float *bias, const void *plus, void *y) {
    lookup l = {pixels, units, brain, variables, rows, row, table, bias, plus, y, 0, 0, 0};
    shared_out(lookups, &l, shares);
}

/* The gradients of plus and of the table: (shares, rows, units), zeros before, to be summed over shares. */
void chainrule_lookup_back(int64_t shares, int64_t pixels, int64_t units, int64_t brain, int64_t variables, int64_t rows,
                           const int64_t *row, void *y, const void *slope, void *plus_slope, float *sums) {
    lookup l = {pixels, units, brain, variables, rows, row, 0, 0, 0, y, slope, plus_slope, sums};
    shared_out(lookups, &l, shares);
}

/* -------------------------------------------------------------------------------------------------------- ReLU, border */

typedef struct {
    int64_t lines, height, width, channels, brain, border; /* lines: of all images */
    const void *x;   /* (images, height, width, channels); backwards the gradient of y */
    const void *y;   /* backwards: what came out */
    void *to;        /* (images, border + height, border + width + border, channels), and backwards like x */
} relu_pad;

INLINE void relu_pad_range(int kind, const relu_pad *r, int64_t first, int64_t last) {
    const int64_t size = kind ? 2 : 4, border = r->border * r->channels, inner = r->width * r->channels;
    const int64_t outer = inner + 2 * border;
    const floats zero = {0};
    for (int64_t line = first; line < last; line++) {
        const int64_t row = line % r->height;
        const int64_t padded = (line + (line / r->height + 1) * r->border) * outer;
        if (r->y) {
            EVERY_CHANNEL(inner / FLOATS, inner % FLOATS, {
                const int64_t i = padded + border + k * FLOATS;
                floats slope = load(r->x, i, kind, lanes);
                slope = where(load(r->y, i, kind, lanes) > zero, slope, zero);
                store(r->to, line * inner + k * FLOATS, kind, lanes, slope);
            });
            continue;
        }
        char *to = (char *)r->to + padded * size;
        if (!row) memset(to - r->border * outer * size, 0, r->border * outer * size);
        memset(to, 0, border * size);
        memset(to + (border + inner) * size, 0, border * size);
        EVERY_CHANNEL(inner / FLOATS, inner % FLOATS, {
            floats x = load(r->x, line * inner + k * FLOATS, kind, lanes);
            store(r->to, padded + border + k * FLOATS, kind, lanes, where(x < zero, zero, x));
        });
    }
}

FOR_EVERY_PROCESSOR(relu_pad_share, (const relu_pad *r, int64_t first, int64_t last), (r, first, last)) {
    BY_KIND(r->brain, relu_pad_range, r, first, last);
}

static void relu_pads(void *argument, int64_t share, int64_t shares) {
    const relu_pad *r = argument;
    relu_pad_share(r, r->lines * share / shares, r->lines * (share + 1) / shares);
}

/* ReLU inside a border of zeros above, to the left and to the right; with y, backwards. */
void chainrule_relu_pad(int64_t shares, int64_t images, int64_t height, int64_t width, int64_t channels, int64_t brain,
                        int64_t border, const void *x, const void *y, void *to) {
    relu_pad r = {images * height, height, width, channels, brain, border, x, y, to};
    shared_out(relu_pads, &r, shares);
}
