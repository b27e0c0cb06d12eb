"""The exact form of every model: the same bits however they are computed."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import pickle
import subprocess
import sys

import pytest
import torch

from chainrule import fixedpoint, sampling, zoo
from chainrule.contract import Chooser
from chainrule.errors import ModelError
from chainrule.fixedpoint import calibrate, certificate, exact, exact_arithmetic, fingerprint, is_exact, probe
from chainrule.fixedpoint.exact_layers import ExactProduct
from chainrule.models import (
    MADE,
    ConditionalMLP,
    GatedPixelCNN,
    GatedPixelCNNMADE,
    LogisticPixelCNN,
    PixelCNN,
    PixelCNNMADE,
)
from laws import enumerate_events, events, exact_twin, of_each_exact_class, randomised, some_known


def frequencies(model, x):
    with torch.no_grad():
        return model.softmax.frequencies(model._logits(model._float(model.with_auxiliaries(x))))


def walked(model, x):
    """The frequencies that a walk over the events meets, in the layout of the parallel pass."""
    x = model.with_auxiliaries(x)
    found = torch.zeros(*x.shape, max(site.levels for site in model.sites()), dtype=torch.long)

    class Noting(Chooser):
        def __call__(self, position, site, pmf):
            found[(*sampling.at(site), slice(site.levels))] = (pmf * 2.0**22).long()
            return x[sampling.at(site)]

    sampling.walk(model, len(x), Noting())
    return found


def in_float64(twin):
    """The same integers, carried by float64 throughout."""
    for layer in twin.modules():
        if isinstance(layer, ExactProduct):
            for name in ("grid_weight", "grid_bias", "matrix"):
                if hasattr(layer, name):
                    setattr(layer, name, getattr(layer, name).double())
    return twin


@pytest.fixture
def twin(exact_case):
    return exact_twin(exact_case)


def image_model(cls=PixelCNNMADE, shape=(3, 6, 8), levels=4, filters=16, blocks=2, **options):
    torch.manual_seed(0)
    return cls(shape, levels, filters, blocks, **options)


@of_each_exact_class
def test_a_fingerprint_survives_the_way_to_another_device(exact_case):
    """There, buffers that two modules share become two, and would count twice."""
    model = exact_twin(exact_case)
    moved = exact_twin(exact_case)._apply(torch.clone)
    assert fingerprint(moved) == fingerprint(model)


def test_walk_equals_parallel_pass(twin, engine):
    x = events(twin, 20)
    assert torch.equal(walked(twin, x), frequencies(twin, x))


def test_float64_changes_nothing(twin, engine):
    x = events(twin, 20)
    expected = frequencies(twin, x)
    assert torch.equal(frequencies(in_float64(twin), x), expected)
    assert torch.equal(walked(twin, x), expected)


@pytest.mark.parametrize("cls", [PixelCNN, PixelCNNMADE, GatedPixelCNN, GatedPixelCNNMADE, LogisticPixelCNN])
@pytest.mark.parametrize(("levels", "layer_norm"), [(4, True), (18, False)])
def test_larger_images(cls, levels, layer_norm, monkeypatch):
    """Several rows and columns, both encodings of the input, every batch, one and two threads, both memory formats."""
    model = image_model(cls, levels=levels, layer_norm=layer_norm)
    x = events(model, 30)
    twin = exact(model, calibrate(model, x))
    expected = frequencies(twin, x)

    def assert_walks_agree(n):
        for compiled in "01":
            monkeypatch.setenv("CHAINRULE_COMPILED", compiled)
            assert torch.equal(walked(twin, x[:n]), expected[:n])

    assert_walks_agree(30)
    for batch in (1, 7):
        assert torch.equal(torch.cat([frequencies(twin, part) for part in x.split(batch)]), expected)
    torch.set_num_threads(2)
    try:
        assert torch.equal(frequencies(twin, x), expected)
        assert_walks_agree(5)
    finally:
        torch.set_num_threads(1)
    assert torch.equal(frequencies(twin.to(memory_format=torch.contiguous_format), x), expected)
    assert torch.equal(frequencies(twin.to(memory_format=torch.channels_last), x), expected)
    with torch.backends.mkldnn.flags(enabled=False):
        assert torch.equal(frequencies(twin, x), expected)
        assert_walks_agree(3)
    assert torch.equal(frequencies(in_float64(twin), x[:9]), expected[:9])


@pytest.mark.parametrize("cls", [PixelCNN, PixelCNNMADE, GatedPixelCNN, GatedPixelCNNMADE, LogisticPixelCNN])
def test_logits_are_identical(cls, monkeypatch):
    """Not only the integers made of them: the logits themselves, in every batch, layout and step."""
    monkeypatch.setenv("CHAINRULE_COMPILED", "0")
    twin = exact(image_model(cls))
    x = events(twin, 20)

    def logits(part):
        with torch.no_grad():
            return twin._logits(twin._float(part))

    expected = logits(x)
    for batch in (1, 7, 20):
        assert torch.equal(torch.cat([logits(part) for part in x.split(batch)]), expected)
    torch.set_num_threads(2)
    try:
        assert torch.equal(logits(x), expected)
    finally:
        torch.set_num_threads(1)
    with torch.backends.mkldnn.flags(enabled=False):
        assert torch.equal(logits(x), expected)
    twin.to(memory_format=torch.contiguous_format)
    assert torch.equal(logits(x), expected)
    with torch.no_grad():
        walk = twin.start(len(x))
        for site in twin.sites():
            assert torch.equal(walk.logits().float(), expected[sampling.at(site)].float())
            walk.observe(x[sampling.at(site)])


@pytest.mark.parametrize("cls", [PixelCNNMADE, GatedPixelCNNMADE])
@pytest.mark.parametrize("carrier", ["float32", "float64"])
def test_forced_carriers(carrier, cls, engine):
    model = image_model(cls)
    twin = exact(model, calibrate(model, carrier=carrier))
    rows = certificate(twin)
    assert {row.carrier for row in rows if "norm" not in row.layer} == {carrier}
    x = events(twin, 5)
    assert torch.equal(walked(twin, x), frequencies(twin, x))


def test_other_settings_of_the_caller_change_nothing(engine):
    """By every way in that a user has; and the settings are theirs again afterwards."""
    twin = exact(image_model())
    x = events(twin, 3)

    def everything():
        sample = twin.sample(2, generator=torch.Generator().manual_seed(0))
        return walked(twin, x), fixedpoint.frequencies(twin, x), twin.log_pmf(x), twin.site_log_probs(x), sample

    expected = everything()
    assert torch.equal(expected[0], frequencies(twin, x))

    def assert_nothing_changes():
        assert all(torch.equal(a, b) for a, b in zip(everything(), expected, strict=True))

    torch.set_float32_matmul_precision("medium")
    try:
        assert_nothing_changes()
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert_nothing_changes()
        assert torch.is_autocast_enabled("cpu")
    torch.backends.mkldnn.matmul.fp32_precision = "bf16"
    try:
        with exact_arithmetic():
            assert torch.backends.mkldnn.matmul.fp32_precision == "ieee"
        assert torch.backends.mkldnn.matmul.fp32_precision == "bf16"
        assert_nothing_changes()
    finally:
        torch.backends.mkldnn.matmul.fp32_precision = "none"


SCRIPT = """
import hashlib, sys, torch
torch.set_num_threads(int(sys.argv[1]))
torch.backends.mkldnn.set_flags(sys.argv[2] == "onednn")
from chainrule import zoo
from chainrule.fixedpoint import exact, fingerprint, probe
for folder in sys.argv[3:]:
    twin = exact(zoo.load(folder))
    x = twin.sample(4, generator=torch.Generator().manual_seed(5))
    print(fingerprint(twin).hex(), probe(twin).hex(), hashlib.sha256(x.numpy().tobytes()).hexdigest())
