/* The walk of a stack of convolutions in raster order, pixel by pixel, for many images at once.

   A program is a list of operations on the memory of one image. It is run for a group of images at a time, operation
   by operation, so that the weights of an operation are read into the cache once for all of them, and within the group
   for a tile of images at a time, whose sums stay in registers. Memory holds only what later pixels need, the images of a
   group side by side at each place, since they are there at the same time; what one pixel needs lies in scratch memory
   that the groups use in turn, so that it stays in the cache. Groups are shared out among threads.

   Exact programs depend on the order of no sum (see fixedpoint/arithmetic.py), so that this code gives the same
   bits as the matrix products of PyTorch. What is rounded (the end of a layer norm, the residual sum) is rounded by
   single operations in a fixed order; a compiler that fused a product and a sum there would change them, which is why
   they are functions of their own. */

#include "threads.h"
#include "walk/coder.h"
#include "walk/heads.h"
#include "walk/steps.h"

/* What Python calls. Images lie in groups of `group`; `threads` share them, each with scratch memory for one group. */
typedef struct {
    const program *p;
    float *memory, *scratch;
    double *rooms;
    int64_t group, images, site;
    const int64_t *values;
    double *pmf;
    int32_t *frequencies, *edges;
    const double *u;
    const uint8_t *known;
    int64_t *x;
} job;

/* One site of a walk over images first … last - 1: take the values chosen at the site before, unless it is the first,
   into x (images, channels, height, columns), and prepare the next; give its probabilities, pmf (images, levels), if they are asked for. */
FOR_EVERY_PROCESSOR(advance, (const job *j, float *scratch, int64_t first, int64_t last), (j, scratch, first, last)) {
    const program *p = j->p;
    const int64_t channel = j->site % p->channels, at = j->site / p->channels;
    const int64_t last_channel = (j->site - 1) % p->channels, before = (j->site - 1) / p->channels;
    const int64_t area = p->height * p->columns, size = p->channels * area;
    spot here = {j->group, at / p->columns, at % p->columns, -1, 0, 0, p->height, p->columns};
    spot there = {j->group, before / p->columns, before % p->columns, -1, 0, 0, p->height, p->columns};
    for (int64_t b = first; b < last; b += j->group) {
        const int64_t count = last - b < j->group ? last - b : j->group;
        float *memory = j->memory + b * p->memory;
        double *rooms = j->rooms + b * p->room;
        here.x = there.x = j->x + b * size;
        if (j->values)
            for (int64_t k = 0; k < count; k++) {
                j->x[(b + k) * size + last_channel * area + before] = j->values[b + k];
                take(p, memory, rooms + k * p->room, k, &there, last_channel, j->values[b + k]);
            }
        if (!channel) pixel(p, memory, scratch, rooms, count, &here);
        for (int64_t k = 0; k < count; k++) {
            prepare(tile, p, rooms + k * p->room, channel);
            if (j->pmf) probabilities_at(p, rooms + k * p->room, channel, j->pmf + (b + k) * p->levels);
        }
    }
}

/* Whole walks over some images, a group after the other in the same memory. Of x (images, channels, height, columns)
   all entries are known, and `frequencies` (sites, images, levels) or `edges` (sites, images, 2) of an exact program are
   asked for; or the `known` ones are (none without `known`), and the others are drawn by the uniforms u (images, sites). */
