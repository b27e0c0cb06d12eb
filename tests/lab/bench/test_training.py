"""The training benchmark compares like with like: the reference is the same function with the same gradients."""

import pytest
import torch

from chainrule.data import Dataset
from chainrule.errors import DataError, ModelError
from chainrule.lab.bench import bench_training, profile_training
from chainrule.lab.bench.reference import PlainPixelCNNMADE
from chainrule.models import PixelCNN, PixelCNNMADE


@pytest.fixture
def dataset():
    x = torch.randint(0, 4, (40, 3, 6, 5), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return Dataset("noise", 4, x, x[:10], x[:10])


def test_the_reference_is_the_same_function(dataset):
    torch.manual_seed(0)
    model = PixelCNNMADE((3, 6, 5), 4, filters=8, blocks=2).double()
    plain = PlainPixelCNNMADE(model.float()).double()
    model.double()
    x = dataset.train[:7]
    ours, theirs = -model.log_prob(x).mean() / model.dims, plain(x)
    assert (ours - theirs).abs() < 1e-9
    ours.backward()
    theirs.backward()
    trunk, made = model.trunk, model.head.made
    pairs = [(made.output, plain.last), (made.from_auxiliary, plain.auxiliary), (trunk.norm, plain.norm)]
    for our_layer, their_layer in pairs:
        assert (our_layer.weight.grad - their_layer.weight.grad).abs().max() < 1e-9
    spatial, full = trunk.blocks[1].spatial, plain.convolutions[1][1]
    assert (spatial.weight.grad - full.weight.grad[:, :, :2]).abs().max() < 1e-9
    assert not full.weight.grad[:, :, 2].any()
    assert (trunk.input.weight.grad - plain.input.weight.grad[:, :, :4]).abs().max() < 1e-9


def test_figures(dataset):
    torch.manual_seed(0)
    model = PixelCNNMADE((3, 6, 5), 4, filters=8, blocks=1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    figures = bench_training(dataset, model, batch=4, repeats=2, steps=25, seeds=2)
    ratio = figures["images_per_second"] / figures["reference_images_per_second"]
    assert figures["ratio"] == pytest.approx(ratio)
    assert abs(figures["loss_difference_percent"]) < 1
    assert figures["loss_difference_percent_least"] < figures["loss_difference_percent_most"]
    assert figures["loss_bits_per_dim"] < 2.1
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_profile(dataset):
    rows = profile_training(dataset, PixelCNNMADE((3, 6, 5), 4, filters=8, blocks=1), batch=4, steps=2, rows=5)
    assert len(rows) == 5
    shares = [row["percent"] for row in rows]
    assert shares == sorted(shares, reverse=True)
    assert 20 < sum(shares) <= 100


def test_what_it_does_not_cover(dataset):
    for model in (PixelCNN((3, 6, 5), 4, 8, 1), PixelCNNMADE((3, 6, 5), 4, 8, 1, layer_norm=False)):
        with pytest.raises(ModelError, match="layer norm"):
            bench_training(dataset, model)
    with pytest.raises(DataError, match="noise does not fit"):
        bench_training(dataset, PixelCNNMADE((3, 4, 5), 4, 8, 1))
