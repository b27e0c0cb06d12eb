/* A residual block of PixelCNN, forwards and back, whatever the type of its numbers:

       y = x + W₃ relu(W₂ ⊛ relu(W₁ relu(norm(x))))

   How it is shared out among threads is the same for all types (block.c); how a thread takes its images is a `block_kind`
   (block_float.c, block_bfloat16.c). */

#ifndef CHAINRULE_BLOCK_H
#define CHAINRULE_BLOCK_H

#include <stdint.h>

#define TAPS 5   /* of a masked 3×3 kernel of type B, in raster order, */
#define STORED 6 /* and with the one behind them, which two lines of a kernel have and the mask takes out */

enum { PLAIN, RELU, MASKED }; /* what is done to a product: nothing, ReLU, zero where another field is not positive */

/* "Numbers" are of the block's type: float, or uint16_t that holds a bfloat16. */
typedef struct {
    int64_t images, height, width, filters, half; /* the block's filters, and half as many within it */
    double eps;
    const void *x;                   /* numbers (images, height, width, filters) */
    const float *gain, *shift;       /* of the norm */
    const float *w[3], *b[3];        /* (half, filters), (half, STORED, half), (filters, half); biases */
    void *packed;                    /* room for the matrices, each as its product reads it */
    float *moments;                  /* of the norm, (images, height · width, 2) */
    void *narrow;                    /* numbers: what two convolutions gave, for each image */
    void *y;                         /* numbers like x: the output or, backwards, the gradient of x */
    const void *grad;                /* backwards: of y */
    float *sums;                     /* the gradients of all parameters: (shares, their numbers) */
    void *scratch;                   /* numbers (shares, what `room` says) */
} block;

typedef struct {
    int64_t size;                               /* bytes of a number */
    int64_t (*room)(const block *b, int back);  /* numbers in one thread's scratch */
    void (*forwards)(const block *b, int64_t first, int64_t last, void *scratch); /* images first … last - 1 */
    void (*backwards)(const block *b, int64_t first, int64_t last, void *scratch, float *sums);
    /* a matrix (taps, depth, columns), which lies at these steps, as the product reads it */
    void (*pack)(void *to, const float *from, int64_t taps, int64_t depth, int64_t columns, int64_t tap_step,
                 int64_t row_step, int64_t column_step);
} block_kind;

void block_forward(const block *b, const block_kind *kind, int64_t shares);
void block_backward(const block *b, const block_kind *kind, int64_t shares);

#endif
