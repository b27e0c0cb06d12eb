/* A program as Python writes it (program.py): its records, field by field. */

#ifndef CHAINRULE_PROGRAM_H
#define CHAINRULE_PROGRAM_H

#include "constants.h"
#include "processors.h"

#include <stdint.h>

/* A pointer that takes eight bytes in WebAssembly too, so that records look the same there. */
#define POINTER(TYPE, NAME)                                                                                            \
    union {                                                                                                            \
        TYPE *NAME;                                                                                                    \
        int64_t NAME##_bits;                                                                                           \
    }

/* The values of a layer as far as a kernel still reaches them. In raster order they are a ring of rows; in a walk by
   fronts (fronts.c) a ring of skewed columns, of all rows. */
typedef struct {
    int64_t rows;     /* of the kernel, the pixel's own included; 0 for a plain vector */
    int64_t reach;    /* columns to each side, in the rows above */
    int64_t taps;     /* in the pixel's own row: the pixels to the left, perhaps itself and others */
    int64_t channels; /* numbers in a pixel */
    int64_t stride;   /* numbers in a row, padding included; by fronts: columns in the ring, a power of two */
} window;

typedef struct {
    int64_t kind;  /* one of the kinds in constants.h */
    int64_t stage; /* 0: at each pixel; 1, 2, …: at all pixels of a row before its first, one stage after the other */
    int64_t source, target; /* places in an image's scratch memory, or of windows in its memory */
    int64_t inputs, outputs;
    window from, to; /* whether source and target are windows, and what kind */
    int64_t whole;   /* whether numbers are put on a grid */
    int64_t positive; /* whether a ReLU comes first */
    double scale, low, high, constant;
    POINTER(const void, weight); /* norms: the gain, float; gates: the table; products: (outputs / lanes, inputs, lanes) */
    POINTER(const void, bias); /* attention: where it notes its shares, in a browser; else none */
} operation;

/* Where and how a pixel's channels enter a layer once they are known: by a row of a table for each level, or as the
   softened residual of the prediction. */
typedef struct {
    int64_t place;
    window seen;
    int64_t offset, width; /* of the first channel in a pixel, and of each */
    int64_t far;           /* whether residuals are those of the second kind of least squares */
    POINTER(const float, encoding); /* (levels, width); none for residuals */
    int64_t whole;
    double scale, low, high;
} entry;

typedef struct {
    int64_t count;
    POINTER(const operation, operations);
    int64_t stages;  /* of rows, to be done before their first pixels */
    int64_t entered; /* how many */
    POINTER(const entry, entries);
    int64_t fronts;  /* whether windows are those of a walk by fronts */
    int64_t memory;  /* floats for an image; by fronts: for a row of one */
    int64_t scratch; /* floats for an image, while it is at work on a pixel */
    int64_t room;    /* numbers of 8 bytes for the head of an image, from a pixel's first channel to its last */
    int64_t height, columns, channels, levels;
    /* the head */
    int64_t head, exact;         /* LOGITS, MADE or MIXTURE; whether it gives integers */
    int64_t features, inputs;    /* where the head's sums lie, or what they are still to be taken of */
    int64_t units;               /* sums, a multiple of 8 */
    POINTER(const double, weight); /* (units / 8, inputs, 8); none if the sums are ready */
    POINTER(const double, bias);   /* (units) */
    POINTER(const int64_t, ends);  /* of a MADE: (channels), hidden units that the channel's logits see */
    POINTER(const double, table);  /* (channels, levels, units): what a value adds to the hidden units */
    POINTER(const double, out_weight); /* (channels * levels, units) */
    POINTER(const double, out_bias);   /* (channels * levels) */
    double out_scale, out_low, out_high;
    int64_t components, copies; /* of a mixture; those that copy a prediction */
    int64_t predicted;  /* where a pixel's numbers of local least squares lie in scratch memory; -1 without */
    int64_t predictions; /* of every channel; 0 without, PREDICTIONS with one kind of least squares, and one more with two */
    int64_t squares, remembered; /* where what they remember lies in memory, and how many numbers it is */
    POINTER(const int64_t, near); /* the weights of the first kind's samples */
    double unit, shift; /* of means, in half-bins; what is subtracted from the sharpness */
    POINTER(const int64_t, sigmoids); /* tables of exact heads */
    POINTER(const int64_t, exponentials);
    int64_t exponentials_count;
} program;

/* Where a group of images is. Their memory lies side by side at each place, and so do all rows of all pictures in a walk
   by fronts, `group` of them. */
typedef struct {
    int64_t group, row, column;
    int64_t front;     /* the skewed column; -1 in raster order */
    const int64_t *at; /* where each image of the group (pixel of the front) lies; none: one after the other */
    const int64_t *x;  /* the images of the group (the pictures), as far as they are known, */
    int64_t height, width; /* and their size */
} spot;

#define BORDER 3 /* lines above each picture in a walk by fronts: as many rows as the largest kernel reaches up */

/* Where memory holds a pixel of a window: that of the first image, or the first row; the others' follow. */
INLINE int64_t place(const window *w, int64_t start, const spot *s) {
    if (s->front >= 0) return (start + (s->front & (w->stride - 1)) * w->channels) * s->group;
    return (start + s->row % w->rows * w->stride + (s->column + w->reach) * w->channels) * s->group;
}

/* Where that of image k is, beyond the first. */
INLINE int64_t along(const spot *s, int64_t k, int64_t channels) { return (s->at ? s->at[k] : k) * channels; }

#endif
