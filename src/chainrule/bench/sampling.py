"""How much faster cached sampling is than naive sampling.

Naive sampling takes one full pass over the whole batch for every site: 2352 passes for 28×28×3. All passes cost the
same, so a dozen are timed, spread among the cached runs, and their median is multiplied.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from chainrule.models import AutoregressiveModel, PixelCNNMADE


def bench_sampling(
    model: AutoregressiveModel | None = None, n: int = 100, repeats: int = 3, passes: int = 12
) -> dict[str, Any]:
    """Time drawing `n` events, cached and naive.

    Args:
        model: by default the assignment's full size on 28×28×3 with 4 levels, with random weights: what is drawn does
            not change what it costs.
        n: events in one batch.
        repeats: cached runs, of which the median counts.
        passes: full passes that the naive time is estimated from.

    Returns:
        Seconds (median, least and most), `naive_passes`, and `ratio` = naive / cached.
    """
    if model is None:
        torch.manual_seed(0)
        model = PixelCNNMADE((3, 28, 28), 4)
    model.eval()
    x = torch.randint(0, model.levels, (n, *model.shape), generator=torch.Generator().manual_seed(0)).to(model.device)
    cached: list[float] = []
    full: list[float] = []
    with torch.no_grad():
        model.log_pmf(x)
        model.sample(min(n, 2))
        for repeat in range(repeats):
            cached.append(timed(lambda: model.sample(n), model.device))
            for _ in range(passes * (repeat + 1) // repeats - passes * repeat // repeats):
                full.append(timed(lambda: model.log_pmf(x), model.device))
    sites = len(model.sites())
    naive = statistics.median(full) * sites
    return {
        "benchmark": "sampling",
        "model": f"{type(model).__name__}, {sum(p.numel() for p in model.parameters()):,} parameters",
        "samples": n,
        "device": str(model.device),
        "threads": torch.get_num_threads(),
        "cached_seconds": statistics.median(cached),
        "cached_seconds_least": min(cached),
        "cached_seconds_most": max(cached),
        "pass_seconds": statistics.median(full),
        "pass_seconds_least": min(full),
        "pass_seconds_most": max(full),
        "naive_passes": sites,
        "naive_seconds_estimated": naive,
        "ratio": naive / statistics.median(cached),
    }


def timed(action: Callable[[], Any], device: torch.device) -> float:
    """Seconds that `action` takes, its work on a GPU included."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    began = time.perf_counter()
    action()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began
