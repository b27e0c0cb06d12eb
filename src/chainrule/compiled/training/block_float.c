/* The residual block of block.h in float32, for every processor.

   As in block_bfloat16.c, a thread takes whole images, and what belongs to an image lies in a field: its pixels line after line,
   with a pixel of zeros behind each line that borders it on the right and the next line on the left. float32 fields are
   too large for a cache, so a few lines, a strip, go through the whole block at a time: forwards from the first line to
   the last, since a pixel sees only earlier ones, and backwards from the last to the first, since it is seen only by
   later ones. */

#include "processors.h"
#include "training/block.h"
#include "training/norm.h"
#include "training/products_float.h"

#include <string.h>

#define STRIP 150 /* pixels of a strip, about: so that all its fields fit the second cache */

/* ----------------------------------------------------------------------------------------------------------- fields */

static int64_t pitch(const block *b) { return b->width + 1; }
static int64_t lead(const block *b) { return pitch(b) + 1; } /* pixels of zeros that the taps reach beyond an image */
static int64_t pixels(const block *b) { return b->height * pitch(b); }
static int64_t strip_lines(const block *b) { return STRIP > pitch(b) ? STRIP / pitch(b) : 1; }

/* Two fields of an image: what the first convolution gave, behind a lead, and what the second gave. */
static int64_t narrow_room(const block *b) { return (lead(b) + 2 * pixels(b)) * step_of(b->half); }

/* Of one thread: forwards a strip; backwards two, a narrow one, and the gradient that earlier strips will need. */
static int64_t room(const block *b, int back) {
    const int64_t wide = strip_lines(b) * pitch(b) * step_of(b->filters), narrow = step_of(b->half);
    return back ? 2 * wide + (strip_lines(b) * pitch(b) + pixels(b) + lead(b)) * narrow : wide;
}

/* Zeros behind each of so many lines. */
static void clear_borders(const block *b, float *field, int64_t lines, int64_t channels) {
    for (int64_t line = 1; line <= lines; line++)
        memset(field + (line * pitch(b) - 1) * step_of(channels), 0, channels * sizeof(float));
}

/* ------------------------------------------------------------------------------------------------------------ block */

/* The norm of one line of an image. */
static norm line_norm(const block *b, int64_t image, int64_t line) {
    const int64_t first = (image * b->height + line) * b->width, c = b->filters;
    return (norm){b->width, c, step_of(c), 0, 1, b->eps, (const float *)b->x + first * c, b->gain, b->shift,
                  .moments = b->moments + 2 * first};
}

/* relu(norm(x)) of a strip. */
static void norm_strip(const block *b, int64_t image, int64_t top, int64_t lines, float *to) {
    for (int64_t line = 0; line < lines; line++) {
        norm n = line_norm(b, image, top + line);
        n.y = to + line * pitch(b) * n.step;
        norm_pixels(&n, 0, b->width, 0);
    }
    clear_borders(b, to, lines, b->filters);
}

/* The gradient of x in a strip: from that of relu(norm(x)), and y's own. */
static void norm_strip_back(const block *b, int64_t image, int64_t top, int64_t lines, const float *wide, float *sums) {
    for (int64_t line = 0; line < lines; line++) {
        norm n = line_norm(b, image, top + line);
        const int64_t at = ((image * b->height + top + line) * b->width) * b->filters;
        n.grad = wide + line * pitch(b) * n.step, n.plus = (const float *)b->grad + at, n.x_grad = (float *)b->y + at, n.sums = sums;
        norm_pixels(&n, 0, b->width, 0);
    }
}

/* y = x + what the strip holds. */
INLINE void add_strip(const block *b, int64_t image, int64_t top, int64_t lines, const float *strip) {
    const int64_t c = b->filters;
    for (int64_t line = 0; line < lines; line++)
        for (int64_t column = 0; column < b->width; column++) {
            const int64_t at = ((image * b->height + top + line) * b->width + column) * c;
            const float *restrict x = (const float *)b->x + at, *restrict more = strip + (line * pitch(b) + column) * step_of(c);
            float *restrict y = (float *)b->y + at;
            for (int64_t k = 0; k < c; k++) y[k] = x[k] + more[k];
        }
}

/* The gradient of y in a strip. */
static void copy_strip(const block *b, int64_t image, int64_t top, int64_t lines, float *to) {
    const int64_t c = b->filters;
    for (int64_t line = 0; line < lines; line++)
        for (int64_t column = 0; column < b->width; column++)
            memcpy(to + (line * pitch(b) + column) * step_of(c),
                   (const float *)b->grad + ((image * b->height + top + line) * b->width + column) * c, c * sizeof(float));
    clear_borders(b, to, lines, c);
}

FOR_EVERY_PROCESSOR(forwards, (const block *b, int64_t first, int64_t last, void *scratch), (b, first, last, scratch)) {
    const int64_t p = pitch(b), c = b->filters, h = b->half, narrow = step_of(h);
    const int64_t distance[TAPS] = {-p - 1, -p, -p + 1, -1, 0}, here = 0;
    float *wide = scratch;
    const float *w1 = b->packed, *w2 = w1 + c * h, *w3 = w2 + TAPS * h * h;
    for (int64_t image = first; image < last; image++) {
        float *reduced = (float *)b->narrow + image * narrow_room(b) + lead(b) * narrow, *seen = reduced + pixels(b) * narrow;
        memset(reduced - lead(b) * narrow, 0, lead(b) * narrow * sizeof(float));
        for (int64_t top = 0; top < b->height; top += strip_lines(b)) {
            const int64_t lines = b->height - top < strip_lines(b) ? b->height - top : strip_lines(b);
            const int64_t count = lines * p;
            float *reduced_here = reduced + top * p * narrow, *seen_here = seen + top * p * narrow;
            norm_strip(b, image, top, lines, wide);
            float_product(tile, RELU, count, wide, c, 1, &here, w1, h, b->b[0], 0, reduced_here);
            clear_borders(b, reduced_here, lines, h);
            float_product(tile, RELU, count, reduced_here, h, TAPS, distance, w2, h, b->b[1], 0, seen_here);
            float_product(tile, PLAIN, count, seen_here, h, 1, &here, w3, c, b->b[2], 0, wide);
            add_strip(b, image, top, lines, wide);
        }
    }
}

