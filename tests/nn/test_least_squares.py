"""Local least squares: what it solves, what it may know, and that every way to compute it gives the same numbers."""

from __future__ import annotations

import pytest
import torch

from chainrule.compiled.library import available
from chainrule.compiled.training import layer_passes
from chainrule.nn import passes
from chainrule.nn.fronts import LAG, Fronts
from chainrule.nn.least_squares import (
    LARGEST_WEIGHT,
    MOST_LEVELS,
    WEIGHT_BITS,
    LocalLeastSquares,
)
from chainrule.nn.surroundings import FAR, NEAR

KINDS = pytest.mark.parametrize("by", [NEAR, FAR], ids=["near", "far"])

SHAPES = [(1, 3, 22, 25), (2, 3, 17, 3), (1, 1, 20, 23), (3, 4, 9, 14), (1, 3, 1, 1), (1, 2, 5, 9), (2, 3, 0, 4)]


def layer_by(by, channels, levels=256):
    """As models have it: other predictions come with the near kind only."""
    return LocalLeastSquares(channels, levels, by, alone=by is NEAR)


@pytest.fixture
def plainly(monkeypatch):
    """By PyTorch alone."""
    monkeypatch.setattr(passes, "_PASSES", {})


def smooth(shape, seed=0):
    """Pixels in half-bins: waves, with noise on top."""
    generator = torch.Generator().manual_seed(seed)
    channels, height, width = shape[1:]
    rows, columns = torch.arange(height)[:, None], torch.arange(width)
    waves = [
        40 * torch.sin(0.3 * rows + 0.2 * c) + 50 * torch.cos(0.25 * columns + 0.1 * rows) for c in range(channels)
    ]
    noise = torch.randint(-6, 7, shape, generator=generator)
    return 2 * (torch.stack(waves).round() + 128 + noise).clamp(0, 255) - 255.0


