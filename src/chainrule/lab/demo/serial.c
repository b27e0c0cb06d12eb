/* Sharing work out where there are no threads: WebAssembly. */

#include "threads.h"

void in_parallel(work *run, const void *argument, int64_t shares) {
    for (int64_t share = 0; share < shares; share++) run(argument, share, shares);
}
