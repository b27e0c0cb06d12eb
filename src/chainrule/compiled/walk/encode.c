/* Encoding: from the edges of symbols to the words of docs/format.md, section Payload. */

#include "walk/coder.h"

/* Put `count` symbols on the coder's stack, the last one first: each owns edges[1] of TOTAL from edges[0] on. There is
   room for a word for each symbol. Returns how many words were written. */
int64_t chainrule_encode(int64_t count, int64_t levels, const int64_t *symbols, const int32_t *edges, uint64_t *state,
                         uint32_t *words) {
    int64_t written = 0;
    uint64_t s = *state;
    for (int64_t k = count - 1; k >= 0; k--) {
        const uint64_t start = (uint64_t)edges[2 * k], end = start + (uint64_t)edges[2 * k + 1];
        const uint64_t left = left_of(start, symbols[k], levels);
        const uint64_t size = left_of(end, symbols[k] + 1, levels) - left;
        if (s >> (64 - CODER_BITS) >= size) words[written++] = (uint32_t)s, s >>= 32;
        s = (s / size << CODER_BITS) + left + s % size;
    }
    *state = s;
    return written;
}