def naive(layer, u, row, column):
    """The numbers of a pixel of one picture (C, H, W) by the definition, sample by sample, with another solver."""
    channels, height, width = u.shape
    by, own = layer.by, layer.own
    variables, base = layer.variables_of(u[None].double(), torch.ones(height, width, dtype=torch.float64))
    near, cell, samples, weights = by.weights(), column // by.cell, [], []
    for i in range(max(by.up, row - by.rows), row + 1):
        for j in range(
            max(by.left, by.cell * (cell - by.before)), min(width - by.right, by.cell * (cell + by.after + 1))
        ):
            weight = float(near[by.rows + i - row, by.before + j // by.cell - cell])
            if weight:
                samples.append(variables[0, :, i, j])
                weights.append(weight)
    predicted, slopes = [], []
    for c in range(channels):
        chosen, target = layer.regressors(c), (own + 1) * c + own
        a = by.ridge * torch.eye(len(chosen)).double()
        y = by.ridge * torch.tensor(layer.start_weights(c)).double()
        for sample, weight in zip(samples, weights, strict=True):
            f = sample[chosen]
            a, y = a + weight * f.outer(f), y + weight * sample[target] * f
        found = torch.linalg.solve(a, y).mul(2.0**WEIGHT_BITS).round().clamp(-(2.0**14), 2.0**14) / 2.0**WEIGHT_BITS
        inputs = variables[0, chosen, row, column].clone()
        for j in range(c):
            inputs[own + (by.lent + 1) * j] = 2 * predicted[j] - base[0, j, row, column]
            slopes.append(found[own + (by.lent + 1) * j])
        predicted.append(((base[0, c, row, column] + found @ inputs) * 2**9).round() / 2**10)
    return torch.stack([*predicted, *slopes]).float()


@KINDS
def test_it_solves_what_it_says(plainly, by):
    layer, u = layer_by(by, 3), smooth((1, 3, 34, 41))
    found = layer(u)[0]
    for row, column in [(0, 0), (1, 5), (3, 40), (10, 0), (27, 17), (33, 40)]:
        wanted = naive(layer, u[0], row, column)
        numbers = torch.cat([found[:3, row, column], found[3 * layer.predictions :, row, column]])
        assert torch.allclose(numbers, wanted, atol=2.0**-9), (row, column)


STEPS = [
    *((NEAR, shape) for shape in SHAPES[1:]),
    *((FAR, shape) for shape in ((1, 1, 31, 11), (2, 3, 6, 9), (1, 3, 1, 1))),
]


@pytest.mark.parametrize(("by", "shape"), STEPS)
def test_pixels_one_by_one_and_front_by_front(plainly, shape, by):
    batch, channels, height, width = shape
    layer, u = layer_by(by, channels), smooth(shape)
    wanted = layer(u)
    state = layer.start(batch, height, width, u.device)
    for row in range(height):
        for column in range(width):
            place = torch.tensor([row]), torch.tensor([column])
            assert torch.equal(state.numbers(*place), wanted[:, :, row, column])
            state.observe(*place, u[:, :, row, column])
    state, fronts = layer.start(batch, height, width, u.device), Fronts(height, width, batch)
    for front in range(len(fronts) if height else 0):
        rows, columns = fronts[front]
        found = state.numbers(rows, columns)
        assert torch.equal(found, wanted[:, :, rows, columns].permute(2, 0, 1).flatten(0, 1))
        state.observe(rows, columns, u[:, :, rows, columns].permute(2, 0, 1).flatten(0, 1))


@pytest.mark.skipif(not available(), reason="there is no compiled code")
@pytest.mark.parametrize("shape", [*SHAPES, (1, 3, 40, 70)])
@pytest.mark.parametrize("content", ["smooth", "noise", "extremes"])
@KINDS
def test_compiled_code_gives_the_same_numbers(shape, content, by, monkeypatch):
    layer, generator = layer_by(by, shape[1]), torch.Generator().manual_seed(1)
    kinds = {
        "smooth": smooth(shape),
        "noise": 2.0 * torch.randint(256, shape, generator=generator) - 255,
        "extremes": 510.0 * torch.randint(2, shape, generator=generator) - 255,
    }
    assert layer_passes.squares_fit(layer, kinds[content])
    found = layer_passes.squares(layer, kinds[content])
    monkeypatch.setattr(passes, "_PASSES", {})
    assert torch.equal(found, layer(kinds[content]))


@KINDS
def test_nothing_that_comes_later_matters(by):
    """Neither in raster order nor by fronts: all that is not known yet is drawn anew."""
    layer, u = layer_by(by, 3), smooth((1, 3, 24, 26))
    wanted = layer(u)
    rows, columns = torch.arange(24)[:, None], torch.arange(26)
    for row, column in [(0, 0), (2, 25), (7, 3), (14, 12), (14, 16), (23, 8), (23, 21)]:
        other = smooth(u.shape, seed=9).flip(-1)
        later = (rows > row) | ((rows == row) & (columns >= column))
        changed = layer(torch.where(later | (columns + LAG * rows >= column + LAG * row), other, u))
        assert torch.equal(changed[..., row, column], wanted[..., row, column])


@KINDS
def test_it_sees_as_far_as_it_says(by):
    """To the left, to the right in the rows above, and up."""
    layer, u, (row, column) = layer_by(by, 1), smooth((1, 1, 40, 66)), (36, 48)
    cells = range(-by.before, by.after + 1)
    farthest = [(-by.nearest(cell), by.cell * (cell + 1) - 1) for cell in cells if cell >= 0]
    for down, right in [(-1, 2), (0, -by.cell * by.before), (-by.top, by.cell if by is FAR else 0), *farthest]:
        other = u.clone()
        other[..., row + down, column + right] += 100
        assert not torch.equal(layer(other)[..., row, column], layer(u)[..., row, column])
    other = u.clone()
    other[..., : row - by.top, :] += 100
    assert torch.equal(layer(other)[..., row, column], layer(u)[..., row, column])


@KINDS
def test_a_brighter_picture_has_a_prediction_as_much_brighter(by):
    layer, u = layer_by(by, 3), smooth((1, 3, 20, 24)).clamp(-200, 150)
    one, other = layer(u), layer(u + 40)
    predictions = slice(0, 3 * layer.predictions)
    assert torch.equal(other[:, predictions, 1:, 1:], one[:, predictions, 1:, 1:] + 40)
    assert torch.equal(other[:, predictions.stop :], one[:, predictions.stop :])


def test_a_texture_that_repeats_is_foreseen():
    """Diagonal stripes: nothing is left where there are samples enough; the plane leaves much."""
    layer = LocalLeastSquares(1, 256)
    stripes = (90 * torch.sin((torch.arange(40)[:, None] + 2 * torch.arange(44)) * 0.9)).round() * 2 + 1
    numbers = layer(stripes[None, None])
    left = (stripes - numbers[0])[:, 16:, 16:-4].abs()
    assert left[0].mean() < 4
    assert left[1].mean() > 40


@KINDS
def test_what_is_left_leans_on_the_channels_before(by):
    layer, u = layer_by(by, 3), smooth((1, 3, 9, 10))
    numbers = layer(u)
    q, g = numbers[:, :3].double(), numbers[:, 3 * layer.predictions :].double()
    alone = u - q
    wanted = [alone[:, 0], alone[:, 1] - g[:, 0] * alone[:, 0]]
    wanted.append(alone[:, 2] - g[:, 1] * alone[:, 0] - g[:, 2] * alone[:, 1])
    assert torch.equal(layer.residuals(u, numbers), torch.stack(wanted, 1))


@KINDS
def test_sums_fit_into_32_bits(by):
    """What compiled code leans on."""
    largest = 2 * 2 * (MOST_LEVELS - 1)  # of 2 x − W − N
    assert float(by.weights().sum()) * by.cell * largest**2 < 2**31
    assert LARGEST_WEIGHT * 2**WEIGHT_BITS < 2**24  # float32 holds a weight


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_the_type_of_a_model_does_not_matter(dtype):
    u = smooth((1, 2, 8, 12))
    assert torch.equal(LocalLeastSquares(2, 256).to(dtype)(u), LocalLeastSquares(2, 256)(u))
