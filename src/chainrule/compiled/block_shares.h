/* How a residual block is shared out among threads; it comes after `forwards`, `backwards`, `room` and `pack`. */

/* Parameters of the block. */
static int64_t numbers(const block *b) {
    return (STORED * b->half + 2 * b->filters + 2) * b->half + 3 * b->filters;
}

static void forward_share(void *argument, int64_t share, int64_t shares) {
    const block *b = argument;
    forwards(b, b->images * share / shares, b->images * (share + 1) / shares, b->scratch + share * room(b, 0));
}

static void backward_share(void *argument, int64_t share, int64_t shares) {
    const block *b = argument;
    backwards(b, b->images * share / shares, b->images * (share + 1) / shares, b->scratch + share * room(b, 1),
              b->sums + share * numbers(b));
}

/* The sums of all shares, to the first share's; `asked` of them, of which fewer may have been given threads. */
static void sum_share(void *argument, int64_t share, int64_t shares) {
    const block *b = argument;
    const int64_t all = numbers(b), first = all * share / shares, last = all * (share + 1) / shares;
    for (int64_t other = 1; other < b->asked; other++)
        for (int64_t i = first; i < last; i++) b->sums[i] += b->sums[other * all + i];
}

/* Shares 0, 1 and 2: one matrix each; backwards in the opposite order, each transposed. */
static void pack_share(void *argument, int64_t share, int64_t shares) {
    const block *b = argument;
    const int64_t c = b->filters, h = b->half;
    PACKED *first = b->packed, *second = first + c * h / TOGETHER, *third = second + TAPS * h * h / TOGETHER;
    for (int64_t matrix = share; matrix < 3; matrix += shares) {
        if (matrix == 0) b->grad ? pack(first, b->w[2], 1, c, h, 0, h, 1) : pack(first, b->w[0], 1, c, h, 0, 1, c);
        if (matrix == 2) b->grad ? pack(third, b->w[0], 1, h, c, 0, c, 1) : pack(third, b->w[2], 1, h, c, 0, 1, h);
        const int64_t outputs = STORED * h;
        if (matrix == 1) pack(second, b->w[1], TAPS, h, h, h, b->grad ? outputs : 1, b->grad ? 1 : outputs);
    }
}

static void block_forward(block *b, int64_t shares) {
    shared_out(pack_share, b, shares);
    shared_out(forward_share, b, shares);
}

static void block_backward(block *b, int64_t shares) {
    shared_out(pack_share, b, shares);
    shared_out(backward_share, b, shares);
    b->asked = shares;
    shared_out(sum_share, b, shares);
}
