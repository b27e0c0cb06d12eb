/* A program as Python writes it (program.py): its records, field by field. */

#ifndef CHAINRULE_PROGRAM_H
#define CHAINRULE_PROGRAM_H

#include "constants.h"
#include "processors.h"

#include <stdint.h>

/* The values of a layer at the rows and columns that a masked kernel still reaches: a ring of rows. */
typedef struct {
    int64_t rows;     /* in the ring: radius + 1; 0 for a plain vector */
    int64_t stride;   /* numbers in a row, padding included */
    int64_t channels; /* numbers in a pixel */
    int64_t taps;     /* of the kernel's last row: the pixels to the left, and the centre with type B */
} window;

typedef struct {
    int64_t kind; /* NORM, ACTIVATE, PRODUCT, WIDE_PRODUCT or ADD of constants.h */
    int64_t source, target; /* places in an image's scratch memory, or of windows in its memory */
    int64_t inputs, outputs;
    window from, to; /* whether source and target are windows, and what kind */
    int64_t whole;   /* whether numbers are put on a grid */
    int64_t positive; /* whether a ReLU comes first */
    double scale, low, high, constant;
    const void *weight; /* norms: the gain, float; products: (outputs / lanes, inputs, lanes), a vector for each input */
    const void *bias;
} operation;

typedef struct {
    int64_t count;
    const operation *operations;
    int64_t memory;  /* floats for an image */
    int64_t scratch; /* floats for an image, while it is at work on a pixel */
    int64_t head;    /* doubles for an image, from a pixel's first channel to its last */
    /* the pixels' values, as they enter the first convolution */
    int64_t input;
    window seen;
    int64_t width; /* floats for a channel */
    const float *encoding; /* (levels, width) */
    int64_t height, columns, channels, levels;
    /* the head: logits of the channels, or the hidden units of a MADE over them */
    int64_t made, exact;
    int64_t features, inputs;    /* where the head's sums lie, or what they are still to be taken of */
    int64_t units;               /* a multiple of 8 */
    const double *weight, *bias; /* (units / 8, inputs, 8), (units); none if the sums are ready */
    const int64_t *ends;         /* (channels): hidden units that the channel's logits see */
    const double *table;         /* (channels, levels, units): what a value adds to the hidden units */
    const double *out_weight, *out_bias; /* (channels * levels, units), (channels * levels) */
    double out_scale, out_low, out_high;
    const int64_t *exponentials;
    int64_t entries;
} program;

/* Where a group's memory holds a pixel of a window: that of its first image; the others' follow. */
INLINE int64_t place(const window *w, int64_t start, int64_t group, int64_t row, int64_t column) {
    return (start + row % w->rows * w->stride + (column + w->rows - 1) * w->channels) * group;
}

#endif
