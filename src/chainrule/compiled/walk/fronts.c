/* The walk of a stack of masked convolutions by fronts: many pixels of a picture at a time.

   A pixel (row i, column j) needs the row above up to column j + SKEW - 1, so pixels with equal t = j + SKEW · i, a front,
   need nothing of each other: all of them advance together, from front to front. In skewed coordinates (i, t) whatever
   a kernel reaches lies in earlier columns, so that memory holds a ring of a few columns for each layer, whatever the
   picture's size. Lines of memory are the rows of all pictures, which have one size, each picture's after BORDER lines
   that stay zero. What a ring holds of a front long past is put to zero where the new front has no pixels, so that what
   lies beside a picture is zero as well.

   The order of the fronts' entries: fronts in turn; within a front its channels in turn; within a channel the pixels from
   above, and at each of them the pictures in turn. */

#include "threads.h"
#include "walk/coder.h"
#include "walk/steps.h"

#define FEW 8    /* pixels that are not worth another thread */

typedef struct {
    const program *p;
    float *memory, *scratch;
    double *rooms;
    int64_t pictures, height, width, threads;
    int64_t *at, *values; /* of the front's pixels: lines, and what was chosen last */
    /* what is asked for: all values are known, and `edges` (sites, pictures, 2) wanted, in the fronts' order or in
       raster order; or the others than the known ones are drawn by uniforms u (pictures, sites), in raster order; or
       all but those of the rows `above` are decoded, in the fronts' order */
    int32_t *edges;
    int64_t raster;
    const double *u;
    const uint8_t *known;
    int64_t above;
    int64_t *x; /* (pictures, channels, height, width) */
    /* the front: its number, its first row, its pixels (of all pictures), the sites before it, the channel at hand */
    int64_t front, first, count, before, channel;
} fronts;

static int64_t first_row(const fronts *f, int64_t front) {
    return front < f->width ? 0 : (front - f->width) / SKEW + 1;
}

static int64_t *value_at(const fronts *f, int64_t k, int64_t channel) {
    const int64_t row = f->first + k / f->pictures, column = f->front - SKEW * row;
    return f->x + ((k % f->pictures * f->p->channels + channel) * f->height + row) * f->width + column;
}

static spot spot_of(const fronts *f, int64_t k) {
    return (spot){f->pictures * (f->height + BORDER), 0, 0, f->front, f->at + k, f->x, f->height, f->width};
}

/* The features of pixels first … last - 1, and their first channel made ready; or all channels, if no decoder is asked. */
FOR_EVERY_PROCESSOR(features, (const fronts *f, float *scratch, int64_t first, int64_t last), (f, scratch, first, last)) {
    const program *p = f->p;
    const int64_t rows = f->count / f->pictures, area = f->height * f->width;
    for (int64_t k = first; k < last; k += GROUP) {
        const int64_t count = last - k < GROUP ? last - k : GROUP;
        const spot here = spot_of(f, k);
        pixel(p, f->memory, scratch, f->rooms + k * p->room, count, &here);
    }
    for (int64_t k = first; k < last; k++) {
        double *room = f->rooms + k * p->room;
        const spot here = spot_of(f, k);
        prepare(tile, p, room, 0);
        for (int64_t c = 0; c < p->channels && (f->edges || f->u); c++) {
            int64_t *value = value_at(f, k, c), finite = 1;
            const int64_t raster = (value - f->x) % area * p->channels + c;
            if (c) prepare(tile, p, room, c);
            if (f->edges) {
                const int64_t site = f->raster ? raster : f->before + c * rows + k / f->pictures;
                int32_t *edges = f->edges + 2 * (site * f->pictures + k % f->pictures);
                edges[0] = (int32_t)below(p, room, c, *value);
                edges[1] = (int32_t)below(p, room, c, *value + 1) - edges[0];
            } else {
                finite = is_finite(p, room, c);
                if (!f->known || !f->known[value - f->x])
                    *value = drawn(p, room, c, f->u[k % f->pictures * p->channels * area + raster]);
            }
            take(p, f->memory, room, 0, &here, c, *value);
            if (!finite) *value = -1; /* for the caller to see */
        }
    }
}

/* The next channel made ready, once the one before it is known; after the last there is none. */
FOR_EVERY_PROCESSOR(next_channel, (const fronts *f, int64_t first, int64_t last), (f, first, last)) {
    for (int64_t k = first; k < last; k++) {
        const spot here = spot_of(f, k);
        double *room = f->rooms + k * f->p->room;
        take(f->p, f->memory, room, 0, &here, f->channel - 1, f->values[k]);
        if (f->channel < f->p->channels) prepare(tile, f->p, room, f->channel);
    }
}

