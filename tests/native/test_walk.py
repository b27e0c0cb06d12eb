"""Compiled walks: the same numbers as PyTorch's steps, for every number of images, threads and registers."""

from __future__ import annotations

import multiprocessing
import threading

import pytest
import torch

from chainrule import native, sampling
from chainrule.exact import calibrate, exact, frequencies
from chainrule.exact.scoring import _by_passes
from chainrule.models import MADE, PixelCNN, PixelCNNMADE
from chainrule.native.library import library
from chainrule.native.walking import GROUP, CompiledWalk
from laws import events

pytestmark = pytest.mark.skipif(not native.available(), reason="chainrule was installed without a C compiler")


def image_model(cls=PixelCNNMADE, shape=(3, 5, 6), levels=4, filters=20, blocks=2, **options):
    torch.manual_seed(0)
    return cls(shape, levels, filters, blocks, **options).eval()


def passes(twin, x):
    """The frequencies by PyTorch's parallel pass, in the order of the walk."""
    with torch.no_grad():
        return _by_passes(twin, x)


def walked(model, x):
    """The probabilities that a walk meets, float64 (sites, B, levels)."""
    found = []

    def choose(position, site, pmf):
        found.append(pmf)
        return x[sampling.at(site)]

    sampling.walk(model, len(x), choose)
    return torch.stack(found)


@pytest.fixture
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("threads", [1, 2, 3], indirect=True)
@pytest.mark.parametrize("cls", [PixelCNN, PixelCNNMADE])
def test_every_number_of_images(cls, threads):
    """One image, part of a group, a group, several groups with a rest: every tile and share is used."""
    twin = exact(image_model(cls))
    x = events(twin, 5 * GROUP + 7)
    expected = passes(twin, x)
    for n in (1, 2, 3, 5, 6, 7, 11, 12, 13, GROUP - 1, GROUP, GROUP + 1, 2 * GROUP + 5, len(x)):
        assert torch.equal(frequencies(twin, x[:n]), expected[:, :n])
    for n in (1, 4, GROUP, 3 * GROUP + 1, len(x)):
        assert torch.equal((walked(twin, x[:n]) * 2.0**22).int(), expected[:, :n])


@pytest.mark.parametrize("registers", [0, 1, 2])
@pytest.mark.parametrize("carrier", ["float32", "float64"])
def test_every_kind_of_processor(registers, carrier):
    """What processors without wide registers run gives the same bits: in both carriers, with both heads."""
    code = library()
    code.chainrule_limit(registers)
    try:
        for cls in (PixelCNN, PixelCNNMADE):
            model = image_model(cls)
            twin = exact(model, calibrate(model, carrier=carrier))
            x = events(twin, GROUP + 9)
            assert torch.equal(frequencies(twin, x), passes(twin, x))
    finally:
        code.chainrule_limit(2)


@pytest.mark.parametrize("cls", [PixelCNN, PixelCNNMADE])
@pytest.mark.parametrize(
    ("shape", "levels", "filters", "blocks", "layer_norm"),
    [
        ((1, 1, 1), 2, 4, 1, True),
        ((1, 9, 2), 2, 7, 3, False),
        ((2, 4, 9), 17, 33, 1, True),
        ((3, 4, 4), 256, 16, 1, True),
        ((5, 3, 3), 5, 10, 0, True),
    ],
)
def test_odd_shapes(cls, shape, levels, filters, blocks, layer_norm):
    """Widths that fill no register, images smaller than the kernel, scaled inputs, no blocks, no layer norm."""
    twin = exact(image_model(cls, shape, levels, filters, blocks, layer_norm=layer_norm))
    x = events(twin, GROUP + 2)
    expected = passes(twin, x)
    assert torch.equal(frequencies(twin, x), expected)
    assert torch.equal((walked(twin, x) * 2.0**22).int(), expected)


