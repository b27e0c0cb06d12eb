/* What a walk does at a pixel, before and after its channels' values are chosen. */

#ifndef CHAINRULE_STEPS_H
#define CHAINRULE_STEPS_H

#include "walk/heads.h"
#include "walk/predictions.h"

/* The features of a pixel of `count` images, and their heads begun. */
void pixel(const program *p, float *memory, float *scratch, double *rooms, int64_t count, const spot *s);

/* round, half to even, and clamp: whole numbers in units of the grid */
INLINE float on_grid(float x, float scale, float low, float high) {
    x = __builtin_rintf(x * scale);
    x = x < low ? low : x;
    return x > high ? high : x;
}

/* d / (a + |d|), as nn/prediction.py has it. */
INLINE double softened(double x, double softness) { return x / ((x < 0 ? -x : x) + softness); }

/* Tell the walk of image (pixel) k the value of a channel, which stands in its picture already: its head, and all layers
   that read it. */
INLINE void take(const program *p, float *memory, double *room, int64_t k, const spot *s, int64_t channel,
                 int64_t value) {
    if (channel + 1 < p->channels) tell(p, room, channel, value);
    for (int64_t e = 0; e < p->entered; e++) {
        const entry *in = p->entries + e;
        float *pixel = memory + place(&in->seen, in->place, s) + along(s, k, in->seen.channels) + in->offset;
        if (in->encoding) {
            memcpy(pixel + channel * in->width, in->encoding + value * in->width, in->width * sizeof(float));
            continue;
        }
        const float soft = (float)softened(residual_of(p, room, in->far, channel, value), SOFTNESS);
        pixel[channel] = in->whole ? on_grid(soft, (float)in->scale, (float)in->low, (float)in->high) : soft;
    }
    if (p->predicted >= 0 && channel + 1 == p->channels) remember(p, memory, s, k);
}

#endif
