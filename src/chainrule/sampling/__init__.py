"""The one loop: draw, complete and score an event entry by entry, by whichever engine runs it."""

from chainrule.sampling import engines, graphs
from chainrule.sampling.walking import (
    BATCH,
    Draw,
    at,
    batches,
    complete,
    evaluating,
    inverse_cdf,
    quantile,
    sample,
    score,
    uniforms,
    walk,
)

__all__ = [
    "BATCH",
    "Draw",
    "at",
    "batches",
    "complete",
    "engines",
    "evaluating",
    "graphs",
    "inverse_cdf",
    "quantile",
    "sample",
    "score",
    "uniforms",
    "walk",
]
