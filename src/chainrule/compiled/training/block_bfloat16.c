/* The residual block of block.h in bfloat16, for processors that multiply it.

   A thread takes whole images, of which everything between x and y stays in its cache. What belongs to an image lies in
   a field: its pixels line after line, a pixel of zeros behind each line, which borders it on the right and the next
   line on the left, and enough zeros in front and behind. So each tap of the 3×3 convolution is at the same distance
   from every pixel, and all three convolutions, forwards and back, are products of matrices. */

#include "processors.h"
#include "training/block.h"
#include "training/norm.h"
#include "training/products_bfloat16.h"

/* Whether this processor multiplies bfloat16, and whether it may. */
int64_t chainrule_multiplies(void) {
#ifdef MULTIPLIES
    return chainrule_widest > 1 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512bf16");
#else
    return 0;
#endif
}

/* ----------------------------------------------------------------------------------------------------------- fields */

static int64_t pitch(const block *b) { return b->width + 1; }
static int64_t lead(const block *b) { return (pitch(b) + 2) / 2 * 2; } /* zeros in front and behind, an even number */
static int64_t inner(const block *b) { return (b->height * pitch(b) + TILE_ROWS - 1) / TILE_ROWS * TILE_ROWS; }
static int64_t rows(const block *b) { return 2 * lead(b) + inner(b); }

/* Pixel 0 of a field of so many channels. */
static uint16_t *pixel0(const block *b, uint16_t *field, int64_t channels) { return field + lead(b) * channels; }

/* Zeros in front and behind. */
static void clear_ends(const block *b, uint16_t *field, int64_t channels) {
    const int64_t end = lead(b) + b->height * pitch(b);
    memset(field, 0, lead(b) * channels * 2);
    memset(field + end * channels, 0, (rows(b) - end) * channels * 2);
}

/* Zeros behind each line. */
static void clear_borders(const block *b, uint16_t *field, int64_t channels) {
    for (int64_t line = 1; line <= b->height; line++)
        memset(pixel0(b, field, channels) + (line * pitch(b) - 1) * channels, 0, channels * 2);
}

/* Numbers that one thread's scratch has: fields, and pairs of their pixels. */
static int64_t room(const block *b, int back) {
    return rows(b) * (back ? 2 * b->filters + 5 * b->half : b->filters);
}

#ifdef MULTIPLIES
/* ------------------------------------------------------------------------------------------------------------ block */

/* relu(norm(x)) of an image as a field. */
static void norm_of(const block *b, int64_t image, uint16_t *to) {
    const int64_t c = b->filters, w = b->width;
    for (int64_t line = 0; line < b->height; line++) {
        const int64_t first = (image * b->height + line) * w;
        const norm n = {w, c, c, 1, 1, b->eps, (const uint16_t *)b->x + first * c, b->gain, b->shift,
                        .y = pixel0(b, to, c) + line * pitch(b) * c, .moments = b->moments + 2 * first};
        norm_pixels(&n, 0, w, 0);
    }
    clear_borders(b, to, c);
}

/* The gradient of x: from that of relu(norm(x)), and y's own. */
static void norm_back(const block *b, int64_t image, const uint16_t *wide, float *sums) {
    const int64_t c = b->filters, w = b->width;
    for (int64_t line = 0; line < b->height; line++) {
        const int64_t first = (image * b->height + line) * w;
        const norm n = {w, c, c, 1, 1, b->eps, (const uint16_t *)b->x + first * c, b->gain, b->shift,
                        .moments = b->moments + 2 * first, .grad = wide + line * pitch(b) * c,
                        .plus = (const uint16_t *)b->grad + first * c, .x_grad = (uint16_t *)b->y + first * c, .sums = sums};
        norm_pixels(&n, 0, w, 0);
    }
}

