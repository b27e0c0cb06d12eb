/* The asymmetric numeral system of docs/format.md, section Payload, whose names are used here. */

#ifndef CHAINRULE_CODER_H
#define CHAINRULE_CODER_H

#include "walk/heads.h"

#define LOOKS_AT_ALL 8 /* after which the rest is halved */
#define INTERVALS ((uint64_t)1 << CODER_BITS)

typedef struct {
    uint64_t state;
    const uint32_t *words;
    int64_t left; /* words not taken yet, from the end */
} coder;

/* Where the interval of a symbol begins, below which so much of TOTAL lies. */
INLINE uint64_t left_of(uint64_t below_it, int64_t symbol, int64_t levels) {
    return symbol >= levels ? INTERVALS : (below_it * (INTERVALS - (uint64_t)levels) >> TOTAL_BITS) + (uint64_t)symbol;
}

INLINE void refill(coder *c) {
    while (c->state < (uint64_t)1 << 32 && c->left) c->state = c->state << 32 | c->words[--c->left];
}

/* The next symbol of a prepared channel; whatever the words are, it is one of the levels. A mixture is asked near the
   component of the largest share, then farther away until the symbol lies between, then on the line between two answers:
   at four points of 256. */
INLINE int64_t decoded(const program *p, double *room, int64_t channel, coder *c) {
    refill(c);
    const uint64_t q = c->state % INTERVALS;
    uint64_t left = 0, right = INTERVALS;
    int64_t symbol = 0, end = p->levels;
    if (p->head == MIXTURE) {
        int64_t step, middle = likely(p, room, channel, &step);
        for (int looks = 1; end - symbol > 1; looks++) {
            middle = middle <= symbol ? symbol + 1 : middle >= end ? end - 1 : middle;
            const uint64_t edge = left_of((uint64_t)below(p, room, channel, middle), middle, p->levels);
            if (edge <= q)
                symbol = middle, left = edge;
            else
                end = middle, right = edge;
            if (looks >= LOOKS_AT_ALL)
                middle = (symbol + end) / 2;
            else if (end == p->levels)
                middle = symbol + step, step *= 2;
            else if (!symbol)
                middle = end - step, step *= 2;
            else
                middle = symbol + (int64_t)((q - left) * (uint64_t)(end - symbol) / (right - left));
        }
    } else {
        const int64_t *frequencies = frequencies_room(p, room);
        for (uint64_t sum = 0;; symbol++, left = right) {
            sum += (uint64_t)frequencies[symbol];
            right = left_of(sum, symbol + 1, end);
            if (q < right || symbol + 1 >= end) break;
        }
    }
    c->state = (right - left) * (c->state / INTERVALS) + q - left;
    return symbol;
}

#endif
