"""Small models of every class, and the statistics and independent oracles that the tests of the laws share."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from chainrule.data import Dataset
from chainrule.fixedpoint import exact
from chainrule.heads import HEADS
from chainrule.models import (
    MADE,
    AutoregressiveModel,
    ConditionalMLP,
    GatedPixelCNN,
    GatedPixelCNNMADE,
    GrayscalePixelCNN,
    Histogram,
    ImageGPT,
    ImageModel,
    LogisticPixelCNN,
    PixelCNN,
    PixelCNNMADE,
    PixelSNAIL,
)
from chainrule.nn import AttentionTrunk, GatedTrunk, PredictingTrunk, SnailTrunk
from chainrule.nn.least_squares import ALONE


@dataclass(frozen=True)
class Case:
    """A model small enough that all its outcomes can be written down, or nearly."""

    name: str
    cls: type[AutoregressiveModel]
    make: Callable[[], AutoregressiveModel]
    exact: bool = True

    def build(self):
        torch.manual_seed(0)
        return self.make()


IMAGES = {
    # shape, levels, filters, blocks, layer_norm: odd shapes and sizes, each at least once with every trunk and head
    PixelCNN: [
        ((1, 1, 1), 2, 4, 1, True),
        ((1, 2, 3), 2, 7, 2, True),
        ((1, 3, 2), 2, 6, 1, False),
        ((3, 1, 1), 5, 7, 0, True),
        ((1, 1, 2), 17, 6, 1, True),
    ],
    PixelCNNMADE: [
        ((2, 1, 3), 2, 5, 2, False),
        ((2, 2, 1), 3, 5, 1, True),
        ((3, 1, 2), 3, 6, 1, True),
        ((2, 1, 1), 19, 5, 1, False),
    ],
    GatedPixelCNN: [
        ((1, 2, 3), 2, 7, 2, True),
        ((1, 3, 2), 2, 6, 1, False),
        ((2, 2, 1), 3, 5, 1, True),
        ((1, 1, 2), 17, 6, 1, True),
    ],
    GatedPixelCNNMADE: [((2, 1, 3), 2, 5, 2, False), ((3, 1, 2), 3, 6, 1, True), ((2, 1, 1), 19, 5, 1, False)],
    LogisticPixelCNN: [
        ((1, 1, 1), 2, 4, 1, True, 5),
        ((1, 2, 3), 2, 7, 2, True, 3),
        ((2, 2, 1), 3, 5, 1, True, 2),
        ((3, 1, 2), 3, 6, 1, False, 4),
        ((2, 1, 1), 19, 5, 0, True, 1),
        ((1, 1, 1), 256, 5, 1, True, 10),
        ((2, 1, 1), 19, 5, 0, True, 1, False),
        ((1, 1, 2), 17, 5, 1, False, 2),
        ((1, 1, 2), 17, 5, 1, False, 2, None, 2),
        ((2, 1, 1), 19, 5, 0, True, 1, 2, 3),
        ((1, 1, 2), 20, 5, 1, False, 2, 2),
    ],
    GrayscalePixelCNN: [
        ((2, 1, 2), 3, 5, 1, True),
        ((3, 1, 2), 3, 4, 1, True, 4),
        ((2, 2, 2), 2, 5, 2, False),
        ((2, 1, 1), 19, 4, 1, True),
    ],
    ImageGPT: [
        ((1, 2, 3), 2, "factorised", 7, 2, True),
        ((3, 1, 2), 3, "made", 6, 1, True),
        ((2, 2, 1), 3, "logistic", 5, 1, False),
        ((1, 1, 2), 17, "factorised", 6, 1, True),
        ((3,), 4, "made", 8, 2, True),
    ],
    PixelSNAIL: [
        ((1, 2, 3), 2, "factorised", 7, 2, True),
        ((2, 2, 2), 3, "made", 6, 5, False),
        ((3, 1, 2), 3, "logistic", 5, 0, True),
        ((1, 1, 2), 17, "made", 6, 1, True),
    ],
    ImageModel: [
        ((2, 2, 2), 3, "gated", "logistic", 5, 1, True, 0, 2),
        ((1, 1, 2), 20, "masked", "factorised", 5, 1, True, 0, None, None, "onehot"),
    ],
}


class ChannelsFlipped:
    """An image model with its channels the other way round: all that another order of entries takes."""

    def with_auxiliaries(self, x):
        return x.flip(1)

    def without_auxiliaries(self, y):
        return y.flip(1)

    def known_sites(self, known):
        return known.flip(1)


def _image_cases():
    for cls, rows in IMAGES.items():
        for a in rows:
            sizes = "-".join(str(part) for part in a[2:] if part is not None)
            name = f"{cls.__name__}-{'x'.join(map(str, a[0]))}-L{a[1]}-{sizes}"
            exact = "composes_exactly" in vars(cls) and all(HEADS[part].composes_exactly for part in a if part in HEADS)
            yield Case(name, cls, lambda cls=cls, a=a: cls(*a), exact)


CASES = [
    Case("Histogram-L2", Histogram, lambda: Histogram(2)),
    Case("Histogram-L100", Histogram, lambda: Histogram(100)),
    *(
        Case(f"ConditionalMLP-L{levels}-{encoding}", ConditionalMLP, make)
        for levels, encoding, make in [
            (2, "onehot", lambda: ConditionalMLP(2, "onehot", (5,))),
            (5, "onehot", lambda: ConditionalMLP(5, "onehot", (7, 3))),
            (5, "scalar", lambda: ConditionalMLP(5, "scalar", (9, 9))),
            (3, "embedding", lambda: ConditionalMLP(3, "embedding", (7,), embedding=3)),
            (20, "scalar", lambda: ConditionalMLP(20, "scalar", (9,))),
            (4, "linear", lambda: ConditionalMLP(4, "onehot", ())),
        ]
    ),
    Case("MADE-1-L5", MADE, lambda: MADE((1,), 5, (3,))),
    Case("MADE-2-L20", MADE, lambda: MADE((2,), 20, (9, 7))),
    Case("MADE-3-L5", MADE, lambda: MADE((3,), 5, (11, 9))),
    Case("MADE-5-L2-narrow", MADE, lambda: MADE((5,), 2, (4, 13, 5))),
    Case("MADE-2x2-L3", MADE, lambda: MADE((2, 2), 3, (10,))),
    Case("MADE-2x1x2-L3", MADE, lambda: MADE((2, 1, 2), 3, (11, 11))),
    *_image_cases(),
]
CONDITIONAL_CASES = [
    Case(f"{cls.__name__}-{'x'.join(map(str, shape))}-L{levels}-c{classes}", cls, lambda cls=cls, a=a: cls(*a))
    for cls in (GatedPixelCNN, GatedPixelCNNMADE)
    for a in [
        ((1, 2, 3), 2, 7, 2, True, 3),
        ((2, 1, 3), 2, 6, 1, False, 1),
        ((2, 2, 1), 3, 5, 1, True, 4),
        ((1, 1, 2), 17, 6, 1, True, 2),
    ]
    for shape, levels, *_, classes in [a]
]
"""Models whose every use needs a context; `model.example_context` makes one."""

EXACT_CASES = [case for case in CASES if case.exact]
"""The models that have an exact form: all but those whose class or head does not say so."""


def _one_of_each(fixture, cases):
    """A mark that runs a test on the first case of every class: for what does not depend on sizes, trunks and heads."""
    first = {case.cls: case for case in reversed(cases)}
    return pytest.mark.parametrize(fixture, [pytest.param(case, id=case.name) for case in first.values()])


of_each_class = _one_of_each("case", CASES)
of_each_exact_class = _one_of_each("exact_case", EXACT_CASES)


def randomised(model, std=0.3, dtype=torch.float64, seed=0):
    """The model with normal weights, so that nothing that starts at zero hides an edge, and in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    model = model.to(dtype).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * std)
    return model


