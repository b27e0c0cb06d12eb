"""The walk over an image's pixels as compiled code, for stacks of masked convolutions."""