@pytest.mark.parametrize("cls", [PixelCNN, PixelCNNMADE])
@pytest.mark.parametrize("levels", [4, 20])
def test_float_models_agree_up_to_rounding(cls, levels, monkeypatch):
    """Float32 sums in another order; the reference is float64."""
    model = image_model(cls, levels=levels)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.7)
    x = events(model, GROUP + 3)
    compiled = walked(model, x)
    monkeypatch.setenv("CHAINRULE_NATIVE", "0")
    assert (compiled - walked(model, x)).abs().max() < 1e-4
    assert (compiled - walked(model.double(), x)).abs().max() < 1e-4
    assert (compiled.sum(-1) - 1).abs().max() < 1e-12


def test_what_was_given_stays_as_it_was():
    """Earlier probabilities are not overwritten by later ones, and values may change after they were observed."""
    twin = exact(image_model())
    x = events(twin, 3)
    expected = passes(twin, x).double() * 2.0**-22
    with torch.no_grad():
        state, given, value = twin.start(3), [], torch.zeros(3, dtype=torch.long)
        assert isinstance(state, CompiledWalk)
        for position, site in enumerate(twin.sites()):
            if position % 5:
                given.append((position, twin.conditional(state)))
                assert torch.equal(twin.conditional(state), given[-1][1])
            value.copy_(x[sampling.at(site)])
            state = twin.observe(state, value)
            value.fill_(0)
    for position, pmf in given:
        assert torch.equal(pmf, expected[position])


def test_where_pytorch_takes_the_steps(monkeypatch):
    """While gradients are recorded, in other types than float32, for other models, and where it is switched off."""
    model = image_model()
    assert model.program() is None
    with torch.no_grad():
        assert model.program() is not None
        assert image_model().double().program() is None
        assert MADE((2,), 4).program() is None
        monkeypatch.setenv("CHAINRULE_NATIVE", "0")
        assert model.program() is None


def test_a_program_is_a_picture_of_the_model():
    """A walk goes on with the weights that it began with."""
    model = image_model()
    x = events(model, 2)
    before = walked(model, x)
    with torch.no_grad():
        state = model.start(2)
        for parameter in model.parameters():
            parameter.mul_(-1)
        for position, site in enumerate(model.sites()):
            assert torch.equal(model.conditional(state), before[position])
            state = model.observe(state, x[sampling.at(site)])


def test_no_images():
    twin = exact(image_model())
    assert frequencies(twin, torch.zeros(0, 3, 5, 6, dtype=torch.long)).shape == (90, 0, 4)
    assert twin.sample(0).shape == (0, 3, 5, 6)


@pytest.mark.parametrize("threads", [2], indirect=True)
def test_several_walks_at_once(threads):
    """Python threads that walk at the same time share one set of workers, or do without."""
    twin = exact(image_model())
    x = events(twin, 4 * GROUP)
    expected, found = passes(twin, x), {}

    def work(k):
        found[k] = frequencies(twin, x.roll(k, 0)).roll(-k, 1)

    runners = [threading.Thread(target=work, args=(k,)) for k in range(6)]
    for runner in runners:
        runner.start()
    for runner in runners:
        runner.join()
    assert len(found) == 6
    assert all(torch.equal(table, expected) for table in found.values())


def _in_child(queue, twin, x):
    torch.set_num_threads(1)  # PyTorch's own threads do not survive a fork; ours are started anew
    torch.get_num_threads = lambda: 2
    queue.put(int(frequencies(twin, x).long().sum()))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("threads", [2], indirect=True)
def test_after_a_fork(threads):
    """A forked process has none of its parent's workers, and does not wait for them."""
    twin = exact(image_model())
    x = events(twin, 2 * GROUP)
    total = int(frequencies(twin, x).long().sum())  # the workers are at hand now
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_in_child, args=(queue, twin, x))
    child.start()
    try:
        assert queue.get(timeout=60) == total
    finally:
        child.kill()
        child.join()


@pytest.mark.parametrize("threads", [2], indirect=True)
def test_more_threads_later(threads):
    """Workers are hired when they are first needed; those who are not needed any more keep step."""
    twin = exact(image_model())
    x = events(twin, 6 * GROUP)
    expected = passes(twin, x)
    for count in (2, 4, 1, 6):
        torch.set_num_threads(count)
        assert torch.equal(frequencies(twin, x), expected)