FOR_EVERY_PROCESSOR(backwards, (const block *b, int64_t first, int64_t last, void *scratch, float *sums),
                    (b, first, last, scratch, sums)) {
    const int64_t p = pitch(b), c = b->filters, h = b->half, narrow = step_of(h), most = strip_lines(b);
    const int64_t distance[TAPS] = {-p - 1, -p, -p + 1, -1, 0}, opposite[TAPS] = {p + 1, p, p - 1, 1, 0}, here = 0;
    const float *w3 = b->packed, *w2 = w3 + c * h, *w1 = w2 + TAPS * h * h;
    float *norm_sums = sums, *w1_sums = sums + 2 * c, *w2_sums = w1_sums + c * h, *w3_sums = w2_sums + STORED * h * h;
    float *b1_sums = w3_sums + c * h, *b2_sums = b1_sums + h, *b3_sums = b2_sums + h;
    float *wide = scratch, *normed = wide + most * p * step_of(c), *reduced_grad = normed + most * p * step_of(c);
    float *seen_grad = reduced_grad + most * p * narrow;
    memset(seen_grad + pixels(b) * narrow, 0, lead(b) * narrow * sizeof(float));
    for (int64_t image = first; image < last; image++) {
        const float *reduced = (float *)b->narrow + image * narrow_room(b) + lead(b) * narrow, *seen = reduced + pixels(b) * narrow;
        for (int64_t top = (b->height - 1) / most * most; top >= 0; top -= most) {
            const int64_t lines = b->height - top < most ? b->height - top : most, count = lines * p;
            const float *reduced_here = reduced + top * p * narrow, *seen_here = seen + top * p * narrow;
            float *seen_grad_here = seen_grad + top * p * narrow;
            copy_strip(b, image, top, lines, wide);
            float_product(tile, MASKED, count, wide, c, 1, &here, w3, h, 0, seen_here, seen_grad_here);
            float_gradient(tile, count, wide, c, seen_here, h, w3_sums, h);
            float_add_up(count, wide, c, b3_sums);

            float_product(tile, MASKED, count, seen_grad_here, h, TAPS, opposite, w2, h, 0, reduced_here, reduced_grad);
            for (int64_t tap = 0; tap < TAPS; tap++)
                float_gradient(tile, count, seen_grad_here, h, reduced_here + distance[tap] * narrow, h, w2_sums + tap * h,
                         STORED * h);
            float_add_up(count, seen_grad_here, h, b2_sums);

            norm_strip(b, image, top, lines, normed);
            float_gradient(tile, count, reduced_grad, h, normed, c, w1_sums, c);
            float_add_up(count, reduced_grad, h, b1_sums);
            float_product(tile, PLAIN, count, reduced_grad, h, 1, &here, w1, c, 0, 0, wide);
            norm_strip_back(b, image, top, lines, wide, norm_sums);
        }
    }
}

static const block_kind float_kind = {sizeof(float), room, forwards, backwards, float_pack};

/* Numbers: of one thread's scratch, forwards and back, and of `narrow` for one image. */
void chainrule_block_float_room(int64_t height, int64_t width, int64_t filters, int64_t half, int64_t *to) {
    block b = {.height = height, .width = width, .filters = filters, .half = half};
    to[0] = room(&b, 0), to[1] = room(&b, 1), to[2] = narrow_room(&b);
}

/* y and what the way back needs: moments and narrow. */
void chainrule_block_float(int64_t shares, int64_t images, int64_t height, int64_t width, int64_t filters, int64_t half,
                           double eps, const void *x, const float *gain, const float *shift, const float *w1,
                           const float *w2, const float *w3, const float *b1, const float *b2, const float *b3,
                           void *packed, float *moments, void *narrow, void *y, void *scratch) {
    const block b = {images, height, width, filters, half, eps, x, gain, shift, {w1, w2, w3}, {b1, b2, b3}, packed,
                     moments, narrow, y, 0, 0, scratch};
    block_forward(&b, &float_kind, shares);
}

/* The gradients of x and of the parameters: gain, shift, w1, w2, w3, b1, b2 and b3 of each share, zeros before; in the
   first place the sums of all shares. */
void chainrule_block_float_back(int64_t shares, int64_t images, int64_t height, int64_t width, int64_t filters,
                                int64_t half, double eps, const void *x, const float *gain, const float *shift,
                                const float *w1, const float *w2, const float *w3, const float *b1, const float *b2,
                                const float *b3, void *packed, float *moments, void *narrow, const void *grad,
                                void *x_grad, float *sums, void *scratch) {
    const block b = {images, height, width, filters, half, eps, x, gain, shift, {w1, w2, w3}, {b1, b2, b3}, packed,
                     moments, narrow, x_grad, grad, sums, scratch};
    block_backward(&b, &float_kind, shares);
}
