"""What a GPU computes is what the CPU computes: to the last digits in floats, to the last bit in exact mode.

None of this runs without a GPU; `tests/sampling/test_graphs.py` stands in for the rules of CUDA graphs elsewhere.
"""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from chainrule import sampling, zoo
from chainrule.codec import compress, decompress
from chainrule.data import Dataset, Pictures
from chainrule.fixedpoint import exact, fingerprint, frequencies, probe
from chainrule.models import ImageModel, LogisticPixelCNN, PixelCNNMADE
from chainrule.nn import passes
from chainrule.nn.least_squares import LocalLeastSquares
from chainrule.nn.surroundings import FAR, NEAR
from chainrule.sampling import engines, graphs
from chainrule.training import TrainConfig, fit
from laws import events, exact_twin, randomised, some_known

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")

GPU = torch.device("cuda", 0)
RECORDED = {
    "made": lambda: PixelCNNMADE((3, 9, 8), 4, 16, 2),
    "logistic": lambda: LogisticPixelCNN((2, 8, 7), 32, 12, 2, prediction=0),
    "gated": lambda: ImageModel((3, 8, 7), 4, "gated", "made", filters=8, blocks=2),
    "quantile": lambda: ImageModel((1, 8, 7), 8, "masked", "quantile", filters=8, blocks=1),
}
"""Models whose rows all ask for the same kernels, with enough rows to be recorded."""


