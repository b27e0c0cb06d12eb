/* What other code may ask of the walk. */

#ifndef CHAINRULE_WALK_H
#define CHAINRULE_WALK_H

#include "walk/program.h"

void chainrule_advance(const program *p, float *memory, float *scratch, double *heads, int64_t group, int64_t images,
                       int64_t threads, int64_t site, const int64_t *values, double *pmf);

#endif
