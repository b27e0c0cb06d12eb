"""The discretised mixture of logistics against its definition, and at the edges of what floats hold."""

from __future__ import annotations

import itertools
import math

import mpmath
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chainrule.fixedpoint.exact_logistic import ExactLogisticMixture
from chainrule.heads import LogisticMixture, Softmax
from chainrule.heads.mixture import FARTHEST, FLATTEST, SHARPEST, half_bins, log_mass, offset

SIZES = [(1, 2, 1), (1, 256, 10), (2, 3, 4), (3, 5, 2), (4, 17, 3)]


def parameters(head, n, spread=1.0, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(n, head.numbers, generator=generator, dtype=torch.float64) * spread).to(dtype)


def by_definition(head, raw, x):
    """log p of each channel in 40 digits: edges at y ± h, the ends at infinity, one indicator for the pixel."""
    C, L, K = head.channels, head.levels, head.components
    numbers = [mpmath.mpf(value) for value in raw.tolist()]
    logits, rest = numbers[:K], numbers[K:]
    mean = lambda c, k: rest[c * K + k]  # noqa: E731
    sharpness = lambda c, k: rest[C * K + c * K + k]  # noqa: E731
    pair = {(c, j): n for n, (c, j) in enumerate((c, j) for c in range(C) for j in range(c))}
    coefficient = lambda c, j, k: rest[2 * C * K + pair[c, j] * K + k]  # noqa: E731
    sigmoid = lambda z: 1 / (1 + mpmath.exp(-z))  # noqa: E731
    h, y = mpmath.mpf(1) / (L - 1), [mpmath.mpf(2 * value) / (L - 1) - 1 for value in x]
    joint = [mpmath.exp(value - max(logits)) for value in logits]
    joint, found = [value / sum(joint) for value in joint], []
    for c in range(C):
        before = sum(joint)
        for k in range(K):
            mu = mean(c, k) + sum(mpmath.tanh(coefficient(c, j, k)) * y[j] for j in range(c))
            scale = h / (SHARPEST * sigmoid(sharpness(c, k) - mpmath.mpf(offset(L))))
            above = 1 if x[c] == L - 1 else sigmoid((y[c] + h - mu) / scale)
            below = 0 if x[c] == 0 else sigmoid((y[c] - h - mu) / scale)
            joint[k] *= above - below
        found.append(float(mpmath.log(sum(joint) / before)))
    return found


@pytest.mark.parametrize(("channels", "levels", "components"), SIZES)
def test_agrees_with_the_definition(channels, levels, components):
    head = LogisticMixture(channels, levels, components)
    raw = parameters(head, 12)
    x = torch.randint(0, levels, (12, channels), generator=torch.Generator().manual_seed(1))
    x[0], x[1] = 0, levels - 1
    found = head.site_log_probs(raw, x.double())
    with mpmath.workdps(40):
        for row in range(len(x)):
            wanted = by_definition(head, raw[row], x[row].tolist())
            assert found[row].tolist() == pytest.approx(wanted, rel=1e-9, abs=1e-11)


@pytest.mark.parametrize(("channels", "levels", "components"), [*SIZES, (2, 65536, 3)])
@pytest.mark.parametrize("spread", [0.3, 3.0, 30.0])
def test_every_conditional_sums_to_one(channels, levels, components, spread):
    head = LogisticMixture(channels, levels, components)
    x = torch.randint(0, levels, (20, channels), generator=torch.Generator().manual_seed(1)).double()
    total = head.logits(parameters(head, 20, spread), x).exp().sum(-1)
    assert (total - 1).abs().max() < 1e-11


def test_joint_probabilities_of_a_pixel_sum_to_one():
    head = LogisticMixture(3, 4, 5)
    raw, x = parameters(head, 6, 2.0), torch.tensor(list(itertools.product(range(4), repeat=3))).double()
    total = head.site_log_probs(raw[:, None].expand(-1, 64, -1), x.expand(6, -1, -1)).sum(-1).exp().sum(-1)
    assert (total - 1).abs().max() < 1e-12


@pytest.mark.parametrize(("channels", "levels", "components"), SIZES)
def test_observed_levels_all_levels_and_steps_agree(channels, levels, components):
    head = LogisticMixture(channels, levels, components)
    raw = parameters(head, 30, 2.0)
    x = torch.randint(0, levels, (30, channels), generator=torch.Generator().manual_seed(1))
    logits, walk = head.logits(raw, x.double()), head.start(raw)
    assert (Softmax().log_prob(logits, x) - head.site_log_probs(raw, x.double())).abs().max() < 1e-9
    for channel in range(channels):
        assert (head.step_logits(walk) - logits[:, channel]).abs().max() < 1e-9
        walk = head.observe(walk, x[:, channel])


