"""Nats to bits to bits per dimension, once and for all; and exact figures where the truth is known."""

from __future__ import annotations

import math

import numpy as np


def bits(nats: float) -> float:
    """Nats to bits.

    >>> round(bits(math.log(8)), 6)
    3.0
    """
    return nats / math.log(2)


def bits_per_dim(nats: float, dims: int) -> float:
    """The negative log-likelihood of one event in nats, as bits for each of its `dims` entries.

    >>> round(bits_per_dim(math.log(16), 2), 6)
    2.0
    """
    return bits(nats) / dims


def entropy_bits(p: np.ndarray) -> float:
    """Entropy of a distribution given as an array of any shape that sums to 1, in bits.

    >>> entropy_bits(np.full((2, 2), 0.25))
    2.0
    """
    p = np.asarray(p, np.float64)
    return float(-(p[p > 0] * np.log2(p[p > 0])).sum())


def cross_entropy_bits(p: np.ndarray, log2_q: np.ndarray) -> float:
    """Exact cross-entropy -Σ p log2 q of a model `q` under the truth `p`, in bits: no sampling noise.

    >>> cross_entropy_bits(np.array([0.5, 0.5]), np.array([-1.0, -2.0]))
    1.5
    """
    p = np.asarray(p, np.float64)
    return float(-(p[p > 0] * np.asarray(log2_q, np.float64)[p > 0]).sum())


def kl_bits(p: np.ndarray, log2_q: np.ndarray) -> float:
    """Kullback-Leibler divergence KL(p ‖ q) in bits."""
    return cross_entropy_bits(p, log2_q) - entropy_bits(p)


def total_variation(p: np.ndarray, q: np.ndarray) -> float:
    """Total variation distance ½ Σ |p - q|: the largest difference in probability that any set of outcomes shows.

    >>> total_variation(np.array([1.0, 0.0]), np.array([0.5, 0.5]))
    0.5
    """
    return float(0.5 * np.abs(np.asarray(p, np.float64) - np.asarray(q, np.float64)).sum())
