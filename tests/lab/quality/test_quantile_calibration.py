"""Calibration: zero for what drew the data, whatever its levels, and not for anything else."""

from __future__ import annotations

import pytest
import torch

from chainrule.errors import DataError
from chainrule.lab.quality.quantile_calibration import BATCH, TAUS, calibration, distribution_functions
from chainrule.models import MADE, GatedPixelCNN, Histogram, PixelIQN
from laws import events, randomised


@pytest.mark.parametrize("levels", [2, 4, 30])
def test_a_model_is_calibrated_on_its_own_samples(levels):
    """Within the noise of the draws, for few levels as for many."""
    model = randomised(MADE((3,), levels, (12,)), std=0.6)
    measured = calibration(model, model.sample(4000, generator=torch.Generator().manual_seed(0)))
    assert measured.error < 0.01
    assert measured.quantiles == pytest.approx([k / 20 for k in range(1, 20)])


def test_a_quantile_model_is_calibrated_on_its_own_samples():
    model = randomised(PixelIQN((2, 3, 3), 5, 6, 1), std=0.5)
    measured = calibration(model, model.sample(500, generator=torch.Generator().manual_seed(0)))
    assert 0.2 < measured.uncertain <= 1
    assert measured.error < 0.02
    assert measured.uncertain_error < 0.02


def test_the_wrong_model_is_not():
    """A fair coin measured with one of 90 %: the share below t is t / 0.9 · ½ up to 0.9."""
    model = Histogram(2).double()
    with torch.no_grad():
        model.theta.copy_(torch.tensor([0.9, 0.1]).log())
    measured = calibration(model, torch.tensor([[0], [1]]))
    expected = [t / 1.8 if t <= 0.9 else 0.5 + (t - 0.9) / 0.2 for t in measured.quantiles]
    assert measured.shares == pytest.approx(expected)
    assert measured.error > 0.1
    assert (measured.uncertain, measured.uncertain_error) == (1, pytest.approx(measured.error))


def test_certain_entries():
    """Where a model allows one level only it is right, and exactly calibrated, or wrong: the error is then ½ on average
    over t below and above."""
    model = PixelIQN((1, 1, 1), 3, 4, 0).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()  # the middle level, whatever τ is
    right, wrong = torch.ones(4, 1, 1, 1).long(), torch.zeros(4, 1, 1, 1).long()
    assert calibration(model, right).error == pytest.approx(0, abs=1e-12)
    assert calibration(model, right).uncertain == 0
    assert calibration(model, wrong).shares == pytest.approx([1] * 19)
    assert calibration(model, 2 * right).shares == pytest.approx([0] * 19)


def test_distribution_functions_of_quantiles():
    """Non-decreasing, multiples of the grid's step, and 1 at the last level, however the quantiles cross."""
    model = randomised(PixelIQN((2, 2, 3), 4, 6, 1), std=0.6)
    cdf = distribution_functions(model, events(model, 7))
    assert bool((cdf.diff(dim=-1) >= 0).all())
    assert bool((cdf[..., -1] == 1).all())
    torch.testing.assert_close((cdf * TAUS).round(), cdf * TAUS)


def test_every_event_has_its_own_label():
    """More events than a batch: the same as one after the other, each given its label."""
    model = randomised(GatedPixelCNN((1, 2, 2), 3, 6, 1, classes=4), std=0.5)
    x, labels = events(model, BATCH + 5), torch.arange(BATCH + 5) % 4
    together = calibration(model, x, labels)
    alone = [calibration(model, x[i : i + 1], labels[i : i + 1]).shares for i in range(len(x))]
    assert together.shares == pytest.approx(torch.tensor(alone).mean(0).tolist(), abs=1e-6)
    assert together.shares != pytest.approx(calibration(model, x, 0 * labels).shares, abs=1e-4)


def test_no_events():
    with pytest.raises(DataError, match="at least one"):
        calibration(Histogram(2), torch.zeros(0, 1).long())