def test_later_channels_weigh_components_by_the_posterior():
    """Two components far apart: the first channel tells which of them the second channel comes from."""
    head = LogisticMixture(2, 9, 2)
    mixture = [[0.0, 0.0], [-0.8, 0.8, -0.5, 0.5], [offset(9)] * 4, [0.0, 0.0]]
    raw = torch.tensor([value for part in mixture for value in part]).double().expand(2, -1)
    pmf = head.logits(raw, torch.tensor([[1.0, 0.0], [7.0, 0.0]]).double())[:, 1].exp()
    assert pmf.argmax(-1).tolist() == [2, 6]
    assert float(pmf[0, :4].sum()) > 0.999
    assert float(pmf[1, 5:].sum()) > 0.999


def test_means_lean_on_earlier_channels():
    """With a coefficient of tanh(∞) = 1 the second channel's mean moves as the first channel does."""
    head = LogisticMixture(2, 9, 1)
    raw = torch.tensor([0.0, 0.0, 0.0, 0.0, offset(9), 50.0]).double().expand(9, -1)
    x = torch.stack([torch.arange(9), torch.zeros(9)], -1).double()
    assert head.logits(raw, x)[:, 1].argmax(-1).tolist() == list(range(9))


@pytest.mark.parametrize("levels", [2, 5, 256, 1000])
def test_edge_bins_take_the_tails(levels):
    """Means far outside leave all mass to the outermost level."""
    w = half_bins(torch.arange(levels).double(), levels)
    for side, at in ((-1.0, 0), (1.0, levels - 1)):
        mean = torch.tensor([side * FARTHEST * (levels - 1.0)]).double()
        mass = log_mass(w, mean, torch.zeros(1).double(), levels)
        assert float(mass[at]) == pytest.approx(0, abs=1e-12)
        assert float(mass.exp().sum()) == pytest.approx(1, abs=1e-12)


def test_single_precision_loses_little():
    """Small masses in far tails and wide bells keep their digits in float32."""
    w = half_bins(torch.arange(256), 256)
    for mean in (-1000.0, -3.25, 0.5, 254.75):
        for sharpness in (-FLATTEST, -9.0, -2.0, 3.0):
            numbers = torch.tensor([mean], dtype=torch.float64), torch.tensor([sharpness], dtype=torch.float64)
            wide = log_mass(w.double(), *numbers, 256)
            few = log_mass(w.float(), *(number.float() for number in numbers), 256)
            assert few.dtype == torch.float32
            assert ((few - wide) / wide.abs().clamp(min=1)).abs().max() < 3e-6


FLOATS = st.floats(-(2.0**127), 2.0**127, width=32, allow_subnormal=False) | st.sampled_from(
    [0.0, 1e30, -1e30, 3.4e38, -3.4e38, 1e-40, 88.0, -104.0]
)


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_extreme_parameters_leave_everything_finite(data):
    """Log-probabilities, those of all levels, and gradients, in float32; the conditionals sum to 1."""
    channels, levels, components = data.draw(st.sampled_from(SIZES))
    head = LogisticMixture(channels, levels, components)
    raw = torch.tensor([data.draw(st.lists(FLOATS, min_size=head.numbers, max_size=head.numbers))])
    x = torch.tensor([data.draw(st.lists(st.integers(0, levels - 1), min_size=channels, max_size=channels))]).float()
    raw.requires_grad_()
    found, logits = head.site_log_probs(raw, x), head.logits(raw, x)
    assert bool(found.isfinite().all())
    assert bool(logits.isfinite().all())
    assert float(found.detach().max()) < 1e-4
    assert (head.logits(raw.double(), x.double()).exp().sum(-1) - 1).abs().max() < 1e-10
    for value in (found.sum(), logits.sum()):
        (gradient,) = torch.autograd.grad(value, raw)
        assert bool(gradient.isfinite().all())


@pytest.mark.parametrize(("channels", "levels", "components"), SIZES)
def test_gradients(channels, levels, components):
    """Against finite differences, of the observed levels and of all."""
    head = LogisticMixture(channels, levels, components)
    raw = parameters(head, 3).requires_grad_()
    x = torch.randint(0, levels, (3, channels), generator=torch.Generator().manual_seed(1)).double()
    x[0], x[1] = 0, levels - 1
    assert torch.autograd.gradcheck(lambda raw: head.site_log_probs(raw, x), (raw,))
    if levels < 100:
        assert torch.autograd.gradcheck(lambda raw: head.logits(raw, x), (raw,))


def test_no_table_over_the_levels_in_training():
    """The likelihood of given levels never makes a tensor as long as there are levels."""
    head, sizes = LogisticMixture(3, 4096, 2), []

    class Watch(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor):
                sizes.append(result.numel())
            return result

    with Watch():
        head.site_log_probs(torch.zeros(5, head.numbers), torch.zeros(5, 3))
    assert max(sizes) <= 5 * head.numbers


def test_offset_is_about_the_logarithm():
    """ρ = 0 is a scale within a factor of two and a half of half the range, for any number of levels."""
    for levels in (2, 3, 4, 17, 256, 1000, 65536):
        inverse = SHARPEST / (1 + math.exp(offset(levels)))
        assert 0.4 < inverse * (levels - 1) < 2.5


