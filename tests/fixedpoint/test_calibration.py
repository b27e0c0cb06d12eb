"""Input grids: chosen from what layers meet, whichever way they are called."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from chainrule import sampling
from chainrule.errors import DataError
from chainrule.fixedpoint import calibrate, exact, is_exact
from chainrule.fixedpoint.conversion import exact_layers
from chainrule.fixedpoint.grid import Inputs
from chainrule.models import PixelCNNMADE
from laws import events, randomised


def test_calibrated_on_given_events():
    """The same events give the same scales, others give others; they are JSON."""
    torch.manual_seed(0)
    model = PixelCNNMADE((3, 6, 8), 4, 16, 2)
    scales = calibrate(model, events(model, 8))
    assert scales != calibrate(model)
    assert json.loads(json.dumps(scales)) == scales
    assert calibrate(model) == calibrate(model)
    assert is_exact(exact(model, scales))


@pytest.mark.parametrize(
    "x", [torch.full((2, 3, 6, 8), 9.5), torch.full((2, 3, 6, 8), 4), torch.zeros(2, 3, 6, 7).long()]
)
def test_events_of_another_model_are_refused(x):
    with pytest.raises(DataError):
        calibrate(PixelCNNMADE((3, 6, 8), 4, 8, 1), x)
    with pytest.raises(DataError, match="at least one"):
        calibrate(PixelCNNMADE((3, 6, 8), 4, 8, 1), torch.zeros(0, 3, 6, 8, dtype=torch.long))


def test_no_input_of_the_calibration_is_clamped(exact_case):
    """In the parallel pass and in a walk, by every method of every layer; and grids are not far wider than that."""
    model = randomised(exact_case.build(), dtype=torch.float32)
    x = events(model, 16)
    found = exact(model, calibrate(model, x))
    reach, quantise = {}, Inputs.quantise

    @dataclasses.dataclass(frozen=True)
    class Watched(Inputs):
        name: str = ""

        def quantise(self, value):
            whole = quantise(dataclasses.replace(self, low=-(2**40), high=2**40), value).double()
            if whole.numel():
                reach[self.name] = max(reach.get(self.name, 0.0), float((whole / self.high).abs().max()))
                assert float(whole.min()) >= self.low, self.name
            return super().quantise(value)

    layers = [(name, layer) for name, layer in exact_layers(found) if not layer.inputs.levels]
    for name, layer in layers:
        layer.inputs = Watched(**vars(layer.inputs), name=name)
    with torch.no_grad():
        found._logits(found._float(found.with_auxiliaries(x)))
        assert set(reach) == {name for name, _ in layers}
        parallel = dict(reach)
        sampling.score(found, x, method="steps")
    assert all(share <= 1 for share in reach.values())
    assert all(share == 0 or share > 0.01 for share in parallel.values())