FOR_EVERY_PROCESSOR(whole, (const job *j, float *memory, float *scratch, double *rooms, int64_t first, int64_t last),
                    (j, memory, scratch, rooms, first, last)) {
    const program *p = j->p;
    const int64_t area = p->height * p->columns, size = p->channels * area, group = j->group;
    for (int64_t b = first; b < last; b += group) {
        const int64_t count = last - b < group ? last - b : group;
        memset(memory, 0, group * p->memory * sizeof(float));
        for (int64_t i = 0; i < area; i++) {
            const spot here = {group, i / p->columns, i % p->columns, -1, 0, j->x + b * size, p->height, p->columns};
            pixel(p, memory, scratch, rooms, count, &here);
            for (int64_t c = 0; c < p->channels; c++)
                for (int64_t k = 0; k < count; k++) {
                    double *room = rooms + k * p->room;
                    int64_t *value = j->x + (b + k) * size + c * area + i;
                    const int64_t site = i * p->channels + c, entry = site * j->images + b + k;
                    prepare(tile, p, room, c);
                    int finite = 1;
                    if (j->edges) {
                        const int64_t start = below(p, room, c, *value);
                        j->edges[2 * entry] = (int32_t)start;
                        j->edges[2 * entry + 1] = (int32_t)(below(p, room, c, *value + 1) - start);
                    } else if (j->frequencies) {
                        frequencies_at(p, room, c, j->frequencies + entry * p->levels);
                    } else {
                        finite = is_finite(p, room, c);
                        if (!j->known || !j->known[(b + k) * size + c * area + i])
                            *value = drawn(p, room, c, j->u[(b + k) * size + site]);
                    }
                    take(p, memory, room, k, &here, c, *value);
                    if (!finite) *value = -1; /* for the caller to see */
                }
        }
    }
}

/* A share of groups; `whole` walks of all threads share as much memory as they need at a time. */
static void share_of(const job *j, int64_t share, int64_t shares, int64_t *first, int64_t *last) {
    const int64_t groups = (j->images + j->group - 1) / j->group;
    *first = groups * share / shares * j->group;
    *last = groups * (share + 1) / shares * j->group;
    if (*last > j->images) *last = j->images;
}

static void advance_share(const void *argument, int64_t share, int64_t shares) {
    const job *j = argument;
    int64_t first, last;
    share_of(j, share, shares, &first, &last);
    if (first < last) advance(j, j->scratch + share * j->group * j->p->scratch, first, last);
}

static void whole_share(const void *argument, int64_t share, int64_t shares) {
    const job *j = argument;
    const int64_t own = share * j->group;
    int64_t first, last;
    share_of(j, share, shares, &first, &last);
    if (first < last)
        whole(j, j->memory + own * j->p->memory, j->scratch + own * j->p->scratch, j->rooms + own * j->p->room, first, last);
}

void chainrule_advance(const program *p, float *memory, float *scratch, double *rooms, int64_t group, int64_t images,
                       int64_t threads, int64_t site, const int64_t *values, double *pmf, int64_t *x) {
    const job j = {p, memory, scratch, rooms, group, images, .site = site, .values = values, .pmf = pmf, .x = x};
    in_parallel(advance_share, &j, threads);
}

void chainrule_score(const program *p, float *memory, float *scratch, double *rooms, int64_t group, int64_t images,
                     int64_t threads, const int64_t *x, int32_t *frequencies, int32_t *edges) {
    const job j = {p, memory, scratch, rooms, group, images, .x = (int64_t *)x, .frequencies = frequencies, .edges = edges};
    in_parallel(whole_share, &j, threads);
}

void chainrule_draw(const program *p, float *memory, float *scratch, double *rooms, int64_t group, int64_t images,
                    int64_t threads, const double *u, const uint8_t *known, int64_t *x) {
    const job j = {p, memory, scratch, rooms, group, images, .u = u, .known = known, .x = x};
    in_parallel(whole_share, &j, threads);
}

/* Decode x (images, channels, area) out of so many words; `rest` gets the coder's state and how many words are left.
   There is room for the values (images) of one site. At each site the distributions of all images are made ready by as
   many threads as there are, and their symbols decoded by one. */
void chainrule_decode(const program *p, float *memory, float *scratch, double *rooms, int64_t group, int64_t images,
                      int64_t threads, const uint32_t *words, int64_t count, int64_t *values, int64_t *x,
                      uint64_t *rest) {
    coder c = {0, words, count};
    const int64_t area = p->height * p->columns;
    for (int64_t site = 0; site < p->channels * area; site++) {
        const int64_t channel = site % p->channels;
        chainrule_advance(p, memory, scratch, rooms, group, images, threads, site, site ? values : 0, 0, x);
        for (int64_t k = 0; k < images; k++)
            x[(k * p->channels + channel) * area + site / p->channels] = values[k] =
                decoded(p, rooms + k * p->room, channel, &c);
    }
    refill(&c);
    rest[0] = c.state, rest[1] = (uint64_t)c.left;
}