/* y = x + more, of an image; `more` is a field. */
INLINE void add(const block *b, const uint16_t *x, const uint16_t *more, uint16_t *y) {
    for (int64_t line = 0; line < b->height; line++) {
        const int64_t count = b->width * b->filters, at = line * count;
        for (int64_t k = 0; k < count; k += FLOATS)
            store(y, at + k, ROUNDED, FLOATS,
                  load(x, at + k, ROUNDED, FLOATS) + load(more, line * pitch(b) * b->filters + k, ROUNDED, FLOATS));
    }
}

MULTIPLYING static void forwards(const block *b, int64_t first, int64_t last, void *scratch) {
    const int64_t p = pitch(b), c = b->filters, h = b->half, size = b->height * b->width * c;
    const int64_t distance[TAPS] = {-p - 1, -p, -p + 1, -1, 0}, here = 0;
    uint16_t *wide = scratch;
    const uint32_t *w1 = b->packed, *w2 = w1 + c * h / 2, *w3 = w2 + TAPS * h * h / 2;
    clear_ends(b, wide, c);
    for (int64_t image = first; image < last; image++) {
        uint16_t *reduced = (uint16_t *)b->narrow + 2 * image * rows(b) * h, *seen = reduced + rows(b) * h;
        norm_of(b, image, wide);
        bfloat16_product(RELU, inner(b), pixel0(b, wide, c), c, 1, &here, w1, h, b->b[0], 0, pixel0(b, reduced, h));
        clear_ends(b, reduced, h), clear_borders(b, reduced, h);
        bfloat16_product(RELU, inner(b), pixel0(b, reduced, h), h, TAPS, distance, w2, h, b->b[1], 0, pixel0(b, seen, h));
        bfloat16_product(PLAIN, inner(b), pixel0(b, seen, h), h, 1, &here, w3, c, b->b[2], 0, pixel0(b, wide, c));
        add(b, (const uint16_t *)b->x + image * size, pixel0(b, wide, c), (uint16_t *)b->y + image * size);
    }
}

MULTIPLYING static void backwards(const block *b, int64_t first, int64_t last, void *scratch, float *sums) {
    const int64_t p = pitch(b), c = b->filters, h = b->half, pairs = inner(b) / 2, line = b->width * c;
    const int64_t size = b->height * line, distance[TAPS] = {-p - 1, -p, -p + 1, -1, 0}, here = 0;
    const int64_t opposite[TAPS] = {p + 1, p, p - 1, 1, 0};
    const uint32_t *w3 = b->packed, *w2 = w3 + c * h / 2, *w1 = w2 + TAPS * h * h / 2;
    float *norm_sums = sums, *w1_sums = sums + 2 * c, *w2_sums = w1_sums + c * h, *w3_sums = w2_sums + STORED * h * h;
    float *b1_sums = w3_sums + c * h, *b2_sums = b1_sums + h, *b3_sums = b2_sums + h;
    uint16_t *wide = scratch, *seen_grad = wide + rows(b) * c, *reduced_grad = seen_grad + rows(b) * h;
    uint32_t *wide_pairs = (uint32_t *)(reduced_grad + rows(b) * h), *grad_pairs = wide_pairs + pairs * c;
    uint32_t *even = grad_pairs + pairs * h, *odd = even + rows(b) / 2 * h;
    clear_ends(b, wide, c), clear_ends(b, seen_grad, h), clear_ends(b, reduced_grad, h);
    for (int64_t image = first; image < last; image++) {
        uint16_t *reduced = (uint16_t *)b->narrow + 2 * image * rows(b) * h, *seen = reduced + rows(b) * h;
        const uint16_t *grad = (const uint16_t *)b->grad + image * size;
        for (int64_t i = 0; i < b->height; i++) memcpy(pixel0(b, wide, c) + i * p * c, grad + i * line, line * 2);
        clear_borders(b, wide, c);

        bfloat16_product(MASKED, inner(b), pixel0(b, wide, c), c, 1, &here, w3, h, 0, pixel0(b, seen, h),
                pixel0(b, seen_grad, h));
        bfloat16_pair(pixel0(b, wide, c), c, pairs, wide_pairs, b3_sums);
        bfloat16_pair(pixel0(b, seen, h), h, pairs, even, 0);
        bfloat16_gradient(wide_pairs, c, even, h, pairs, w3_sums, h);

        bfloat16_product(MASKED, inner(b), pixel0(b, seen_grad, h), h, TAPS, opposite, w2, h, 0, pixel0(b, reduced, h),
                pixel0(b, reduced_grad, h));
        bfloat16_pair(pixel0(b, seen_grad, h), h, pairs, grad_pairs, b2_sums);
        bfloat16_pair(reduced, h, rows(b) / 2, even, 0);
        bfloat16_pair(reduced + h, h, rows(b) / 2 - 1, odd, 0);
        for (int64_t tap = 0; tap < TAPS; tap++) {
            const int64_t from = lead(b) + distance[tap]; /* where pixel 0 sees through this tap */
            bfloat16_gradient(grad_pairs, h, (from % 2 ? odd : even) + from / 2 * h, h, pairs, w2_sums + tap * h, STORED * h);
        }

        norm_of(b, image, wide);
        bfloat16_pair(pixel0(b, wide, c), c, pairs, wide_pairs, 0);
        bfloat16_pair(pixel0(b, reduced_grad, h), h, pairs, grad_pairs, b1_sums);
        bfloat16_gradient(grad_pairs, h, wide_pairs, c, pairs, w1_sums, c);
        bfloat16_product(PLAIN, inner(b), pixel0(b, reduced_grad, h), h, 1, &here, w1, c, 0, 0, pixel0(b, wide, c));
        norm_back(b, image, pixel0(b, wide, c), norm_sums);
        clear_ends(b, wide, c); /* what a product wrote behind the last pixel */
    }
}