SCALES: dict[str, dict] = {}
"""Of the cases so far: a process calibrates a model once, not for every test."""


def exact_twin(case):
    """The exact twin of a case's model with random weights in float32."""
    found = exact(randomised(case.build(), dtype=torch.float32), SCALES.get(case.name))
    SCALES.setdefault(case.name, found.scales)
    return found


def events(model, n, seed=0):
    """Random events of a model's shape and levels."""
    return torch.randint(0, model.levels, (n, *model.shape), generator=torch.Generator().manual_seed(seed))


def some_known(model, x, seed=9):
    """About half of all entries; of whole pixels for a model that completes no parts of them."""
    whole = isinstance(model, GrayscalePixelCNN)
    shape = (len(x), 1, *x.shape[2:]) if whole else x.shape
    return (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < 0.5).expand(x.shape)


def codes(x, levels):
    """The index of each event in the list of all outcomes, as `enumerate_events` orders them."""
    flat = x.reshape(len(x), -1)
    place = levels ** torch.arange(flat.shape[1]).flip(0)
    return (flat * place).sum(1)


def enumerate_events(model):
    """Every outcome of a tiny event, (levels ** dims, *shape)."""
    outcomes = list(itertools.product(range(model.levels), repeat=model.dims))
    return torch.tensor(outcomes).view(-1, *model.shape)


