/* Decoding: a walk of an exact program whose values come out of an archive's words.

   The coder is the asymmetric numeral system of docs/format.md, section Payload, whose names are used here. At each site
   the probabilities of all images are computed by as many threads as there are, and their symbols decoded by one. */

#include "constants.h"
#include "walk/walk.h"

#define INTERVALS ((uint64_t)1 << CODER_BITS)

typedef struct {
    uint64_t state;
    const uint32_t *words;
    int64_t left; /* words not taken yet, from the end */
} coder;

static void refill(coder *c) {
    while (c->state < (uint64_t)1 << 32 && c->left) c->state = c->state << 32 | c->words[--c->left];
}

/* The next symbol; whatever the words are, it is one of the levels. */
static int64_t symbol_of(coder *c, const double *pmf, int64_t levels) {
    refill(c);
    const uint64_t q = c->state % INTERVALS, shrunk = INTERVALS - (uint64_t)levels;
    uint64_t sum = 0, left = 0, right = INTERVALS;
    int64_t symbol = 0;
    for (; symbol < levels - 1; symbol++, left = right) {
        sum += (uint64_t)(pmf[symbol] * ((uint64_t)1 << TOTAL_BITS));
        right = (sum * shrunk >> TOTAL_BITS) + (uint64_t)symbol + 1;
        if (q < right) break;
    }
    if (symbol == levels - 1) right = INTERVALS;
    c->state = (right - left) * (c->state / INTERVALS) + q - left;
    return symbol;
}

/* Decode x (images, channels, area) out of so many words; `rest` gets the coder's state and how many words are left.
   There is room for the probabilities (images, levels) and values (images) of one site. */
void chainrule_decode(const program *p, float *memory, float *scratch, double *heads, int64_t group, int64_t images,
                      int64_t threads, int64_t channels, int64_t area, int64_t levels, const uint32_t *words,
                      int64_t count, double *pmf, int64_t *values, int64_t *x, uint64_t *rest) {
    coder c = {0, words, count};
    for (int64_t site = 0; site < channels * area; site++) {
        chainrule_advance(p, memory, scratch, heads, group, images, threads, site, site ? values : 0, pmf);
        for (int64_t k = 0; k < images; k++) {
            values[k] = symbol_of(&c, pmf + k * levels, levels);
            x[(k * channels + site % channels) * area + site / channels] = values[k];
        }
    }
    refill(&c);
    rest[0] = c.state, rest[1] = (uint64_t)c.left;
}