static const block_kind bfloat16_kind = {2, room, forwards, backwards, bfloat16_pack};

#endif

/* Numbers of two bytes: of one thread's scratch, forwards and back, and of `narrow` for one image. */
void chainrule_block_room(int64_t height, int64_t width, int64_t filters, int64_t half, int64_t *to) {
    block b = {.height = height, .width = width, .filters = filters, .half = half};
    to[0] = room(&b, 0), to[1] = room(&b, 1), to[2] = 2 * rows(&b) * half;
}

/* y and what the way back needs: moments and narrow. */
void chainrule_block(int64_t shares, int64_t images, int64_t height, int64_t width, int64_t filters, int64_t half,
                     double eps, const void *x, const float *gain, const float *shift, const float *w1, const float *w2,
                     const float *w3, const float *b1, const float *b2, const float *b3, void *packed, float *moments,
                     void *narrow, void *y, void *scratch) {
#ifdef MULTIPLIES
    const block b = {images, height, width, filters, half, eps, x, gain, shift, {w1, w2, w3}, {b1, b2, b3}, packed,
                     moments, narrow, y, 0, 0, scratch};
    block_forward(&b, &bfloat16_kind, shares);
#endif
}

/* The gradients of x and of the parameters: gain, shift, w1, w2, w3, b1, b2 and b3 of each share, zeros before; in the
   first place the sums of all shares. */
void chainrule_block_back(int64_t shares, int64_t images, int64_t height, int64_t width, int64_t filters, int64_t half,
                          double eps, const void *x, const float *gain, const float *shift, const float *w1,
                          const float *w2, const float *w3, const float *b1, const float *b2, const float *b3,
                          void *packed, float *moments, void *narrow, const void *grad, void *x_grad, float *sums,
                          void *scratch) {
#ifdef MULTIPLIES
    const block b = {images, height, width, filters, half, eps, x, gain, shift, {w1, w2, w3}, {b1, b2, b3}, packed,
                     moments, narrow, x_grad, grad, sums, scratch};
    block_backward(&b, &bfloat16_kind, shares);
#endif
}
