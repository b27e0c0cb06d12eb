"""What is measured and drawn of a run's model, for the report to show: receptive field, samples, tables, colourings."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from chainrule import data, metrics, sampling
from chainrule.evaluation import log2_joint, receptive_field
from chainrule.lab.recipes import Recipe, get_recipe

SAMPLES = 1000
"""Samples of a one-dimensional model, as the assignment asks."""
PAIR_SAMPLES = 100_000
"""Samples of a two-dimensional model: as many as the data."""
IMAGE_SAMPLES = 100
"""Samples of an image model, as the assignment asks."""
SIDE = 48
"""Height and width of the samples of a model of pictures of any size."""
GRAY_IMAGES, COLORINGS = 8, 5
"""Gray images of test images, and how often each is coloured."""


def before_training(recipe: Recipe, dataset: data.Dataset) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What is measured at random initialisation: for images, the receptive field of the centre's first channel.

    It is that of the network at the assignment's size, whatever size this run has.
    """
    if len(dataset.shape) != 3:
        return {}, {}
    torch.manual_seed(recipe.train.seed)
    reference = get_recipe(recipe.name, "full").model
    model = reference.build(dataset.shape, dataset.levels)
    if not model.has_likelihood:  # there is no log p to differentiate
        return {}, {}
    if model.any_size:
        model = model.sized(recipe.train.crop, recipe.train.crop)
    _, height, width = model.shape
    size = "{blocks} blocks, {filters} filters".format(**asdict(reference))
    return {"receptive_field_of": size}, {"receptive_field": receptive_field(model, (0, height // 2, width // 2))}


def measure(
    model: Any, dataset: data.Dataset, result: dict[str, Any], arrays: dict[str, np.ndarray], seed: int
) -> None:
    """Samples, and what is particular to one and to two dimensions, and to models with auxiliary variables."""
    generator = torch.Generator().manual_seed(seed)
    n = {(1,): SAMPLES, (2,): PAIR_SAMPLES}.get(model.shape, IMAGE_SAMPLES)
    began = time.perf_counter()
    size = (SIDE, SIDE) if model.any_size else None
    samples = model.sample(n, model.example_context(n), generator, size=size).cpu().numpy()
    result["sample_seconds"], result["sample_count"] = round(time.perf_counter() - began, 3), n
    arrays["samples"] = small(samples, dataset.levels)
    if model.shape == (1,):
        measure_table(model, dataset, result, arrays)
    if dataset.truth is not None:
        log2_q = log2_joint(model)
        result["exact_bits_per_dim"] = metrics.cross_entropy_bits(dataset.truth, log2_q) / 2
        result["entropy_bits_per_dim"] = metrics.entropy_bits(dataset.truth) / 2
        result["kl_bits"] = metrics.kl_bits(dataset.truth, log2_q)
        arrays["truth"], arrays["model_joint"] = dataset.truth, np.exp2(log2_q)
    if model.shape == (2,) and "encoding" in model.config:
        result["encoding"] = model.config["encoding"]
    if hasattr(model, "gray"):
        measure_gray(model, dataset, result, arrays, generator)


def measure_table(model: Any, dataset: data.Dataset, result: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """One variable: the model's probabilities, the frequencies of samples and data, and how far they are apart."""
    everything = torch.cat([dataset.train, dataset.validation, dataset.test]).numpy()
    arrays["model_pmf"] = model.log_pmf(dataset.test[:1])[0, 0].double().exp().detach().cpu().numpy()
    for name, x in (("sample_frequencies", arrays["samples"]), ("data_frequencies", everything)):
        arrays[name] = np.bincount(x.ravel(), minlength=dataset.levels) / len(x)
    arrays["offset"] = np.array(dataset.offset)
    names = {"model": "model_pmf", "samples": "sample_frequencies", "data": "data_frequencies"}
    for p, q in (("model", "data"), ("samples", "data"), ("samples", "model")):
        result[f"total_variation_{p}_{q}"] = metrics.total_variation(arrays[names[p]], arrays[names[q]])


def measure_gray(
    model: Any,
    dataset: data.Dataset,
    result: dict[str, Any],
    arrays: dict[str, np.ndarray],
    generator: torch.Generator,
) -> None:
    """What the auxiliary gray image costs, and what the colours cost given it, in bits for each entry; and colourings.

    The gray image is what the walk has beside the event's own channels: one more channel, after the last.
    """
    channels = model.shape[0]
    total = torch.zeros(2, dtype=torch.float64)
    with torch.no_grad():
        for part in dataset.test.split(100):
            log_p = model.site_log_probs(part).double().cpu()
            total += torch.stack([log_p[:, channels:].sum(), log_p[:, :channels].sum()])
    for name, nats in zip(("gray", "color"), total.tolist(), strict=True):
        result[f"{name}_bits_per_dim"] = metrics.bits_per_dim(-nats / len(dataset.test), model.dims)
    originals = dataset.test[:GRAY_IMAGES].to(model.device)
    given = model.with_auxiliaries(originals).long().repeat_interleave(COLORINGS, 0)
    known = torch.zeros(given.shape, dtype=torch.bool, device=given.device)
    known[:, channels:] = True
    draw = sampling.Draw(sampling.uniforms(model, len(given), generator), given, known)
    colorings = sampling.walk(model, len(given), draw).unflatten(0, (len(originals), COLORINGS))
    arrays["originals"] = originals.cpu().numpy()
    arrays["gray_given"] = given[::COLORINGS, -1].cpu().numpy().astype(np.uint8)
    arrays["colorings"] = small(colorings.cpu().numpy(), dataset.levels)
    arrays["gray_levels"] = np.array(max(site.levels for site in model.sites() if site.index[0] >= channels))


def small(x: np.ndarray, levels: int) -> np.ndarray:
    """Levels as bytes, where they fit."""
    return x.astype(np.uint8 if levels <= 256 else np.int32)
