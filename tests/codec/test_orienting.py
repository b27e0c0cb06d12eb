"""How pictures are laid before a model codes them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import chainrule as cr
from chainrule.codec import orienting, picture_chunks
from chainrule.codec.orienting import best, predicted_best
from chainrule.data.orientations import AS_IT_IS, ORIENTATIONS, laid, laid_back
from chainrule.errors import CodecError
from chainrule.models import ImageModel, LogisticPixelCNN


def predicting(shape=(1, None, None)):
    torch.manual_seed(0)
    return LogisticPixelCNN(shape, 256, filters=4, blocks=1, layer_norm=False, components=2)


def stairs(height=48, width=72):
    """A picture whose edges run one way only: it is not the same laid otherwise."""
    i, j = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    noise = torch.randint(6, (height, width), generator=torch.Generator().manual_seed(0))
    return ((60 * ((i + 2 * j) // 9 % 4)) + noise).clamp(0, 255)[None, None]


def test_there_are_eight_ways_and_each_has_a_way_back():
    x = torch.arange(2 * 3 * 4 * 5).view(2, 3, 4, 5)
    found = [laid(x, way) for way in range(ORIENTATIONS)]
    assert len({(tuple(one.shape), tuple(one.flatten().tolist())) for one in found}) == ORIENTATIONS
    assert all(torch.equal(laid_back(one, way), x) for way, one in enumerate(found))
    assert torch.equal(found[0], x)


def test_the_best_way_is_that_in_which_predictions_leave_least():
    model, x = predicting(), stairs(40, 60)  # small enough to be looked at whole
    costs = [model.rough_cost(laid(x, way)) for way in range(ORIENTATIONS)]
    assert len(set(costs)) > 4
    assert predicted_best(model, x) == costs.index(min(costs))
    for way in range(ORIENTATIONS):  # however it comes, it is laid alike
        assert torch.equal(laid(laid(x, way), predicted_best(model, laid(x, way))), laid(x, predicted_best(model, x)))


def test_a_picture_stays_as_it_is_where_the_network_does_better_so(monkeypatch):
    """Of the two ways the shorter code is taken."""
    model, x, seen = cr.exact(predicting()), stairs(40, 60), set()
    for offered in range(1, ORIENTATIONS):
        monkeypatch.setattr(orienting, "_costs", lambda model, x, way=offered: {AS_IT_IS: 1, way: 0})
        laid_so = laid(x, offered)
        bits = [float(-model.sized(*y.shape[2:]).log_prob(y)) for y in (x, laid_so)]
        assert best(model, x) == (AS_IT_IS if bits[0] <= bits[1] else offered)
        seen.add(bits[0] <= bits[1])
    assert seen == {True, False}


def test_a_clear_prediction_lays_a_large_picture(monkeypatch):
    """The network is asked where predictions hardly differ, and wherever all of a picture is looked at."""
    asked = []
    monkeypatch.setattr(orienting, "_bits", lambda model, x: asked.append(x.shape) or float(x.shape[2]))
    for size, gain, way, questions in [((70, 90), 1.02, 3, 0), ((70, 90), 1.005, 0, 2), ((40, 60), 1.02, 0, 2)]:
        asked.clear()
        monkeypatch.setattr(orienting, "_costs", lambda model, x, gain=gain: {AS_IT_IS: 1000 * gain, 3: 1000})
        assert best(None, torch.zeros(1, 1, *size)) == way
        assert len(asked) == questions


def test_predictions_are_compared_on_more_than_likelihoods(monkeypatch):
    """In all eight ways, on the middle of a large picture."""
    seen = []
    monkeypatch.setattr(LogisticPixelCNN, "rough_cost", lambda model, x: (x.numel() and seen.append(x.shape[2:])) or 1)
    assert predicted_best(predicting(), torch.zeros(1, 1, 300, 100, dtype=torch.long)) == AS_IT_IS
    assert {tuple(sorted(shape)) for shape in seen} == {(100, orienting.PREDICTED)}
    assert len(seen) == ORIENTATIONS
    assert orienting.PREDICTED > orienting.CODED


def test_rough_costs_are_bits_on_lines_between_powers_of_two():
    model, x = predicting(), stairs(9, 11)
    u = 2.0 * x - 255
    left = model.trunk.squares.residuals(u, model.trunk.squares(u)).abs() + 1
    assert model.rough_cost(x) / 2**16 == pytest.approx(float(left.log2().sum()), rel=0.03)
    powers = 2.0 ** left.log2().floor()
    exact = (left.log2().floor() + left / powers - 1).sum()
    assert model.rough_cost(x) / 2**16 == pytest.approx(float(exact), abs=1e-2)


def test_where_nothing_is_predicted_pictures_stay_as_they_are():
    torch.manual_seed(0)
    plain = ImageModel((1, None, None), 256, "masked", "logistic", 4, 1, False, components=2, prediction=0)
    assert plain.rough_cost(stairs()) is None
    assert best(plain, stairs()) == AS_IT_IS


def test_pictures_of_the_one_size_that_a_model_knows_stay_as_they_are():
    model = predicting((1, 24, 32))
    assert all(best(model, laid(stairs(24, 32), way)) == AS_IT_IS for way in (0, 2, 4, 6))


@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (3, 1, 300), (500, 20, 30), (2, 64, 64), (3, 50, 50), (1, 67, 32), (1, 300, 500)]
)
def test_what_is_looked_at_is_little(shape):
    """The middle of some of the pictures, less than twice so many pixels in all."""
    count, height, width = shape
    x = torch.arange(count * height * width).view(count, 1, height, width)
    for side in (orienting.CODED, orienting.PREDICTED):
        found = orienting._sample(x, side)
        assert 0 < found.numel() < 2 * side**2
        assert found.shape[1:] == (1, min(height, side), min(width, side))
        above, left = found[0, 0, 0, 0].item() // width, found[0, 0, 0, 0].item() % width
        assert abs(height - found.shape[2] - 2 * above) <= 1
        assert abs(width - found.shape[3] - 2 * left) <= 1


@pytest.fixture
def preferred(monkeypatch):
    """Models code whatever they can, as if usual codecs were very bad."""
    monkeypatch.setattr(picture_chunks, "_floor", lambda item: 1e9)


@pytest.mark.parametrize("way", range(ORIENTATIONS))
def test_pictures_come_back_however_they_were_laid(way, monkeypatch, preferred):
    """Two of one size, which share a batch, and one larger."""
    monkeypatch.setattr(orienting, "best", lambda model, x: way)
    pictures = [stairs(17, 23)[0, 0].numpy().astype(np.uint8)] * 2 + [stairs(20, 9)[0, 0].numpy().astype(np.uint8)]
    model = cr.exact(predicting())
    data = cr.compress(pictures, model)
    assert all(np.array_equal(*pair) for pair in zip(cr.decompress(data, model), pictures, strict=True))


def test_no_picture_takes_more_than_as_it_is(preferred, monkeypatch):
    model = cr.exact(predicting())
    pictures = [laid(stairs(40, 60), way)[0, 0].numpy().astype(np.uint8) for way in range(ORIENTATIONS)]
    found = [len(cr.compress([picture], model)) for picture in pictures]
    monkeypatch.setattr(orienting, "best", lambda model, x: AS_IT_IS)
    plain = [len(cr.compress([picture], model)) for picture in pictures]
    assert all(one <= other for one, other in zip(found, plain, strict=True))
    assert found != plain


def test_an_orientation_that_does_not_exist_is_damage(monkeypatch, preferred):
    model, x = cr.exact(predicting()), stairs(9, 11)[0, 0].numpy().astype(np.uint8)
    monkeypatch.setattr(orienting, "best", lambda model, x: 8)
    with pytest.raises(CodecError, match="damaged: a picture cannot be decoded"):
        cr.decompress(cr.compress([x], model), model)
