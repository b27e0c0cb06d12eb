/* Layers between the convolutions, in one pass over memory each way: the gate, rows of a table with ReLU, ReLU and border;
   layer norm is in norm.c.

   PyTorch takes each of their operations by itself, in mixed precision with a cast in front and one behind, and memory
   is what they wait for. Here a pixel's channels are read once and written once; sums are taken in float32. Pixels lie
   one after the other with their channels side by side (channels_last).

   Vectors wider than the registers would be kept in memory: float32 goes through loops of single numbers there, of which
   the compiler makes vectors as wide as they may be. */

#include "constants.h"
#include "numbers.h"
#include "threads.h"

#include <string.h>

#define BY_LOOPS(tile, is_bfloat16) ((tile) != AVX512_TILE && !(is_bfloat16))

/* ---------------------------------------------------------------------------------------------------------------- gate */

typedef struct {
    int64_t pixels, filters, bfloat16;
    const void *x, *grad; /* (pixels, 2 · filters); (pixels, filters), none on the way forwards */
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
            if (g->grad) {
                floats tanh_a = (e - 1.0f) * below * both;
                floats open = (e + 1.0f) * both;
                floats grad = load(g->grad, at, kind, lanes);
                store(g->to, a, kind, lanes, grad * open * (1.0f - tanh_a * tanh_a));
                store(g->to, b, kind, lanes, grad * tanh_a * open * (1.0f - open));
            } else
                store(g->to, at, kind, lanes, (e - 1.0f) * both);
        });
}

INLINE void gate_loops(const gate *g, int64_t first, int64_t last) {
    const int64_t filters = g->filters;
    for (int64_t pixel = first; pixel < last; pixel++) {
        const float *restrict a = (const float *)g->x + 2 * pixel * filters, *restrict b = a + filters;
        float *restrict to = (float *)g->to + pixel * filters;
        if (!g->grad) {
            for (int64_t k = 0; k < filters; k++) {
                const float e = exponential_of_one(2.0f * a[k]), below = exponential_of_one(-b[k]) + 1.0f;
                to[k] = (e - 1.0f) / ((e + 1.0f) * below);
            }
            continue;
        }
        const float *restrict grad = (const float *)g->grad + pixel * filters;
        float *restrict a_grad = (float *)g->to + 2 * pixel * filters, *restrict b_grad = a_grad + filters;
        for (int64_t k = 0; k < filters; k++) {
            const float e = exponential_of_one(2.0f * a[k]), below = exponential_of_one(-b[k]) + 1.0f;
            const float both = 1.0f / ((e + 1.0f) * below), tanh_a = (e - 1.0f) * below * both;
            const float open = (e + 1.0f) * both;
            a_grad[k] = grad[k] * open * (1.0f - tanh_a * tanh_a);
            b_grad[k] = grad[k] * tanh_a * open * (1.0f - open);
        }
    }
}

FOR_EVERY_PROCESSOR(gate_share, (const gate *g, int64_t first, int64_t last), (g, first, last)) {
    if (BY_LOOPS(tile, g->bfloat16))
        gate_loops(g, first, last);
    else
        BY_KIND(g->bfloat16, gate_range, g, first, last);
}

static void gates(const void *argument, int64_t share, int64_t shares) {
    const gate *g = argument;
    gate_share(g, g->pixels * share / shares, g->pixels * (share + 1) / shares);
}

/* Forwards without a grad; with one, backwards. */
void chainrule_gate(int64_t shares, int64_t pixels, int64_t filters, int64_t bfloat16, const void *x, const void *grad,
                    void *to) {
    gate g = {pixels, filters, bfloat16, x, grad, to};
    beside_pytorch(gates, &g, shares);
}

/* -------------------------------------------------------------------------------------------------------- lookup, ReLU */

typedef struct {
    int64_t pixels, units, bfloat16, variables, rows;
    const int64_t *row;                /* (pixels, variables): which rows of the table are summed */
    const float *table, *bias;         /* (rows, units), (units) */
    const void *plus;                  /* (pixels, units) */
    void *y;                           /* relu(bias + rows + plus) */
    const void *grad;                 /* backwards: of y, */
    void *plus_grad;                  /* of plus, */
    float *sums;                       /* of the table: (shares, rows, units) */
} lookup;

