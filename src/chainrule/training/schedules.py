"""Learning-rate schedules: what is left of the highest rate, as a function of how much of the run is done."""

from __future__ import annotations

import math
from collections.abc import Callable

SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda done: 1.0,
    "linear": lambda done: 1 - done,
    "cosine": lambda done: 0.5 * (1 + math.cos(math.pi * done)),
}
"""`done` is the fraction of the steps after the warm-up, in [0, 1]. A line here is all that a new schedule needs."""


def rate(schedule: str, step: int, steps: int, warmup: int = 0) -> float:
    """The learning rate of step 0, 1, … as a fraction of its highest: a linear warm-up, then the schedule.

    >>> [round(rate("linear", step, steps=4), 2) for step in range(4)]
    [1.0, 0.75, 0.5, 0.25]
    """
    if step < warmup:
        return (step + 1) / warmup
    return SCHEDULES[schedule]((step - warmup) / max(steps - warmup, 1))
