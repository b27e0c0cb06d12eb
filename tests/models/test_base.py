"""The contract's border: what is accepted as events, what is refused, and with which words."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch

from chainrule import sampling
from chainrule.errors import DataError, ModelError
from chainrule.fixedpoint import exact
from chainrule.models import (
    MADE,
    ConditionalMLP,
    GrayscalePixelCNN,
    Histogram,
    ImageGPT,
    ImageModel,
    LogisticPixelCNN,
    PixelCNN,
    PixelCNNMADE,
)
from laws import events, of_each_class

METHODS = ["log_prob", "site_log_probs", "log_pmf"]


@of_each_class
class TestRefusals:
    """Bad events are refused by every entrance, with what was found and what was wanted."""

    def test_values_too_large(self, model):
        """The largest value and the number of levels are named."""
        x = events(model, 3)
        x.view(-1)[-1] = model.levels
        for method in METHODS:
            with pytest.raises(DataError, match=f"to {model.levels}: this model has {model.levels} levels"):
                getattr(model, method)(x)

    def test_negative_values(self, model):
        """The smallest value is named."""
        x = events(model, 3)
        x.view(-1)[0] = -2
        for method in METHODS:
            with pytest.raises(DataError, match="values from -2 to"):
                getattr(model, method)(x)

    def test_wrong_shapes(self, model):
        """The found shape and the wanted one are named."""
        *first, last = model.shape
        for shape in [model.shape, (2, *model.shape, 1), (2, *first, last + 1), (2, 2, *model.shape)]:
            for method in METHODS:
                with pytest.raises(DataError, match=r"shape .* wants \(batch, ") as caught:
                    getattr(model, method)(torch.zeros(shape, dtype=torch.long))
                assert str(tuple(shape)) in str(caught.value)

    def test_values_that_are_no_integers(self, model):
        """The type is named."""
        for dtype in (torch.float32, torch.float16, torch.bool, torch.complex64):
            for method in METHODS:
                with pytest.raises(DataError, match=rf"{dtype} values: pass integers in \[0, {model.levels}\)"):
                    getattr(model, method)(torch.zeros(2, *model.shape).to(dtype))


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "int32", "int64", "uint16", "uint32", "uint64", ">i4"])
def test_numpy_arrays_of_every_integer_type(dtype):
    """Arrays are as good as tensors, whatever their width and byte order."""
    model = MADE((2,), 4, (8,))
    x = np.array([[0, 1], [3, 2]])
    assert torch.equal(model.log_prob(x.astype(dtype)), model.log_prob(torch.from_numpy(x)))


def test_numpy_views():
    """A flipped or strided view of an array is an array."""
    model = PixelCNN((1, 2, 3), 4, 4, 1)
    x = np.arange(12).reshape(2, 1, 2, 3) % 4
    flipped = x[:, :, :, ::-1]
    assert torch.equal(model.log_prob(flipped), model.log_prob(torch.from_numpy(flipped.copy())))
    assert torch.equal(model.log_prob(x[::2]), model.log_prob(torch.from_numpy(x[::2].copy())))


@pytest.mark.parametrize("x", ["abc", None, [[0, 1], [0]], [["a", "b"]], 3, object()])
def test_what_is_no_array_is_refused(x):
    """Anything else than events ends in a DataError, not in an error of the array library."""
    with pytest.raises(DataError):
        MADE((2,), 4, (8,)).log_prob(x)


def test_lists_are_accepted(recwarn):
    """Nested lists of integers are events; so are arrays that may not be written to."""
    frozen = np.zeros((2, 2), np.int64)
    frozen.setflags(write=False)
    assert MADE((2,), 4, (8,)).log_prob(frozen).shape == (2,)
    assert not recwarn
    assert MADE((2,), 4, (8,)).log_prob([[0, 3], [1, 1]]).shape == (2,)


@of_each_class
def test_an_empty_batch_has_no_likelihoods(model):
    """No events, no numbers: not an error; nor where they are walked over."""
    x = torch.zeros(0, *model.shape, dtype=torch.long)
    assert model.log_prob(x).shape == (0,)
    most = max(site.levels for site in model.sites())
    assert model.log_pmf(x).shape == (0, *model.walk_shape, most)
    assert sampling.score(model, x).shape == (0, *model.walk_shape)
    assert model.complete(x, torch.ones(model.shape, dtype=torch.bool)).shape == x.shape


def test_an_empty_batch_of_exact_models_and_of_any_size():
    """And of gray images that are to be coloured."""
    torch.manual_seed(0)
    model = exact(ImageGPT((1, 3, 3), 4, filters=8, blocks=1))
    with torch.no_grad():
        assert model.log_prob(torch.zeros(0, 1, 3, 3, dtype=torch.long)).shape == (0,)
        wide = PixelCNN((1, None, None), 4, 6, 1)
        assert wide.log_prob(torch.zeros(0, 1, 3, 3, dtype=torch.long)).shape == (0,)
    gray = GrayscalePixelCNN((3, 3, 3), 4, 6, 1)
    assert gray.colorize(torch.zeros(0, 3, 3, dtype=torch.long)).shape == (0, 3, 3, 3)


@pytest.mark.parametrize(
    ("shape", "levels"), [((1, 4.5, 4), 4), ((1, 4, 4), 2.7), ((1, 4, "4"), 4), (None, 4), ((1, 4, 4), float("inf"))]
)
def test_sizes_that_are_no_whole_numbers(shape, levels):
    """Refused, not cut off; NumPy's whole numbers are as good as Python's."""
    with pytest.raises(ModelError, match="whole number"):
        PixelCNN(shape, levels, 6, 1)
    model = PixelCNN(tuple(np.array([1, 4, 4])), np.int64(3), 6, 1)
    assert (model.shape, model.levels) == ((1, 4, 4), 3)
    assert type(model.levels) is type(model.shape[1]) is int
    assert PixelCNN((1, 4, 4), 3.0, 6, 1).levels == 3


def test_the_three_views_agree(model):
    """log_prob is the sum of site_log_probs, which are log_pmf at the observed levels; forward is log_prob."""
    x = events(model, 7)
    sites = model.site_log_probs(x)
    y = model.with_auxiliaries(x)
    assert sites.shape == y.shape
    torch.testing.assert_close(model.log_prob(x), sites.flatten(1).sum(1), rtol=0, atol=1e-12)
    torch.testing.assert_close(model.log_pmf(x).gather(-1, y[..., None])[..., 0], sites, rtol=0, atol=1e-12)
    torch.testing.assert_close(model(x), model.log_prob(x), rtol=0, atol=0)
    small = x.to(torch.uint8)
    torch.testing.assert_close(model.log_prob(small), model.log_prob(x), rtol=0, atol=0)


def test_events_do_not_influence_each_other(model):
    """The likelihood of an event is the same alone and in company."""
    x = events(model, 6)
    together = model.log_prob(x)
    for k in range(6):
        torch.testing.assert_close(model.log_prob(x[k : k + 1])[0], together[k], rtol=0, atol=1e-12)


def test_gradients_reach_every_parameter(case):
    """Training moves all there is: no parameter is left without a gradient."""
    model = case.build().double()
    x = events(model, 64)
    found = {name: False for name, _ in model.named_parameters()}
    for _ in range(5):
        for parameter in model.parameters():
            parameter.grad = None
            parameter.data.normal_(0, 0.4)
        model.log_prob(x).sum().backward()
        for name, parameter in model.named_parameters():
            found[name] |= parameter.grad is not None and bool(parameter.grad.ne(0).any())
    # With one pixel, nothing but biases reaches the output of a convolution that sees neighbours alone; nor does it in
    # a single row what sees rows above, and in a single column what sees pixels to the left.
    gray = isinstance(model, GrayscalePixelCNN)
    for prefix, part in {"gray.": model.gray, "colors.": model.colors}.items() if gray else [("", model)]:
        for side, name in ((1, "vertical_input.weight"), (2, "horizontal_input.weight")):
            if isinstance(part, ImageModel) and part.walk_shape[side] == 1:
                found.pop(f"{prefix}trunk.{name}", None)
    # Least squares and neighbours predict a lone pixel as the middle of the levels.
    if model.shape[1:] == (1, 1):
        for name in ("input", "inner.input", "from_spread"):
            found.pop(f"trunk.{name}.weight", None)
    # The second of two channels is known from the first and the gray level, if that is the sum itself.
    if gray and model.shape[0] == 2 and model.grays == 2 * model.levels - 1:
        found.pop("colors.head.made.layers.0.weight")
    # And a single variable is seen by no conditional of its MADE.
    if model.shape == (1,) and isinstance(model, MADE):
        found.pop("network.layers.0.weight")
    if model.walk_shape[0] == 1:
        found.pop("head.made.layers.0.weight", None)
    assert [name for name, reached in found.items() if not reached] == []


@of_each_class
def test_models_can_be_copied_and_pickled(model):
    """Deep copies and pickles have the same likelihoods."""
    x = events(model, 4)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other.log_prob(x), model.log_prob(x))


@pytest.mark.parametrize(
    ("build", "match"),
    [
        (lambda: Histogram(1), "1 levels"),
        (lambda: Histogram(0), "0 levels"),
        (lambda: MADE((2,), -3), "-3 levels"),
        (lambda: MADE((), 4), "empty"),
        (lambda: MADE((2, 0), 4), r"\(2, 0\) is empty"),
        (lambda: PixelCNN((0, 2, 2), 4), "empty"),
        (lambda: PixelCNN((3, 4), 4, 4, 1), r"PixelCNN models images: its shape is \(C, H, W\), not \(3, 4\)"),
        (lambda: PixelCNNMADE((3,), 4, 4, 1), r"PixelCNNMADE models images"),
        (lambda: PixelCNNMADE((1, 2, 3, 4), 4, 4, 1), r"not \(1, 2, 3, 4\)"),
        (lambda: PixelCNN((1, 2, 2), 4, 0, 1), "0 filters"),
        (lambda: PixelCNN((1, 2, 2), 4, 4, -1), "-1 blocks"),
        (lambda: LogisticPixelCNN((1, 2, 2), 4, 4, 1, components=0), "0 logistics"),
        (lambda: ImageModel((1, 2, 2), 4, "deep"), "trunk 'deep' does not exist: use masked, gated"),
        (lambda: ImageModel((1, 2, 2), 4, head="soft"), "head 'soft' does not exist: use factorised, made"),
        (lambda: ImageModel((1, 2, 2), 4, components=3), "a factorised head has no components"),
        (lambda: ImageModel((1, 2, 2), 4, head="logistic", embedding=3), "a logistic head has no embedding"),
        (lambda: ImageModel((1, 2, 2), 4, classes=3), "takes no context: use a gated one"),
        (lambda: ImageModel((1, 2, 2), 4, encoding="binary"), "encoding 'binary' does not exist"),
        (lambda: ConditionalMLP(4, "binary"), r"'binary' does not exist: use onehot, scalar, embedding"),
        (lambda: ConditionalMLP(4, hidden=(0,)), "0"),
        (lambda: ConditionalMLP(4, hidden=(-1,)), "-1"),
        (lambda: ConditionalMLP(4, "embedding", embedding=0), "0"),
        (lambda: MADE((3,), 4, hidden=(0,)), "0"),
        (lambda: MADE((5,), 2, hidden=(2,)), "too narrow"),
        (lambda: MADE((5,), 2, hidden=()), "hidden"),
    ],
)
def test_impossible_models_are_refused(build, match):
    """What cannot be a model is a ModelError at construction, and names the argument's value."""
    with pytest.raises(ModelError, match=match):
        build()


def test_config_holds_all_arguments():
    """With the weights, the configuration is all there is to a model."""
    model = PixelCNNMADE((3, 2, 5), 4, filters=6)
    wanted = {"shape": (3, 2, 5), "levels": 4, "filters": 6, "blocks": 12, "layer_norm": True}
    assert model.config == {"class": "PixelCNNMADE", **wanted}


@pytest.mark.parametrize(
    "build",
    [
        lambda: MADE((2,), np.int64(4), (8,)),
        lambda: MADE((2,), torch.tensor(4), (8,)),
        lambda: PixelCNN(tuple(np.array([1, 2, 2])), 4, 4, 1),
        lambda: PixelCNN(torch.zeros(1, 1, 2, 2).shape[1:], 4, 4, 1),
    ],
)
def test_config_holds_arguments_of_other_integer_types(build):
    """Levels counted by NumPy and shapes read off a tensor are recorded like plain integers."""
    config = build().config
    assert config["levels"] == 4
    assert tuple(config["shape"]) in [(2,), (1, 2, 2)]
