/* What the residual blocks of both types of numbers have in common. Before it come NUMBER, PACKED and TOGETHER: the type
   of what flows through the block, that of the matrices, and how many numbers one of the latter holds. */

#define TAPS 5   /* of a masked 3×3 kernel of type B, in raster order, */
#define STORED 6 /* and with the one behind them, which two lines of a kernel have and the mask takes out */

typedef struct {
    int64_t images, height, width, filters, half; /* the block's filters, and half as many within it */
    double eps;
    const NUMBER *x;                              /* (images, height, width, filters) */
    const float *gain, *shift;                    /* of the norm */
    const float *w[3], *b[3];                     /* (half, filters), (half, STORED, half), (filters, half); biases */
    PACKED *packed;                               /* room for the matrices, each as its product reads it */
    float *moments;                               /* of the norm, (images, height · width, 2) */
    NUMBER *narrow;                               /* what two convolutions gave, for each image */
    NUMBER *y;                                    /* or, backwards, the gradient of x */
    const NUMBER *grad;                           /* backwards: of y */
    float *sums;                                  /* the gradients of all parameters: (shares, their numbers) */
    NUMBER *scratch;                              /* (shares, what `room` says) */
    int64_t asked;                                /* shares that the sums may be spread over */
} block;
