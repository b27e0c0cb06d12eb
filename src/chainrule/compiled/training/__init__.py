"""Passes of layers as compiled code, for training on a CPU."""