INLINE void lookup_pixels(int kind, int64_t variables, const lookup *l, int64_t first, int64_t last, int64_t share) {
    const int64_t units = l->units;
    float *sums = l->grad ? l->sums + share * l->rows * units : 0;
    const floats zero = {0};
    for (int64_t pixel = first; pixel < last; pixel++) {
        int64_t row[MOST_ROWS];
        for (int64_t v = 0; v < variables; v++) row[v] = l->row[pixel * variables + v] * units;
        const int64_t at = pixel * units;
        if (sums)
            EVERY_CHANNEL(units / FLOATS, units % FLOATS, {
                const int64_t i = k * FLOATS;
                floats grad = load(l->grad, at + i, kind, lanes);
                grad = where(load(l->y, at + i, kind, lanes) > zero, grad, zero);
                store(l->plus_grad, at + i, kind, lanes, grad);
                for (int64_t v = 0; v < variables; v++)
                    store(sums, row[v] + i, FLOAT32, lanes, load(sums, row[v] + i, FLOAT32, lanes) + grad);
            });
        else
            EVERY_CHANNEL(units / FLOATS, units % FLOATS, {
                const int64_t i = k * FLOATS;
                floats sum = load(l->bias, i, FLOAT32, lanes) + load(l->plus, at + i, kind, lanes);
                for (int64_t v = 0; v < variables; v++) sum += load(l->table, row[v] + i, FLOAT32, lanes);
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

INLINE void lookup_loops(const lookup *l, int64_t first, int64_t last, int64_t share) {
    const int64_t units = l->units;
    for (int64_t pixel = first; pixel < last; pixel++) {
        const int64_t *row = l->row + pixel * l->variables;
        float *restrict y = (float *)l->y + pixel * units;
        if (!l->grad) {
            const float *restrict plus = (const float *)l->plus + pixel * units, *restrict bias = l->bias;
            for (int64_t k = 0; k < units; k++) y[k] = bias[k] + plus[k];
            for (int64_t v = 0; v < l->variables; v++) {
                const float *restrict from = l->table + row[v] * units;
                for (int64_t k = 0; k < units; k++) y[k] += from[k];
            }
            for (int64_t k = 0; k < units; k++) y[k] = y[k] < 0 ? 0 : y[k];
            continue;
        }
        const float *restrict grad = (const float *)l->grad + pixel * units;
        float *restrict plus_grad = (float *)l->plus_grad + pixel * units;
        for (int64_t k = 0; k < units; k++) plus_grad[k] = y[k] > 0 ? grad[k] : 0;
        for (int64_t v = 0; v < l->variables; v++) {
            float *restrict sums = l->sums + (share * l->rows + row[v]) * units;
            for (int64_t k = 0; k < units; k++) sums[k] += plus_grad[k];
        }
    }
}

FOR_EVERY_PROCESSOR(lookup_share, (const lookup *l, int64_t first, int64_t last, int64_t share),
                    (l, first, last, share)) {
    if (BY_LOOPS(tile, l->bfloat16))
        lookup_loops(l, first, last, share);
    else
        BY_KIND(l->bfloat16, lookup_range, l, first, last, share);
}

static void lookups(const void *argument, int64_t share, int64_t shares) {
    const lookup *l = argument;
    lookup_share(l, l->pixels * share / shares, l->pixels * (share + 1) / shares, share);
}

/* y = relu(bias + the table's rows + plus). */
void chainrule_lookup(int64_t shares, int64_t pixels, int64_t units, int64_t bfloat16, int64_t variables, int64_t rows,
                      const int64_t *row, const float *table, const float *bias, const void *plus, void *y) {
    lookup l = {pixels, units, bfloat16, variables, rows, row, table, bias, plus, y, 0, 0, 0};
    beside_pytorch(lookups, &l, shares);
}

/* The gradients of plus and of the table: (shares, rows, units), zeros before, to be summed over shares. */
void chainrule_lookup_back(int64_t shares, int64_t pixels, int64_t units, int64_t bfloat16, int64_t variables,
                           int64_t rows, const int64_t *row, void *y, const void *grad, void *plus_grad, float *sums) {
    lookup l = {pixels, units, bfloat16, variables, rows, row, 0, 0, 0, y, grad, plus_grad, sums};
    beside_pytorch(lookups, &l, shares);
}

/* -------------------------------------------------------------------------------------------------------- ReLU, border */

typedef struct {
    int64_t lines, height, width, channels, bfloat16, border; /* lines: of all images */
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
                floats grad = load(r->x, i, kind, lanes);
                grad = where(load(r->y, i, kind, lanes) > zero, grad, zero);
                store(r->to, line * inner + k * FLOATS, kind, lanes, grad);
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

INLINE void relu_pad_loops(const relu_pad *r, int64_t first, int64_t last) {
    const int64_t border = r->border * r->channels, inner = r->width * r->channels, outer = inner + 2 * border;
    for (int64_t line = first; line < last; line++) {
        const int64_t padded = (line + (line / r->height + 1) * r->border) * outer;
        if (r->y) {
            const float *restrict grad = (const float *)r->x + padded + border;
            const float *restrict y = (const float *)r->y + padded + border;
            float *restrict to = (float *)r->to + line * inner;
            for (int64_t k = 0; k < inner; k++) to[k] = y[k] > 0 ? grad[k] : 0;
            continue;
        }
        const float *restrict x = (const float *)r->x + line * inner;
        float *restrict to = (float *)r->to + padded;
        if (line % r->height == 0) memset(to - r->border * outer, 0, r->border * outer * sizeof(float));
        for (int64_t k = 0; k < border; k++) to[k] = to[border + inner + k] = 0;
        for (int64_t k = 0; k < inner; k++) to[border + k] = x[k] < 0 ? 0 : x[k];
    }
}

FOR_EVERY_PROCESSOR(relu_pad_share, (const relu_pad *r, int64_t first, int64_t last), (r, first, last)) {
    if (BY_LOOPS(tile, r->bfloat16))
        relu_pad_loops(r, first, last);
    else
        BY_KIND(r->bfloat16, relu_pad_range, r, first, last);
}

static void relu_pads(const void *argument, int64_t share, int64_t shares) {
    const relu_pad *r = argument;
    relu_pad_share(r, r->lines * share / shares, r->lines * (share + 1) / shares);
}

/* ReLU inside a border of zeros above, to the left and to the right; with y, backwards. */
void chainrule_relu_pad(int64_t shares, int64_t images, int64_t height, int64_t width, int64_t channels,
                        int64_t bfloat16, int64_t border, const void *x, const void *y, void *to) {
    relu_pad r = {images * height, height, width, channels, bfloat16, border, x, y, to};
    beside_pytorch(relu_pads, &r, shares);
}