@pytest.fixture(autouse=True)
def no_doubts():
    """A warning that graphs are of no use is a failure."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="CUDA graphs")
        yield


def on_both(case, dtype=torch.float32):
    """The model of a case with random weights, twice: on the CPU and on the GPU."""
    return [randomised(case.build(), dtype=dtype).to(device) for device in ("cpu", GPU)]


def test_likelihoods_are_those_of_the_cpu(case):
    """In float64, to rounding."""
    here, there = on_both(case, torch.float64)
    x = events(here, 4)
    if not here.has_likelihood:
        assert torch.allclose(here.loss(x), there.loss(x.to(GPU)).cpu(), rtol=1e-9)
        return
    assert torch.allclose(here.log_prob(x), there.log_prob(x.to(GPU)).cpu(), rtol=1e-9)


def test_the_walk_gives_the_parallel_pass(case):
    """Cached steps on the GPU score what one pass scores."""
    _, model = on_both(case, torch.float64)
    if not model.has_likelihood:
        pytest.skip("it has no likelihood")
    x = events(model, 3).to(GPU)
    with torch.no_grad(), sampling.evaluating(model):
        expected = model.site_log_probs(x)
    assert torch.allclose(sampling.score(model, x), expected.double(), rtol=1e-8, atol=1e-10)


def test_exact_models_agree_to_the_bit(exact_case):
    """Parallel pass and cached steps, on either device: all but the logarithms, which each device takes its own way."""
    here = exact_twin(exact_case)
    there = exact_twin(exact_case).to(GPU)
    assert fingerprint(here) == fingerprint(there)
    assert probe(here) == probe(there)
    x = events(here, 5)
    assert torch.equal(frequencies(here, x), frequencies(there, x.to(GPU)))
    walked, expected = sampling.score(there, x.to(GPU)).cpu(), sampling.score(here, x)
    assert torch.allclose(walked, expected, rtol=1e-14, atol=0)
    with torch.no_grad():
        assert torch.allclose(there.site_log_probs(x.to(GPU)).cpu(), expected, rtol=1e-14, atol=0)


def test_exact_samples_agree(exact_case):
    """The same seed draws the same events, and completes them alike."""
    here = exact_twin(exact_case)
    there = exact_twin(exact_case).to(GPU)
    seed = torch.Generator().manual_seed
    assert torch.equal(here.sample(5, generator=seed(3)), there.sample(5, generator=seed(3)).cpu())
    x = events(here, 4)
    known = some_known(here, x)
    found = there.complete(x.to(GPU), known.to(GPU), generator=seed(4)).cpu()
    assert torch.equal(here.complete(x, known, generator=seed(4)), found)


@pytest.mark.parametrize("name", RECORDED)
def test_graphs_are_the_steps(name):
    """Recorded walks draw what plain steps draw, and are what `cached` takes."""
    torch.manual_seed(0)
    model = randomised(RECORDED[name](), dtype=torch.float32).to(GPU)
    walk = engines.start(model, 6)
    try:
        assert isinstance(walk, graphs.RecordedWalk)
    finally:
        walk.close()
    seed = torch.Generator().manual_seed
    drawn = model.sample(6, generator=seed(1))
    expected = model.sample(6, generator=seed(1), method="steps")
    assert (drawn == expected).double().mean() > 0.97  # sums that differ in their last bit choose another level rarely
    twin = exact(model) if model.has_likelihood else None
    if twin is not None:
        assert torch.equal(twin.sample(6, generator=seed(1)), twin.sample(6, generator=seed(1), method="steps"))


@pytest.mark.parametrize("name", ["made", "logistic", "gated"])
def test_archives_are_the_same(name, tmp_path):
    """Packed on one device and unpacked on the other, and the same bytes."""
    torch.manual_seed(0)
    model = exact(randomised(RECORDED[name](), dtype=torch.float32))
    model.save_pretrained(tmp_path)
    there = exact(zoo.load(tmp_path)).to(GPU)
    x = np.random.RandomState(0).randint(0, model.levels, (7, *model.shape[1:], model.shape[0])).astype(np.uint8)
    blob = compress(model, x)
    assert compress(there, x) == blob
    assert np.array_equal(decompress(there, blob), x)
    assert np.array_equal(decompress(model, blob), x)


def test_archives_of_any_size_are_the_same(tmp_path):
    """A model of pictures of any size, with least squares, on either device."""
    torch.manual_seed(0)
    here = exact(LogisticPixelCNN((3, None, None), 256, 9, 1, layer_norm=False, prediction=2))
    here.save_pretrained(tmp_path)
    there = exact(zoo.load(tmp_path)).to(GPU)
    x = [np.random.RandomState(k).randint(0, 256, (9 + k, 12 - k, 3)).astype(np.uint8) for k in range(3)]
    blob = compress(here, x)
    assert compress(there, x) == blob
    assert all(np.array_equal(a, b) for a, b in zip(decompress(there, blob), x, strict=True))


@pytest.mark.parametrize("by", [NEAR, FAR], ids=["near", "far"])
def test_least_squares_agree_to_the_bit(by, monkeypatch):
    """Compiled on the CPU for both devices, and by PyTorch on the GPU."""
    layer = LocalLeastSquares(3, 256, by, alone=by == NEAR)
    x = torch.randint(0, 256, (2, 3, 30, 41), generator=torch.Generator().manual_seed(0))
    smooth = F.avg_pool2d(x.double(), 3, 1, 1).round()
    u = 2 * smooth - 255
    expected = layer(u)
    assert torch.equal(layer.to(GPU)(u.to(GPU)).cpu(), expected)
    monkeypatch.setattr(passes, "_PASSES", {})
    assert torch.equal(layer(u.to(GPU)).cpu(), expected)


def dataset(pictures=False):
    """Small images with something to learn, on the CPU."""
    generator = torch.Generator().manual_seed(0)
    x = (torch.rand(160, 3, 8, 8, generator=generator) + torch.linspace(0, 2, 8)).clamp(0, 3).to(torch.uint8)
    if pictures:
        parts = [Pictures(list(x[rows] * 60)) for rows in (slice(0, 96), slice(96, 128), slice(128, 160))]
        return Dataset("drawn", 256, *parts)
    return Dataset("drawn", 4, x[:96], x[96:128], x[128:])


@pytest.mark.parametrize("compiled", [False, True], ids=["plain", "compiled"])
@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_training_goes_on_where_it_stopped(tmp_path, compiled, optimizer):
    """On the GPU in bfloat16; resumed, it ends near where it would have ended, and its weights are of use on a CPU."""
    config = TrainConfig(steps=12, batch_size=16, optimizer=optimizer, lr=3e-3, ema=0.9, eval_every=6, compile=compiled)
    found, losses = [], []
    for resumed in (False, True):
        folder = tmp_path / str(resumed)
        if resumed:
            torch.manual_seed(0)
            with pytest.raises(KeyboardInterrupt):
                stopped_at(6, PixelCNNMADE((3, 8, 8), 4, 16, 1), config, folder)
        torch.manual_seed(int(resumed))  # what is resumed begins with other weights, which the checkpoint's replace
        model = PixelCNNMADE((3, 8, 8), 4, 16, 1)
        history = fit(model, dataset(), config, folder=folder, resume=resumed, quiet=True)
        assert next(model.parameters()).device.type == "cuda"
        losses.append(torch.tensor(history.train))
        found.append(model.cpu().log_prob(dataset().test))
    assert losses[0][-1] < losses[0][0]
    assert torch.allclose(*losses, rtol=0.02)
    assert torch.allclose(*found, rtol=0.02)


def stopped_at(step, model, config, folder):
    """Train until a step, then behave as after Ctrl-C."""
    from chainrule.training import fitting

    class Stopping(fitting.Training):
        def step(self):
            if self.done == step:
                raise KeyboardInterrupt
            return super().step()

    original, fitting.Training = fitting.Training, Stopping
    try:
        fit(model, dataset(), config, folder=folder, quiet=True)
    finally:
        fitting.Training = original


def test_pictures_are_trained_on(tmp_path):
    """Crops, least squares and a mixture of logistics, on the GPU."""
    torch.manual_seed(0)
    model = LogisticPixelCNN((3, None, None), 256, 12, 1, layer_norm=False, prediction=2)
    config = TrainConfig(steps=12, batch_size=4, optimizer="muon", lr=0.01, crop=8, eval_every=4)
    history = fit(model, dataset(True), replace(config, turned=True), folder=tmp_path, quiet=True)
    assert next(model.parameters()).device.type == "cuda"
    assert history.validation[-1][1] < history.validation[0][1]
