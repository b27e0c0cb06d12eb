/* Made by `python -m chainrule.compiled.constants` from the Python files that own these numbers. */

#ifndef CHAINRULE_CONSTANTS_H
#define CHAINRULE_CONSTANTS_H

/* fixedpoint/exact_softmax.py */
#define TOTAL_BITS 22
#define LOGIT_BITS 10
#define LARGEST_LOGIT 16777216
#define CODER_BITS 24

/* compiled/walk/program.py */
#define NORM 0
#define ACTIVATE 1
#define PRODUCT 2
#define WIDE_PRODUCT 3
#define ADD 4
#define LANES 16
#define WIDE_LANES 8
#define MOST_TAPS 128

/* compiled/training/layer_passes.py */
#define MOST_CHANNELS 1024
#define MOST_ROWS 64

/* compiled/training/block.py */
#define COLUMNS 32

/* all of them, in this order */
#define CONSTANTS TOTAL_BITS, LOGIT_BITS, LARGEST_LOGIT, CODER_BITS, NORM, ACTIVATE, PRODUCT, WIDE_PRODUCT, ADD, LANES, WIDE_LANES, MOST_TAPS, MOST_CHANNELS, MOST_ROWS, COLUMNS

#endif
