/* Layer norm of pixels that lie side by side, for norm.c and for blocks that hold a norm. */

#ifndef CHAINRULE_NORM_H
#define CHAINRULE_NORM_H

#include <stdint.h>

typedef struct {
    int64_t pixels, channels, step;           /* numbers from one pixel of y, or of its gradient, to the next */
    int64_t bfloat16, relu;                   /* whether numbers are bfloat16, whether a ReLU follows */
    double eps;
    const void *x;
    const float *gain, *bias;
    void *y;           /* the output */
    float *moments;    /* (pixels, 2): the mean, and one over the standard deviation */
    const void *grad;  /* backwards: the gradient of the output, */
    const void *plus;  /* and what is added to that of the input, if anything */
    void *x_grad;      /* the gradients of the input, */
    float *sums;       /* and of gain and bias, (shares, 2, channels), which are added to what is there */
} norm;

/* Pixels `first` to `last`; forwards without a grad, with one backwards. */
void norm_pixels(const norm *n, int64_t first, int64_t last, int64_t share);

#endif