"""


def test_other_processors_give_the_same_bits(tmp_path):
    """No vector instructions, no oneDNN, other threads: the same scales, probe and samples, from the float model."""
    folders, said = [], []
    for cls in (PixelCNNMADE, GatedPixelCNNMADE, LogisticPixelCNN):
        folders.append(str(tmp_path / cls.__name__))
        image_model(cls, (3, 4, 5), filters=9).save_pretrained(folders[-1])
        twin = exact(zoo.load(folders[-1]))
        x = twin.sample(4, generator=torch.Generator().manual_seed(5))
        said.append(f"{fingerprint(twin).hex()} {probe(twin).hex()} {hashlib.sha256(x.numpy().tobytes()).hexdigest()}")
    for capability, threads, onednn, compiled in [("default", 1, "none", "0"), ("avx2", 2, "onednn", "1")]:
        environment = {**os.environ, "ATEN_CPU_CAPABILITY": capability, "MKL_ENABLE_INSTRUCTIONS": "SSE4_2"}
        environment["CHAINRULE_COMPILED"] = compiled
        command = [sys.executable, "-c", SCRIPT, str(threads), onednn, *folders]
        run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert run.stdout.splitlines() == said


def test_probabilities_sum_to_one(twin):
    assert abs(float(twin.log_prob(enumerate_events(twin)).exp().sum()) - 1) < 1e-10


def test_naive_and_cached_samples_are_identical(twin, engine):
    draw = lambda method: twin.sample(60, generator=torch.Generator().manual_seed(3), method=method)  # noqa: E731
    assert torch.equal(draw("cached"), draw("naive"))


def test_scores_agree(twin):
    x = events(twin, 9)
    assert torch.equal(sampling.score(twin, x), twin.site_log_probs(x))


def test_likelihoods_of_both_engines_are_identical(twin, monkeypatch):
    x = events(twin, 9)
    with torch.no_grad():
        found = {}
        for compiled in "01":
            monkeypatch.setenv("CHAINRULE_COMPILED", compiled)
            found[compiled] = twin.site_log_probs(x), twin.log_prob(x)
    assert torch.equal(found["0"][0], found["1"][0])
    assert (found["0"][1] - found["1"][1]).abs().max() < 1e-12  # a sum of logarithms in another order of memory


@of_each_exact_class
def test_completes(twin):
    x = events(twin, 5)
    known = some_known(twin, x)
    y = twin.complete(x, known, generator=torch.Generator().manual_seed(1))
    assert torch.equal(y[known], x[known])


def test_close_to_the_float_model(exact_case, twin):
    """Random, large weights: far rougher than any trained model, yet near."""
    model = randomised(exact_case.build(), dtype=torch.float32)
    x = enumerate_events(model)[:2000]
    gap = twin.log_prob(x) - model.log_prob(x).double()
    assert gap.abs().max() < 0.15


def test_certificate_is_kept_by_the_worst_inputs(twin):
    """Inputs that push each output as far up or down as its grid allows stay within the certificate, and reach it."""
    rows = {row.layer: row for row in certificate(twin)}
    for name, layer in twin.named_modules():
        if not isinstance(layer, ExactProduct) or layer.inputs.levels or "from_auxiliary" in name:
            continue
        row = rows[name]
        unit = torch.ldexp(torch.ones(len(layer.row_bits)).double(), layer.row_bits)
        weight = (layer.grid_weight.double() * unit.view(-1, *[1] * (layer.grid_weight.ndim - 1))).flatten(1)
        bias = layer.grid_bias.double() * unit
        low, high = weight * layer.inputs.low, weight * layer.inputs.high
        up = torch.maximum(low, high).clamp(min=0).sum(1) + bias.clamp(min=0)
        down = torch.minimum(low, high).clamp(max=0).sum(1) + bias.clamp(max=0)
        assert float(torch.maximum(up, -down).max()) == row.worst <= row.limit
        assert bool((weight == weight.round()).all())


@of_each_exact_class
def test_saved_and_loaded(twin, tmp_path):
    twin.save_pretrained(tmp_path)
    again = zoo.load(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["exact"] is True
    assert is_exact(again)
    assert fingerprint(again) == fingerprint(twin)
    assert probe(again) == probe(twin)
    assert type(again) is type(twin)


@of_each_exact_class
def test_a_float_model_has_one_twin_only(exact_case, twin, tmp_path):
    """Saved before or after it was made exact, elsewhere or here."""
    randomised(exact_case.build(), dtype=torch.float32).save_pretrained(tmp_path / "before")
    model = zoo.load(tmp_path / "before")
    assert fingerprint(model) == fingerprint(twin)
    model.save_pretrained(tmp_path / "after")
    assert "scales" in json.loads((tmp_path / "after" / "config.json").read_text())
    assert fingerprint(zoo.load(tmp_path / "after")) == fingerprint(twin)


def test_twin_and_model_keep_out_of_each_others_way():
    model = image_model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    twin = exact(model)
    assert exact(twin) is twin
    assert type(twin) is PixelCNNMADE
    assert not is_exact(model)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    with torch.no_grad():
        model.trunk.hidden.weight.mul_(2)
    changed = exact(model)  # its scales were for other weights: they are found anew
    assert fingerprint(changed) != fingerprint(twin)
    with pytest.raises(ModelError, match="other weights"):
        exact(model, twin.scales)


def test_a_twin_stays_what_it_is():
    twin = exact(MADE((2,), 4))
    for change in (twin.half, twin.double, lambda: twin.to(torch.bfloat16)):
        with pytest.raises(ModelError, match="fixed"):
            change()
    with pytest.raises(ModelError, match="trained"):
        twin.train()
    assert not any(parameter.requires_grad for parameter in twin.parameters())


@of_each_exact_class
def test_it_is_an_ordinary_model(twin):
    """Of the same class, with the same weights under the same names; it can be copied and pickled."""
    for again in (copy.deepcopy(twin), pickle.loads(pickle.dumps(twin))):
        assert type(again) is type(twin)
        assert fingerprint(again) == fingerprint(twin)
        assert probe(again) == probe(twin)


@pytest.mark.parametrize("encoding", ["onehot", "scalar", "embedding"])
def test_conditional_mlp_in_every_type(encoding):
    """Trained in double or bfloat16: the twin is that of the float32 weights."""
    torch.manual_seed(0)
    model = ConditionalMLP(30, encoding)
    x = events(model, 300)
    twin = exact(model)
    assert torch.equal(walked(twin, x), frequencies(twin, x))
    model.scales = None
    assert fingerprint(model.double()) == fingerprint(twin)
    model.bfloat16()
    twin = exact(model)
    assert torch.equal(walked(twin, x), frequencies(twin, x))


@pytest.mark.parametrize(("cls", "filters"), [(PixelCNNMADE, 24), (GatedPixelCNNMADE, 12)])
def test_costs_next_to_nothing_on_a_trained_model(cls, filters):
    """A model trained for a moment: its bits hardly change, in float32 nor in float64."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(0, 4, (2000, 3, 8, 1), generator=generator)
    noise = torch.rand(2000, 3, 8, 8, generator=generator) < 0.1
    x = torch.where(noise, torch.randint(0, 4, noise.shape, generator=generator), rows.expand(noise.shape))
    model = image_model(cls, shape=(3, 8, 8), filters=filters)
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    for step in range(80):
        loss = -model.log_prob(x[step * 10 % 1500 :][:32]).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    test = x[1900:]
    with torch.no_grad():
        bits = float(model.log_prob(test).double().mean())
    for carrier, most in [("auto", 1e-3), ("float32", 1e-3), ("float64", 2e-4)]:
        twin = exact(model, calibrate(model, carrier=carrier))
        assert abs(float(twin.log_prob(test).mean()) / bits - 1) < most
    assert bits / 192 > -1.0  # it has learned something


def test_a_default_type_of_double_precision_changes_nothing(tmp_path):
    """Neither what is loaded, nor its exact form, nor what that draws."""
    torch.manual_seed(0)
    PixelCNNMADE((2, 4, 4), 4, 8, 1).save_pretrained(tmp_path)

    def found():
        made = exact(zoo.load(tmp_path))
        return fingerprint(made), probe(made), made.sample(3, generator=torch.Generator().manual_seed(0)).tolist()

    wanted = found()
    try:
        torch.set_default_dtype(torch.float64)
        assert found() == wanted
    finally:
        torch.set_default_dtype(torch.float32)
