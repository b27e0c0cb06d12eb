/* The walk of a stack of masked convolutions, pixel by pixel, for many images at once.

   A program is a list of operations on the memory of one image. It is run for a group of images at a time, operation
   by operation, so that the weights of an operation are read into the cache once for all of them, and within the group
   for a tile of images at a time, whose sums stay in registers. Memory holds only what later pixels need, the images of a
   group side by side at each place, since they are there at the same time; what one pixel needs lies in scratch memory
   that the groups use in turn, so that it stays in the cache. Groups are shared out among threads.

   Exact programs depend on the order of no sum (see fixedpoint/arithmetic.py), so that this code gives the same
   bits as the matrix products of PyTorch. What is rounded (the end of a layer norm, the residual sum) is rounded by
   single operations in a fixed order; a compiler that fused a product and a sum there would change them, which is why
   they are functions of their own. */

#include "walk/walk.h"

#include "threads.h"
#include "walk/heads.h"
#include "walk/steps.h"

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
                    int finite = 1;
                    for (int64_t v = 0; v < p->levels; v++) finite &= logits[v] < INFINITY; /* known or not */
                    if (!known || !known[at]) {
                        probabilities_of(p, logits, pmf);
                        x[at] = inverse_cdf(pmf, p->levels, u[(b + k) * size + i * p->channels + c]);
                        finite &= pmf[0] == pmf[0]; /* one number that is none makes all of them none */
                    }
                    take(p, memory, head, group, k, row, column, c, x[at]);
                    if (!finite) x[at] = -1; /* for the caller to see */
                }
        }
    }
}

/* What Python calls. Images lie in groups of `group`; `threads` share them, each with scratch memory for one group. */
typedef struct {
    const program *p;
    float *memory, *scratch;
    double *heads;
    int64_t group, images, site;
    const int64_t *values;
    double *pmf;
    int32_t *frequencies;
    const double *u;
    const uint8_t *known;
    int64_t *x;
} job;

static void share_of(const job *j, int64_t share, int64_t shares, int64_t *first, int64_t *last) {
    int64_t groups = (j->images + j->group - 1) / j->group;
    *first = groups * share / shares * j->group;
    *last = groups * (share + 1) / shares * j->group;
    if (*last > j->images) *last = j->images;
}

static void advance_share(const void *argument, int64_t share, int64_t shares) {
    const job *j = argument;
    int64_t first, last;
    share_of(j, share, shares, &first, &last);
    if (first < last)
        advance(j->p, j->memory, j->scratch + share * j->group * j->p->scratch, j->heads, j->group, first, last, j->site,
                j->values, j->pmf);
}

static void score_share(const void *argument, int64_t share, int64_t shares) {
    const job *j = argument;
    int64_t first, last, at = share * j->group;
    share_of(j, share, shares, &first, &last);
    if (first < last)
        score(j->p, j->memory + at * j->p->memory, j->scratch + at * j->p->scratch, j->heads + at * j->p->head, j->group,
              last - first, j->values + first * j->p->channels * j->p->height * j->p->columns, j->frequencies, j->images,
              first);
}

static void draw_share(const void *argument, int64_t share, int64_t shares) {
    const job *j = argument;
    const program *p = j->p;
    int64_t first, last, at = share * j->group, size = p->channels * p->height * p->columns;
    share_of(j, share, shares, &first, &last);
    if (first < last)
        draw(p, j->memory + at * p->memory, j->scratch + at * p->scratch, j->heads + at * p->head, j->group,
             last - first, j->u + first * size, j->known ? j->known + first * size : 0, j->x + first * size);
}

void chainrule_advance(const program *p, float *memory, float *scratch, double *heads, int64_t group, int64_t images,
                       int64_t threads, int64_t site, const int64_t *values, double *pmf) {
    job j = {p, memory, scratch, heads, group, images, .site = site, .values = values, .pmf = pmf};
    in_parallel(advance_share, &j, threads);
}

void chainrule_score(const program *p, float *memory, float *scratch, double *heads, int64_t group, int64_t images,
                     int64_t threads, const int64_t *x, int32_t *frequencies) {
    job j = {p, memory, scratch, heads, group, images, .values = x, .frequencies = frequencies};
    in_parallel(score_share, &j, threads);
}

void chainrule_draw(const program *p, float *memory, float *scratch, double *heads, int64_t group, int64_t images,
                    int64_t threads, const double *u, const uint8_t *known, int64_t *x) {
    job j = {p, memory, scratch, heads, group, images, .u = u, .known = known, .x = x};
    in_parallel(draw_share, &j, threads);
}
