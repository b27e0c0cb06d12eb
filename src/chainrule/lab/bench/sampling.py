"""How much faster cached sampling is than naive sampling, and how its cost grows.

Naive sampling takes one full pass over the whole batch for every site: 2352 passes for 28×28×3. (Much published code
takes one for every pixel, and so draws the channels of a pixel as if they were independent.) All passes cost the same,
so a dozen are timed, spread among the cached runs, and their median is multiplied. A pass is that of the usual code,
the plain PixelCNN-MADE of reference.py with the same weights; our own is timed as well, and is the only one for models
that the reference does not cover.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import Any

import torch

from chainrule import sampling
from chainrule.errors import ModelError
from chainrule.lab.bench.measuring import peak_megabytes, timed
from chainrule.lab.bench.reference import PlainPixelCNNMADE, covers
from chainrule.models import AutoregressiveModel, PixelCNNMADE
from chainrule.sampling import engines

TOGETHER = 100
"""A full pass takes so many events at once: more would need gigabytes, and are no faster."""


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
        Seconds (median, least and most), `naive_passes`, and `ratio` = naive / cached; for images also the ratio to one
        full pass for each pixel; `own_pass_seconds` and `ratio_to_own_passes`, by this model's own parallel pass.
        Memory in 10⁶ bytes, of the process or the GPU: after the cached runs, before any full pass.

    Raises:
        ModelError: the model has no likelihood.
    """
    if model is None:
        model = full_size()
    if not model.has_likelihood:
        raise ModelError(f"the sampling benchmark scores by full passes, and {type(model).__name__} has no likelihood")
    model.eval()
    together = min(n, TOGETHER)
    x = torch.randint(0, model.levels, (together, *model.shape), generator=torch.Generator().manual_seed(0))
    x = x.to(model.device)
    cached: list[float] = []
    full: list[float] = []
    own: list[float] = []
    with torch.no_grad(), sampling.evaluating(model):
        model.sample(n)
        memory = peak_megabytes(model.device)
        plain = PlainPixelCNNMADE(model).to(x.device) if covers(model) else None
        one_pass = model.log_pmf if plain is None else plain.logits
        one_pass(x), model.log_pmf(x)
        for repeat in range(repeats):
            cached.append(timed(lambda: model.sample(n), model.device))
            for _ in range(passes * (repeat + 1) // repeats - passes * repeat // repeats):
                full.append(timed(lambda: one_pass(x), model.device) * n / together)
                own.append(timed(lambda: model.log_pmf(x), model.device) * n / together)
        faster = engines.FASTER.get("compiled")
        compiled = faster is not None and faster.walk(model, 1) is not None
    sites = len(model.sites())
    naive = statistics.median(full) * sites
    figures: dict[str, Any] = {
        "benchmark": "sampling",
        "model": f"{type(model).__name__}, {sum(p.numel() for p in model.parameters()):,} parameters",
        "shape": list(model.shape),
        "samples": n,
        "device": str(model.device),
        "threads": torch.get_num_threads(),
        "pass_of": "this model" if plain is None else "the plain reference",
        "compiled_walk": compiled,
        "cached_seconds": statistics.median(cached),
        "cached_seconds_least": min(cached),
        "cached_seconds_most": max(cached),
        "cached_peak_megabytes": memory,
        "pass_seconds": statistics.median(full),
        "pass_seconds_least": min(full),
        "pass_seconds_most": max(full),
        "naive_passes": sites,
        "naive_seconds_estimated": naive,
        "ratio": naive / statistics.median(cached),
        "own_pass_seconds": statistics.median(own),
        "ratio_to_own_passes": statistics.median(own) * sites / statistics.median(cached),
    }
    if len(model.shape) == 3:
        figures["ratio_to_a_pass_for_each_pixel"] = figures["ratio"] / model.shape[0]
    return figures


def bench_growth(repeats: int = 1) -> Iterator[dict[str, Any]]:
    """How the cost of sampling grows with the batch, the image's side, the filters and the blocks, one at a time."""
    base = {"batch": 100, "side": 28, "filters": 128, "blocks": 12}
    changes = [{}, *({"batch": n} for n in (1, 10, 1000)), {"side": 14}, {"side": 56}]
    changes += [*({"filters": n} for n in (32, 64, 256)), *({"blocks": n} for n in (3, 6, 24))]
    for change in changes:
        size = base | change
        model = full_size(size["side"], size["filters"], size["blocks"])
        figures = bench_sampling(model, size["batch"], repeats, passes=2)
        kept = ("cached_seconds", "pass_seconds", "naive_passes", "ratio")
        yield {**size, **{name: figures[name] for name in kept}}


def full_size(side: int = 28, filters: int = 128, blocks: int = 12) -> PixelCNNMADE:
    """A PixelCNN-MADE of the assignment's size, or of another, with random weights."""
    torch.manual_seed(0)
    return PixelCNNMADE((3, side, side), 4, filters, blocks)
