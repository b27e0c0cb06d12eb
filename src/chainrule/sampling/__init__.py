"""The one loop: draw, complete and score an event entry by entry."""

from chainrule.sampling.walking import (
    BATCH,
    Choose,
    Conditional,
    Draw,
    Method,
    NaiveWalk,
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
    "Choose",
    "Conditional",
    "Draw",
    "Method",
    "NaiveWalk",
    "at",
    "batches",
    "complete",
    "evaluating",
    "inverse_cdf",
    "quantile",
    "sample",
    "score",
    "uniforms",
    "walk",
]
