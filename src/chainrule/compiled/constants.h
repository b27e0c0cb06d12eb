/* Made by `python -m chainrule.compiled.constants` from the Python files that own these numbers. */

#ifndef CHAINRULE_CONSTANTS_H
#define CHAINRULE_CONSTANTS_H

/* fixedpoint/exact_softmax.py */
#define TOTAL_BITS 22
#define LOGIT_BITS 10
#define LARGEST_LOGIT 16777216
#define CODER_BITS 24
#define WEIGHT_BITS 31

/* fixedpoint/exact_logistic.py */
#define REACH 23
#define STEP_BITS 7
#define ARGUMENT_BITS 20
#define VALUE_BITS 32
#define LENGTH_BITS 10
#define SHARE_BITS 20
#define SCALED_BITS 40
#define CHOICE_BITS 8

/* fixedpoint/exact_attention.py */
#define QUERY_BITS 10
#define KEY_BITS 10
#define ATTENDED_BITS 12
#define LARGEST_KEY 65536

/* heads/mixture.py */
#define SHARPEST 16
#define FLATTEST 16
#define FARTHEST 16
#define COPIED 2
#define MIXTURE_LARGEST 16384

/* nn/fronts.py */
#define SKEW 4

/* nn/prediction.py */
#define SOFTNESS 16

/* nn/least_squares.py */
#define SQUARES_BITS 12
#define CELL 4
#define ROWS 12
#define BEFORE 3
#define AFTER 1
#define OWN 6
#define LENT 3
#define UP 2
#define LEFT 2
#define RIGHT 1
#define FARTHEST_RIGHT 2
#define RIDGE 256
#define WEIGHTS 4
#define LARGEST_WEIGHT 4
#define PREDICTION_BITS 10
#define PREDICTIONS 12
#define MOST_PREDICTED 4

/* compiled/walk/records.py */
#define NORM 0
#define ACTIVATE 1
#define PRODUCT 2
#define WIDE_PRODUCT 3
#define ADD 4
#define GATE 5
#define SQUARES 6
#define ATTEND 7
#define PLACE 8
#define RECALL 9
#define LOGITS 0
#define MADE 1
#define MIXTURE 2
#define LANES 16
#define WIDE_LANES 8
#define MOST_TAPS 128
#define GROUP 24
#define MOST_KEYS 4096
#define MOST_DEPTH 128
#define SQUARES_RING 16
#define SQUARES_BLOCK 8
#define MOST_SQUARES_WEIGHTS 80

/* compiled/training/layer_passes.py */
#define MOST_CHANNELS 1024
#define MOST_ROWS 64

/* compiled/training/block.py */
#define COLUMNS 32

#define PLACES_OF_OTHERS {{-1, -1}, {-1, 1}, {0, -2}, {-2, 0}, {-2, 1}}
#define PLACES_OF_ALONE {{0, -1}, {-1, 0}, {-1, -1}, {-1, 1}, {0, -2}, {-2, 0}, {-1, 2}, {-1, -2}, {-2, 1}, {-2, -1}}

/* all of them, in this order */
#define CONSTANTS TOTAL_BITS, LOGIT_BITS, LARGEST_LOGIT, CODER_BITS, WEIGHT_BITS, REACH, STEP_BITS, ARGUMENT_BITS, VALUE_BITS, LENGTH_BITS, SHARE_BITS, SCALED_BITS, CHOICE_BITS, QUERY_BITS, KEY_BITS, ATTENDED_BITS, LARGEST_KEY, SHARPEST, FLATTEST, FARTHEST, COPIED, MIXTURE_LARGEST, SKEW, SOFTNESS, SQUARES_BITS, CELL, ROWS, BEFORE, AFTER, OWN, LENT, UP, LEFT, RIGHT, FARTHEST_RIGHT, RIDGE, WEIGHTS, LARGEST_WEIGHT, PREDICTION_BITS, PREDICTIONS, MOST_PREDICTED, NORM, ACTIVATE, PRODUCT, WIDE_PRODUCT, ADD, GATE, SQUARES, ATTEND, PLACE, RECALL, LOGITS, MADE, MIXTURE, LANES, WIDE_LANES, MOST_TAPS, GROUP, MOST_KEYS, MOST_DEPTH, SQUARES_RING, SQUARES_BLOCK, MOST_SQUARES_WEIGHTS, MOST_CHANNELS, MOST_ROWS, COLUMNS

#endif
