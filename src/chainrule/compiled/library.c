/* What the library says of itself, and how wide its registers may be. */

#include "constants.h"
#include "processors.h"
#include "walk/program.h"

int chainrule_widest = 2;

/* Use no registers wider than the family's (0), AVX2's (1), or whatever there are (2): for tests. */
void chainrule_limit(int64_t registers);
void chainrule_limit(int64_t registers) { chainrule_widest = (int)registers; }

/* Numbers of float32 in the vectors that are used here. */
FOR_EVERY_PROCESSOR(measure, (int64_t *lanes), (lanes)) { *lanes = tile == AVX512_TILE ? 16 : HALVES(tile) ? 8 : 4; }

int64_t chainrule_width(void);
int64_t chainrule_width(void) {
    int64_t lanes;
    measure(&lanes);
    return lanes;
}

/* What the two sides must agree on, lest a library built for another version be used: the sizes of the records and all
   constants, mixed into one number as library.py does. */
int64_t chainrule_layout(void);
int64_t chainrule_layout(void) {
    const uint64_t agreed[] = {sizeof(program), sizeof(operation), sizeof(entry), CONSTANTS};
    uint64_t mixed = 0;
    for (unsigned k = 0; k < sizeof agreed / sizeof *agreed; k++) mixed = (mixed ^ agreed[k]) * UINT64_C(1099511628211);
    return (int64_t)(mixed >> 1);
}