def chi_square_p(counts: Tensor, probabilities: Tensor) -> float:
    """The p-value of Pearson's χ² test of counts against probabilities; rare outcomes are pooled."""
    counts, expected = counts.double(), probabilities.double() * counts.sum()
    order = expected.argsort()
    counts, expected = counts[order], expected[order]
    rare = int((expected < 5).sum())
    while rare and rare < len(expected) and expected[:rare].sum() < 5:
        rare += 1
    if rare:
        counts = torch.cat([counts[:rare].sum()[None], counts[rare:]])
        expected = torch.cat([expected[:rare].sum()[None], expected[rare:]])
    if len(counts) < 2:
        return 1.0
    statistic = ((counts - expected) ** 2 / expected).sum()
    return float(torch.special.gammaincc(torch.tensor((len(counts) - 1) / 2.0).double(), statistic / 2))


def reachable_pixels(height, width, blocks):
    """Which pixels each pixel sees through a 7×7 type-A and `blocks` 3×3 type-B convolutions, by walking the offsets.

    Written from the definition of the masks alone: earlier in raster order within the kernel; what falls outside the
    image carries nothing on. Returns {(row, column): set of (row, column)}.
    """

    def inside(i, j):
        return 0 <= i < height and 0 <= j < width

    first = [(di, dj) for di in range(-3, 1) for dj in range(-3, 4) if di < 0 or dj < 0]
    later = [(-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 0)]
    pixels = list(itertools.product(range(height), range(width)))
    sees = {(i, j): {(i + a, j + b) for a, b in first if inside(i + a, j + b)} for i, j in pixels}
    for _ in range(blocks):
        sees = {(i, j): set().union(*(sees[i + a, j + b] for a, b in later if inside(i + a, j + b))) for i, j in pixels}
    return sees


def reachable_pixels_gated(height, width, blocks):
    """The same for the two stacks of a gated PixelCNN, written from the paper's figure: sets of offsets that add up."""

    def inside(i, j):
        return 0 <= i < height and 0 <= j < width

    pixels = list(itertools.product(range(height), range(width)))
    first = [(-a, b) for a in (1, 2, 3) for b in range(-3, 4)]
    around = [(0, -1), (0, 0), (0, 1), (-1, -1), (-1, 0), (-1, 1)]
    above = {(i, j): {(i + a, j + b) for a, b in first if inside(i + a, j + b)} for i, j in pixels}
    sees = {(i, j): above[i, j] | {(i, j - b) for b in (1, 2, 3) if inside(i, j - b)} for i, j in pixels}
    for _ in range(blocks):
        above = {
            (i, j): set().union(*(above[i + a, j + b] for a, b in around if inside(i + a, j + b))) for i, j in pixels
        }
        sees = {(i, j): sees[i, j] | above[i, j] | (sees[i, j - 1] if j else set()) for i, j in pixels}
    return sees


def may_see(model):
    """The entries that each conditional of a model depends on, by the model's page: {index: set of indices}."""
    indices = list(itertools.product(*map(range, model.walk_shape)))
    if isinstance(model, GrayscalePixelCNN):
        return may_see_with_gray(model, indices)
    if not isinstance(model, ImageModel):
        order = [site.index for site in model.sites()]
        if isinstance(model, Histogram):
            return {index: set() for index in indices}
        return {index: set(order[:position]) for position, index in enumerate(order)}
    channels, height, width = model.walk_shape
    predicts = isinstance(model.trunk, PredictingTrunk)
    trunk = model.trunk.inner if predicts else model.trunk
    reachable = reachable_pixels_gated if isinstance(trunk, GatedTrunk) else reachable_pixels
    sees = reachable(height, width, len(trunk.blocks))
    pixels = list(itertools.product(range(height), range(width)))
    if isinstance(trunk, AttentionTrunk):
        sees = {pixel: set(pixels[:position]) for position, pixel in enumerate(pixels)}
    if isinstance(trunk, SnailTrunk):  # the streams up to a pixel's own, each of which knows what its convolutions saw
        first = reachable_pixels(height, width, 0)
        sees = {pixel: set().union(*(first[other] for other in pixels[: n + 1])) for n, pixel in enumerate(pixels)}
    around = {pixel: predicted_from(model.trunk, height, width, *pixel) for pixel in pixels} if predicts else {}
    if predicts:  # each pixel that is seen is seen with what predictions left of it
        left = {pixel: predicted_from(model.trunk, height, width, *pixel, alone=()) for pixel in pixels}
        sees = {pixel: found.union(*(left[other] for other in found)) for pixel, found in sees.items()}
    result = {}
    for c, i, j in indices:
        result[c, i, j] = {(other, *pixel) for pixel in sees[i, j] for other in range(channels)}
        result[c, i, j] |= {(other, *pixel) for pixel in around.get((i, j), ()) for other in range(channels)}
        if not model.head.independent_channels:
            result[c, i, j] |= {(other, i, j) for other in range(c)}
    return result