static void front_share(const void *argument, int64_t share, int64_t shares) {
    const fronts *f = argument;
    const int64_t first = f->count * share / shares, last = f->count * (share + 1) / shares;
    if (f->channel)
        next_channel(f, first, last);
    else
        features(f, f->scratch + share * GROUP * f->p->scratch, first, last);
}

static void clear(const fronts *f, const window *w, int64_t start) {
    const int64_t old = f->front - w->stride;
    if (!w->rows || old < 0) return;
    const spot here = spot_of(f, 0);
    const int64_t from = first_row(f, old), to = f->first < f->height ? f->first : f->height;
    for (int64_t n = 0; n < f->pictures && from < to; n++)
        memset(f->memory + place(w, start, &here) + (n * (f->height + BORDER) + BORDER + from) * w->channels, 0,
               (to - from) * w->channels * sizeof(float));
}

static void begin_front(fronts *f) {
    const int64_t last = f->front / SKEW < f->height ? f->front / SKEW : f->height - 1;
    f->first = first_row(f, f->front), f->count = 0, f->channel = 0;
    for (int64_t row = f->first; row <= last; row++)
        for (int64_t n = 0; n < f->pictures; n++) f->at[f->count++] = n * (f->height + BORDER) + BORDER + row;
    for (int64_t k = 0; k < f->p->count; k++) clear(f, &f->p->operations[k].to, f->p->operations[k].target);
    for (int64_t e = 0; e < f->p->entered; e++) clear(f, &f->p->entries[e].seen, f->p->entries[e].place);
}

static void shared(const fronts *f) {
    const int64_t most = (f->count + FEW - 1) / FEW;
    in_parallel(front_share, f, most < f->threads ? most : f->threads);
}

/* Go on from front progress[0], which progress[1] sites come before, for about so many pixels. */
static void run_fronts(fronts *f, coder *c, int64_t *progress, int64_t pixels) {
    const int64_t end = f->width + SKEW * (f->height - 1);
    f->front = progress[0], f->before = progress[1];
    for (int64_t done = 0; f->front < end && done <= pixels; f->front++) {
        begin_front(f);
        if (f->count) shared(f);
        for (; c && f->channel < f->p->channels; f->channel++) {
            if (f->channel) shared(f);
            for (int64_t k = 0; k < f->count; k++) {
                double *room = f->rooms + k * f->p->room;
                int64_t *value = value_at(f, k, f->channel);
                if (f->first + k / f->pictures >= f->above) *value = decoded(f->p, room, f->channel, c);
                f->values[k] = *value;
            }
        }
        if (c) shared(f);
        f->before += f->count / f->pictures * f->p->channels;
        done += f->count;
    }
    progress[0] = f->front, progress[1] = f->before;
}

/* What Python calls, again and again until all fronts are done, so that somebody may interrupt it. There is memory for all
   lines, zeros at first; scratch memory for GROUP pixels of each thread; rooms, `at` and `values` for the pixels of the
   longest front. */
#define GROUND                                                                                                         \
    const program *p, float *memory, float *scratch, double *rooms, int64_t pictures, int64_t height, int64_t width,   \
        int64_t threads, int64_t *at, int64_t *values, int64_t *progress, int64_t pixels

void chainrule_fronts_score(GROUND, const int64_t *x, int64_t raster, int32_t *edges) {
    fronts f = {p, memory, scratch, rooms, pictures, height, width, threads, at, values,
                .edges = edges, .raster = raster, .x = (int64_t *)x};
    run_fronts(&f, 0, progress, pixels);
}

void chainrule_fronts_draw(GROUND, const double *u, const uint8_t *known, int64_t *x) {
    fronts f = {p, memory, scratch, rooms, pictures, height, width, threads, at, values, .u = u, .known = known, .x = x};
    run_fronts(&f, 0, progress, pixels);
}

/* The first rows, `above` of them, are known. `rest` holds the coder's state and how many words are left, and gets
   them. */
void chainrule_fronts_decode(GROUND, int64_t above, const uint32_t *words, int64_t *x, uint64_t *rest) {
    fronts f = {p, memory, scratch, rooms, pictures, height, width, threads, at, values, .above = above, .x = x};
    coder c = {rest[0], words, (int64_t)rest[1]};
    run_fronts(&f, &c, progress, pixels);
    if (progress[0] == width + SKEW * (height - 1)) refill(&c);
    rest[0] = c.state, rest[1] = (uint64_t)c.left;
}
