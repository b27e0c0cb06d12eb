/* How a residual block is shared out among threads. */

#include "training/block.h"

#include "threads.h"

typedef struct {
    const block *b;
    const block_kind *kind;
} job;

/* Parameters of the block. */
static int64_t parameters(const block *b) {
    return (STORED * b->half + 2 * b->filters + 2) * b->half + 3 * b->filters;
}

static void *scratch_of(const job *j, int64_t share, int back) {
    return (char *)j->b->scratch + share * j->kind->room(j->b, back) * j->kind->size;
}

static void forward_share(const void *argument, int64_t share, int64_t shares) {
    const job *j = argument;
    const int64_t images = j->b->images;
    j->kind->forwards(j->b, images * share / shares, images * (share + 1) / shares, scratch_of(j, share, 0));
}

static void backward_share(const void *argument, int64_t share, int64_t shares) {
    const job *j = argument;
    const int64_t images = j->b->images;
    j->kind->backwards(j->b, images * share / shares, images * (share + 1) / shares, scratch_of(j, share, 1),
                       j->b->sums + share * parameters(j->b));
}

/* The sums of all shares, to the first share's. */
static void sum_share(const void *argument, int64_t share, int64_t shares) {
    const block *b = ((const job *)argument)->b;
    const int64_t all = parameters(b), first = all * share / shares, last = all * (share + 1) / shares;
    for (int64_t other = 1; other < shares; other++)
        for (int64_t i = first; i < last; i++) b->sums[i] += b->sums[other * all + i];
}

/* One matrix after the other; backwards in the opposite order, each transposed. */
static void pack_share(const void *argument, int64_t share, int64_t shares) {
    const job *j = argument;
    const block *b = j->b;
    const int64_t c = b->filters, h = b->half, outputs = STORED * h;
    char *first = b->packed, *second = first + c * h * j->kind->size, *third = second + TAPS * h * h * j->kind->size;
    for (int64_t matrix = share; matrix < 3; matrix += shares) {
        if (matrix == 0 && !b->grad) j->kind->pack(first, b->w[0], 1, c, h, 0, 1, c);
        if (matrix == 0 && b->grad) j->kind->pack(first, b->w[2], 1, c, h, 0, h, 1);
        if (matrix == 1 && !b->grad) j->kind->pack(second, b->w[1], TAPS, h, h, h, 1, outputs);
        if (matrix == 1 && b->grad) j->kind->pack(second, b->w[1], TAPS, h, h, h, outputs, 1);
        if (matrix == 2 && !b->grad) j->kind->pack(third, b->w[2], 1, h, c, 0, 1, h);
        if (matrix == 2 && b->grad) j->kind->pack(third, b->w[0], 1, h, c, 0, c, 1);
    }
}

void block_forward(const block *b, const block_kind *kind, int64_t shares) {
    const job j = {b, kind};
    beside_pytorch(pack_share, &j, shares);
    beside_pytorch(forward_share, &j, shares);
}

void block_backward(const block *b, const block_kind *kind, int64_t shares) {
    const job j = {b, kind};
    beside_pytorch(pack_share, &j, shares);
    beside_pytorch(backward_share, &j, shares);
    beside_pytorch(sum_share, &j, shares);
}