def predicted_from(trunk, height, width, row, column, alone=ALONE):
    """The pixels that predictions of one come from: its neighbours, and those of the samples near its cell.

    Without a sample, least squares are a plane through three neighbours.
    """
    pixels = {(row + up, column + right) for up, right in alone}
    for by in (layer.by for layer in trunk.layers()):
        neighbours, found = {(0, -1), (-1, 0), *by.others}, set()
        for i, j in itertools.product(range(by.up, row + 1), range(by.left, width - by.right)):
            down, cells = row - i, j // by.cell - column // by.cell
            if down <= by.rows and -by.before <= cells <= by.after and down >= by.nearest(cells):
                found |= {(i, j), *((i + up, j + right) for up, right in neighbours)}
        near = neighbours if found else {(0, -1), (-1, 0), (-1, -1)}
        pixels |= found | {(row + up, column + right) for up, right in near}
    return {(i, j) for i, j in pixels if 0 <= i < height and 0 <= j < width}


def may_see_with_gray(model, indices):
    """Gray sees earlier gray; colours see what a gated PixelCNN-MADE sees and, on so small images, all gray."""
    gray, colors = may_see(model.gray), may_see(model.colors)
    last = model.shape[0]
    all_gray = {index for index in indices if index[0] == last}
    return {
        index: {(last, *other[1:]) for other in gray[0, *index[1:]]} if index[0] == last else colors[index] | all_gray
        for index in indices
    }


def does_see(model, points=24, seed=0):
    """The entries on which each conditional's logits depend, by differentiating at random points in between levels.

    Predictions have no gradient: a model that makes them is looked at by changing entries.
    """
    if isinstance(getattr(model, "trunk", None), PredictingTrunk):
        return does_change(model, points // 4, seed)
    generator = torch.Generator().manual_seed(seed)
    v = torch.rand(points, *model.walk_shape, generator=generator, dtype=torch.float64)
    for site in model.sites():
        v[(slice(None), *site.index)] *= site.levels - 1
    v.requires_grad_()
    logits = model._logits(v).clamp(min=-1e3)
    weight = torch.randn(logits.shape[-1], generator=generator, dtype=torch.float64)
    mixed = logits @ weight
    result = {}
    for index in itertools.product(*map(range, model.walk_shape)):
        target = mixed[(slice(None), *index)].sum()
        (gradient,) = torch.autograd.grad(target, v, retain_graph=True, allow_unused=True)
        nonzero = [] if gradient is None else gradient.abs().amax(0).nonzero().tolist()
        result[index] = {tuple(found) for found in nonzero}
    return result


def does_change(model, points, seed):
    """The same by changing one entry after the other of random events."""
    generator = torch.Generator().manual_seed(seed)
    indices = list(itertools.product(*map(range, model.walk_shape)))
    result = {index: set() for index in indices}
    with torch.no_grad():
        for _ in range(points):
            x = torch.randint(model.levels, model.walk_shape, generator=generator)
            changed = x.repeat(len(indices), *[1] * x.ndim)
            for n, index in enumerate(indices):
                changed[(n, *index)] = (x[index] + model.levels // 2) % model.levels
            differ = (model._logits(changed.double()) - model._logits(x[None].double())).abs().amax(-1) > 1e-12
            for n, index in enumerate(indices):
                for found in differ[n].nonzero().tolist():
                    result[tuple(found)].add(index)
    return result


def tiny_dataset(shape=(3,), levels=4, n=60, seed=0, name="tiny"):
    """Events in which every entry leans on the one before, so that there is something to learn."""
    generator = torch.Generator().manual_seed(seed)
    flat = torch.randint(0, levels, (n, torch.Size(shape).numel()), generator=generator)
    for d in range(1, flat.shape[1]):
        keep = torch.rand(n, generator=generator) < 0.7
        flat[:, d] = torch.where(keep, flat[:, d - 1], flat[:, d])
    x = flat.view(n, *shape).to(torch.uint8)
    return Dataset(name, levels, train=x[: n * 2 // 3], validation=x[n * 2 // 3 : n * 5 // 6], test=x[n * 5 // 6 :])