def test_predictions_are_mixed_as_the_numbers_choose():
    """p_0 + Σ_i 2 tanh(b_i / 2) (p_i − p_0), for each channel by itself; means start from it, slopes lean."""
    head = LogisticMixture(channels=2, levels=256, components=3, predictions=4)
    raw = parameters(head, 5)
    choices = raw[:, head.numbers - 6 :].view(5, 3, 2)
    predictions = torch.randn(5, 4, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 100
    slope = torch.tensor([0.5, -1.25, 0.0, 4.0, -4.0], dtype=torch.float64)[:, None]
    all = torch.cat([raw, predictions.flatten(1), slope], 1)
    mixture = head.split(all)
    wanted = predictions[:, 0].clone()
    for i in range(1, 4):
        wanted += 2 * torch.tanh(choices[:, i - 1] / 2) * (predictions[:, i] - predictions[:, 0])
    assert torch.allclose(mixture.predicted[..., 0], wanted)
    mean, _ = head.component(mixture, 0, torch.zeros(5, 2))
    assert torch.allclose(mean, wanted[:, :1] + mixture.means[:, 0])
    level = torch.tensor([[200.0, 0.0]])
    mean, _ = head.component(mixture, 1, level)
    leaning = (head.pieces(all)[3][:, 0].tanh() + slope) * (2 * 200 - 255 - wanted[:, :1])
    assert torch.allclose(mean, wanted[:, 1:] + mixture.means[:, 1] + leaning)
    on_grid = predictions.mul(2**10).round().div(2**10).flatten(1)
    exact = ExactLogisticMixture(head)
    whole = exact.split(torch.cat([raw, on_grid, slope], 1))
    assert (whole.predicted[..., 0] / 2**10 - wanted).abs().max() < 0.02  # half-bins
    assert (exact.component(whole, 1, level)[0] / 2**10 - mean).abs().max() < 0.1


def with_copies(n=7):
    """A head of two plain components and two copies, its numbers and predictions that are levels."""
    head = LogisticMixture(channels=3, levels=6, components=4, predictions=4, copies=2)
    neighbours = half_bins(torch.randint(6, (n, 4, 3), generator=torch.Generator().manual_seed(3)).double(), 6)
    slopes = torch.randint(-2048, 2048, (n, 3), generator=torch.Generator().manual_seed(4)).double() / 4096
    return head, torch.cat([parameters(head, n), neighbours.flatten(1), slopes], 1), neighbours


def test_copies_start_at_one_neighbour_each():
    """Their means are a neighbour's, and lean on what is left of that neighbour; those of the others are mixed."""
    head, raw, neighbours = with_copies()
    mixture = head.split(raw)
    assert torch.equal(mixture.predicted[..., 2:], neighbours[:, 2:].transpose(1, 2))
    assert torch.equal(mixture.predicted[..., 0], head.mixed(*head.pieces(raw)[4:6]))
    for channel in range(3):
        mean, _ = head.component(mixture, channel, (neighbours[:, 2] + 5) / 2)  # the pixel is its first neighbour
        assert torch.allclose(mean[:, 2], neighbours[:, 2, channel])
    assert torch.equal(mixture.means[..., 2:], torch.zeros(7, 3, 2))


def test_a_copy_can_be_certain_of_a_whole_pixel():
    """With nearly all weight on one sharp copy, the pixel is that neighbour, whatever it is, at next to no cost."""
    head, raw, neighbours = with_copies()
    logits, _, sharpness, _, _ = raw[:, : head.numbers].split(head.sizes(), -1)
    logits[:] = torch.tensor([-20.0, -20.0, -20.0, 20.0])
    sharpness.fill_(20.0)
    levels = (neighbours[:, 3] + 5) / 2
    assert float(head.site_log_probs(raw, levels).sum(-1).min()) > -1e-5
    whole = ExactLogisticMixture(head).edges(raw.float(), levels.long())[..., 1]
    assert int(whole.min()) > 2**22 - 64


def test_with_copies_all_still_sums_to_one():
    """Each conditional, and all pixels together; levels observed, all levels and steps agree."""
    head, raw, _ = with_copies()
    x = torch.tensor(list(itertools.product(range(6), repeat=3))).double()
    total = head.site_log_probs(raw[:, None].expand(-1, 216, -1), x.expand(7, -1, -1)).sum(-1).exp().sum(-1)
    assert (total - 1).abs().max() < 1e-12
    v = x[:7]
    logits, walk = head.logits(raw, v), head.start(raw)
    assert (logits.exp().sum(-1) - 1).abs().max() < 1e-12
    assert (Softmax().log_prob(logits, v.long()) - head.site_log_probs(raw, v)).abs().max() < 1e-9
    for channel in range(3):
        assert (head.step_logits(walk) - logits[:, channel]).abs().max() < 1e-9
        walk = head.observe(walk, v[:, channel].long())
