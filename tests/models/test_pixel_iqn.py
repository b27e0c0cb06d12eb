"""PixelIQN: causal, one walk whichever way, as large as its twin, and refused where a likelihood is needed."""

from __future__ import annotations

import itertools
import json

import pytest
import torch

import chainrule as cr
from chainrule import zoo
from chainrule.cli import main
from chainrule.data import Dataset
from chainrule.errors import ChainruleError, DataError, ModelError
from chainrule.evaluation import receptive_field
from chainrule.lab.recipes import get_recipe
from chainrule.models import ImageGPT, PixelCNNMADE, PixelIQN
from laws import ChannelsFlipped, chi_square_p, events, randomised, reachable_pixels, tiny_dataset

SHAPES = [((1, 1, 1), 2, 4, 1), ((1, 2, 3), 2, 7, 2), ((3, 2, 2), 4, 6, 1), ((2, 4, 5), 3, 5, 2), ((2, 2, 1), 19, 6, 0)]


@pytest.fixture(params=SHAPES, ids=str)
def model(request):
    shape, levels, filters, blocks = request.param
    return randomised(PixelIQN(shape, levels, filters, blocks, embedding=9))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_sees_all_earlier_entries_and_no_other(model):
    """The Jacobian of the quantiles: the pixels that the masked convolutions reach, and the earlier channels."""
    channels, height, width = model.shape
    v = torch.rand(16, *model.shape, generator=generator(), dtype=torch.float64) * (model.levels - 1)
    v.requires_grad_()
    tau = torch.rand(v.shape, generator=generator(1), dtype=torch.float64)
    h = model.head(model.features(v), v.permute(0, 2, 3, 1))
    q = model.head.quantiles(h, tau.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    sees = reachable_pixels(height, width, len(model.trunk.blocks))
    for c, i, j in itertools.product(range(channels), range(height), range(width)):
        expected = {(other, *pixel) for pixel in sees[i, j] for other in range(channels)}
        expected |= {(other, i, j) for other in range(c)}
        (gradient,) = torch.autograd.grad(q[:, c, i, j].sum(), v, retain_graph=True, allow_unused=True)
        found = [] if gradient is None else gradient.abs().amax(0).nonzero().tolist()
        assert {tuple(index) for index in found} == expected


class LastChannelFirst(ChannelsFlipped, PixelIQN):
    """Another order of channels."""


def test_another_order_of_channels():
    """Losses and quantiles are those of the plain model on flipped events."""
    plain, other = (randomised(cls((3, 2, 3), 4, 6, 1, embedding=9)) for cls in (PixelIQN, LastChannelFirst))
    x, tau = events(plain, 7), torch.rand(7, 3, 2, 3, generator=generator())
    assert torch.equal(other.eval().loss(x), plain.eval().loss(x.flip(1)))
    assert not torch.equal(other.loss(x), plain.loss(x))
    for part in (0.3, tau, tau[0], tau[:, :, :1, :1]):
        flipped = part.flip(-3) if isinstance(part, torch.Tensor) else part
        assert torch.equal(other.quantiles(x, part), plain.quantiles(x.flip(1), flipped).flip(1))
    assert torch.equal(other.sample(5, generator=generator()), plain.sample(5, generator=generator()).flip(1))


def test_quantiles_of_a_sequence():
    """A transformer over a sequence is trained on them, too."""
    torch.manual_seed(0)
    model = ImageGPT((5,), 10, "quantile", 8, 1)
    x = model.sample(6, generator=generator())
    assert model.quantiles(x, 0.5).shape == x.shape
    model.loss(x).backward()
    assert all(p.grad is not None for p in model.parameters())
    history = cr.fit(model, tiny_dataset((5,), 10), steps=40, lr=0.01, batch_size=20, eval_every=1, quiet=True)
    assert history.best_step > 1
    assert history.best_bits < 0.9 * history.validation[0][1]


def test_taus_of_another_shape(model):
    with pytest.raises(DataError, match=r"`tau` has shape \(3, 17\)"):
        model.quantiles(events(model, 2), torch.zeros(3, 17))
    with pytest.raises(ModelError, match="predicts no quantiles"):
        cr.PixelCNN((1, 2, 3), 4, 6, 1).quantiles(torch.zeros(1, 1, 2, 3, dtype=torch.long), 0.5)


def test_cached_and_naive_walks_agree(model):
    """Sampling and completing, from the same uniforms; a seed says what is drawn."""
    cached = model.sample(9, generator=generator())
    assert torch.equal(cached, model.sample(9, generator=generator()))
    assert torch.equal(cached, model.sample(9, generator=generator(), method="naive"))
    x, known = events(model, 9), torch.rand(9, *model.shape, generator=generator(2)) < 0.5
    done = [model.complete(x, known, generator=generator(3), method=method) for method in ("cached", "naive")]
    assert torch.equal(*done)
    assert torch.equal(done[0][known], x[known])
    assert int(cached.min()) >= 0
    assert int(cached.max()) < model.levels


def test_a_sample_is_the_rounded_quantile_of_its_uniforms(model):
    """x = round(Q_τ(x_<)) at the τ that were drawn for each entry: what the parallel pass says of the drawn image."""
    x = model.sample(5, generator=generator())
    u = torch.rand(5, len(model.sites()), generator=generator(), dtype=torch.float64)
    tau = torch.zeros(5, *model.shape, dtype=torch.float64)
    for position, site in enumerate(model.sites()):
        tau[(slice(None), *site.index)] = u[:, position]
    q = model.quantiles(x, tau).detach()
    assert torch.equal(q.round().clamp(0, model.levels - 1).long(), x)


def test_the_same_walk_beside_several(model):
    """Rows of a batch do not know each other: ten events drawn at once are five and five."""
    u = generator()
    parts = torch.cat([model.sample(1, generator=u) for _ in range(4)])
    assert torch.equal(parts, model.sample(4, generator=generator()))


@pytest.mark.parametrize(("filters", "blocks"), [(64, 8), (128, 12)])
def test_as_large_as_its_likelihood_twin(filters, blocks):
    counts = [
        sum(p.numel() for p in cls((3, 28, 28), 4, filters, blocks).parameters()) for cls in (PixelCNNMADE, PixelIQN)
    ]
    assert counts[1] == pytest.approx(counts[0], rel=0.002)


@pytest.mark.parametrize("preset", ["quick", "full"])
def test_the_recipe_is_trained_as_its_twin(preset):
    """The same settings, seed and split, so the same batches."""
    iqn, twin = get_recipe("iqn", preset), get_recipe("pixelcnn-made", preset)
    assert (iqn.train, iqn.data, iqn.validation) == (twin.train, twin.data, twin.validation)
    assert (iqn.model.filters, iqn.model.blocks) == (twin.model.filters, twin.model.blocks)


def test_it_learns_a_conditional_distribution():
    """Two pixels: the first 0, 1, 2 with 20, 50 and 30 %, the second the same or its mirror image, three to one."""
    p, n = torch.tensor([0.2, 0.5, 0.3]), 6000
    first = torch.multinomial(p, n, replacement=True, generator=generator())
    flipped = torch.rand(n, generator=generator(1)) < 0.25
    x = torch.stack([first, torch.where(flipped, 2 - first, first)], 1).view(n, 1, 1, 2).to(torch.uint8)
    data = Dataset("pairs", 3, train=x[:5000], validation=x[5000:5500], test=x[5500:])
    torch.manual_seed(0)
    model = PixelIQN((1, 1, 2), 3, filters=16, blocks=0)
    history = cr.fit(
        model, data, steps=500, batch_size=256, lr=5e-3, schedule="cosine", eval_every=250, precision="float32",
        device="cpu", quiet=True,
    )  # fmt: skip
    assert history.validation[-1][1] < 0.8 * float(history.train[0])
    drawn = model.sample(2000, generator=generator())[:, 0, 0]
    truth = torch.tensor([[0.15, 0, 0.05], [0, 0.5, 0], [0.075, 0, 0.225]]).flatten()
    counts = (drawn[:, 0] * 3 + drawn[:, 1]).bincount(minlength=9)
    assert 0.5 * (counts / 2000 - truth).abs().sum() < 0.06


def test_two_pixels_are_drawn_by_the_inverse_of_the_learnt_function():
    """χ²: the frequencies of one entry are the lengths of τ that lead to each level."""
    model = randomised(PixelIQN((1, 1, 1), 4, 6, 1, embedding=9), std=0.8)
    tau = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    q = model.quantiles(torch.zeros(20_000, 1, 1, 1, dtype=torch.long), tau.view(-1, 1, 1, 1)).detach()
    lengths = q.round().clamp(0, 3).long().flatten().bincount(minlength=4) / 20_000
    drawn = model.sample(3000, generator=generator()).flatten().bincount(minlength=4)
    assert (lengths > 0.05).sum() >= 2
    assert chi_square_p(drawn, lengths) > 1e-3


def test_its_losses():
    """In training a random τ for each entry, in validation a grid: no matter of chance, and the same on average."""
    model = randomised(PixelIQN((2, 3, 3), 4, 6, 1))
    x = events(model, 40)
    on_grid = model.eval().loss(x)
    assert model.loss(x) == on_grid
    torch.manual_seed(0)
    model.train()
    draws = torch.stack([model.loss(x).detach() for _ in range(60)])
    assert draws.std() > 0
    assert float(draws.mean()) == pytest.approx(float(on_grid.detach()), rel=0.05)


def test_it_is_stored_and_found_again(model, tmp_path):
    """Folder → the same model, by zoo.load: the same samples from the same seed, in single precision."""
    model.float().save_pretrained(tmp_path)
    again = zoo.load(tmp_path)
    assert type(again) is PixelIQN
    assert again.config == model.config
    assert torch.equal(again.sample(3, generator=generator()), model.sample(3, generator=generator()))


def test_there_is_no_likelihood(tmp_path, capsys):
    """Refused each time with a sentence; the command line ends with status 2."""
    model = PixelIQN((1, 4, 4), 4, 8, 1).eval()
    assert not model.has_likelihood
    x = events(model, 3)
    for refused in (
        lambda: model.log_prob(x),
        lambda: model.site_log_probs(x),
        lambda: model.log_pmf(x),
        lambda: cr.bits_per_dim(model, x),
        lambda: cr.exact(model),
        lambda: cr.compress(model, x.permute(0, 2, 3, 1).numpy()),
        lambda: receptive_field(model, (0, 2, 2)),
    ):
        with pytest.raises(ChainruleError, match="PixelIQN has no"):
            refused()
    model.save_pretrained(tmp_path / "model")
    cr.data.write_image(x[0].to(torch.uint8), 4, tmp_path / "a.png")
    name = str(tmp_path / "model")
    for args in (
        ["compress", str(tmp_path / "a.png"), "-m", name, "-o", str(tmp_path / "a.crz")],
        ["doctor", name],
        ["bench", "sampling", "--model", name],
    ):
        assert main(args) == 2
        assert "PixelIQN" in capsys.readouterr().err
    assert main(["sample", name, "-n", "4", "-o", str(tmp_path / "s.png")]) == 0
    assert main(["complete", name, str(tmp_path / "a.png"), "--keep-rows", "2", "-o", str(tmp_path / "b.png")]) == 0


def test_what_is_wrong_is_said():
    model = PixelIQN((1, 2, 2), 4, 4, 1)
    with pytest.raises(DataError, match="from 0 to 1"):
        model.quantiles(events(model, 1), 1.5)
    with pytest.raises(ModelError, match="no conditioning"):
        model.sample(2, context=torch.zeros(2))
    with pytest.raises(ModelError, match="models images"):
        PixelIQN((4,), 4)
    with pytest.raises(ModelError, match="cosines"):
        PixelIQN((1, 2, 2), 4, 4, 1, embedding=0)


def test_a_resumed_run_is_the_same_run(tmp_path):
    """The random τ are a function of (seed, step), as the batches are."""
    data = tiny_dataset((1, 2, 2))
    torch.manual_seed(0)
    whole, first = PixelIQN((1, 2, 2), 4, 4, 1), PixelIQN((1, 2, 2), 4, 4, 1)
    first.load_state_dict(whole.state_dict())
    settings = {"batch_size": 8, "eval_every": 4, "precision": "float32", "device": "cpu", "quiet": True, "steps": 8}
    expected = cr.fit(whole, data, folder=tmp_path / "a", **settings)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("chainrule.training.fitting.anywhere", stop_after(4))
        with pytest.raises(KeyboardInterrupt):
            cr.fit(first, data, folder=tmp_path / "b", **settings)
    again = cr.fit(first, data, folder=tmp_path / "b", resume=True, **settings)
    assert again.train == expected.train
    lines = [json.loads(line) for line in (tmp_path / "b" / "metrics.jsonl").read_text().splitlines()]
    assert len([line for line in lines if "train" in line]) == 8


def stop_after(steps):
    """`anywhere` that asks to stop once, after so many steps."""
    calls = iter(range(1, 1000))
    return lambda accelerator, requested: next(calls) == steps
