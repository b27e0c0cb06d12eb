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
#define SPREAD_SOFTNESS 4

/* nn/least_squares.py */
#define SQUARES_BITS 12
#define FARTHEST_RIGHT 2
#define LARGEST_WEIGHT 4
#define PREDICTION_BITS 10
#define PREDICTIONS 12
#define MOST_PREDICTED 4

/* nn/surroundings.py */
#define NEAR_OWN 6
#define NEAR_LENT 3
#define NEAR_CELL 4
#define NEAR_ROWS 12
#define NEAR_BEFORE 3
#define NEAR_AFTER 1
#define NEAR_UP 2
#define NEAR_LEFT 2
#define NEAR_RIGHT 1
#define NEAR_RIDGE 256
#define NEAR_RUNNING 0
#define NEAR_POWERS 4
#define FAR_OWN 10
#define FAR_LENT 8
#define FAR_CELL 8
#define FAR_ROWS 27
#define FAR_BEFORE 5
#define FAR_AFTER 1
#define FAR_UP 2
#define FAR_LEFT 2
#define FAR_RIGHT 2
#define FAR_RIDGE 128
#define FAR_RUNNING 24
#define FAR_POWERS 1

/* compiled/walk/records.py */
#define NORM 0
#define ACTIVATE 1
#define PRODUCT 2
#define WIDE_PRODUCT 3
#define ADD 4
#define GATE 5
#define SQUARES 6
#define SPREAD 7
#define ATTEND 8
#define PLACE 9
#define RECALL 10
#define LOGITS 0
#define MADE 1
#define MIXTURE 2
#define LANES 16
#define WIDE_LANES 8
#define MOST_TAPS 128
#define GROUP 24
#define MOST_KEYS 4096
#define MOST_DEPTH 128
#define SQUARES_RING 17
#define SQUARES_COLUMNS 8
#define SQUARES_WINDOWS 2
#define SQUARES_BLOCK 8
#define MOST_SQUARES_WEIGHTS 96

/* compiled/training/layer_passes.py */
#define MOST_CHANNELS 1024
#define MOST_ROWS 64

/* compiled/training/block.py */
#define COLUMNS 32

#define PLACES_OF_ALONE {{0, -1}, {-1, 0}, {-1, -1}, {-1, 1}, {0, -2}, {-2, 0}, {-1, 2}, {-1, -2}, {-2, 1}, {-2, -1}}
#define NEAR_OTHERS {{-1, -1}, {-1, 1}, {0, -2}, {-2, 0}, {-2, 1}}
#define NEAR_COLUMNS {0}
#define NEAR_NEAREST {0, 0, 0, 1, 2}
#define FAR_OTHERS {{-1, -1}, {-1, 1}, {0, -2}, {-2, 0}, {-2, 1}, {-1, 2}, {-2, -1}, {-1, -2}, {-2, 2}}
#define FAR_COLUMNS {1, 1, 1, 1, 2, 2, 1}
#define FAR_NEAREST {0, 0, 0, 0, 0, 2, 4}
#define TABLES 1319628551 /* tells those above from others */

/* all of them, in this order */
#define CONSTANTS TOTAL_BITS, LOGIT_BITS, LARGEST_LOGIT, CODER_BITS, WEIGHT_BITS, REACH, STEP_BITS, ARGUMENT_BITS, VALUE_BITS, LENGTH_BITS, SHARE_BITS, SCALED_BITS, CHOICE_BITS, QUERY_BITS, KEY_BITS, ATTENDED_BITS, LARGEST_KEY, SHARPEST, FLATTEST, FARTHEST, COPIED, MIXTURE_LARGEST, SKEW, SOFTNESS, SPREAD_SOFTNESS, SQUARES_BITS, FARTHEST_RIGHT, LARGEST_WEIGHT, PREDICTION_BITS, PREDICTIONS, MOST_PREDICTED, NEAR_OWN, NEAR_LENT, NEAR_CELL, NEAR_ROWS, NEAR_BEFORE, NEAR_AFTER, NEAR_UP, NEAR_LEFT, NEAR_RIGHT, NEAR_RIDGE, NEAR_RUNNING, NEAR_POWERS, FAR_OWN, FAR_LENT, FAR_CELL, FAR_ROWS, FAR_BEFORE, FAR_AFTER, FAR_UP, FAR_LEFT, FAR_RIGHT, FAR_RIDGE, FAR_RUNNING, FAR_POWERS, NORM, ACTIVATE, PRODUCT, WIDE_PRODUCT, ADD, GATE, SQUARES, SPREAD, ATTEND, PLACE, RECALL, LOGITS, MADE, MIXTURE, LANES, WIDE_LANES, MOST_TAPS, GROUP, MOST_KEYS, MOST_DEPTH, SQUARES_RING, SQUARES_COLUMNS, SQUARES_WINDOWS, SQUARES_BLOCK, MOST_SQUARES_WEIGHTS, MOST_CHANNELS, MOST_ROWS, COLUMNS, TABLES

#endif
