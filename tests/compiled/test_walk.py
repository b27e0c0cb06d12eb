"""Compiled walks: the same numbers as PyTorch's steps, for every number of images, threads and registers."""

from __future__ import annotations

import copy
import functools
import multiprocessing
import threading

import pytest
import torch

from chainrule import compiled as native
from chainrule import sampling
from chainrule.codec.coder import edges_of
from chainrule.compiled.library import library
from chainrule.compiled.walk.compiled_walk import GROUP, CompiledWalk, score
from chainrule.compiled.walk.lowering import lower
from chainrule.contract import Chooser
from chainrule.errors import ModelError
from chainrule.fixedpoint import calibrate, edges, exact, frequencies
from chainrule.fixedpoint.scoring import by_passes
from chainrule.heads import FactorisedHead, MADEHead, Softmax
from chainrule.models import (
    MADE,
    GatedPixelCNN,
    GatedPixelCNNMADE,
    ImageGPT,
    ImageModel,
    LogisticPixelCNN,
    PixelCNN,
    PixelCNNMADE,
    PixelSNAIL,
)
from chainrule.models.image import ImageWalk
from chainrule.nn import AttentionLayer, ChannelLayerNorm, MaskedConv2d, MaskedLinear, MaskedTrunk, ResidualBlock
from laws import events, randomised

pytestmark = pytest.mark.skipif(not native.available(), reason="chainrule was installed without a C compiler")


CLASSES = [PixelCNN, PixelCNNMADE, GatedPixelCNN, GatedPixelCNNMADE, LogisticPixelCNN, ImageGPT, PixelSNAIL]


def image_model(cls=PixelCNNMADE, shape=(3, 5, 6), levels=4, filters=20, blocks=2, **options):
    torch.manual_seed(0)
    model = cls(shape, levels, filters=filters, blocks=blocks, **options).eval()
    with torch.no_grad():  # gains of 1 and biases of 0 would hide how they are rounded
        for layer in model.modules():
            if isinstance(layer, torch.nn.LayerNorm):
                layer.weight.normal_(1, 0.3)
                layer.bias.normal_(0, 0.3)
            if isinstance(layer, AttentionLayer):  # and a zero all that attention finds
                layer.gather.weight.normal_(0, 0.3)
    return model


@functools.cache
def scales_of(cls, carrier="auto"):
    """Those of the usual model of a class, found once."""
    return calibrate(image_model(cls), carrier=carrier)


def exact_model(cls=PixelCNNMADE, carrier="auto"):
    """The usual model of a class in exact form."""
    return exact(image_model(cls), scales_of(cls, carrier))


def passes(twin, x):
    """The frequencies by PyTorch's parallel pass, in the order of the walk."""
    with torch.no_grad():
        return by_passes(twin, x)


def walked(model, x, method="cached"):
    """The probabilities that a walk meets, float64 (sites, B, levels)."""
    found = []

    def choose(position, site, pmf):
        found.append(pmf)
        return x[sampling.at(site)]

    sampling.walk(model, len(x), InTurn(choose), method=method)
    return torch.stack(found)


class InTurn(Chooser):
    """Somebody who wants to be asked at every site."""

    def __init__(self, choose):
        self.choose = choose

    def __call__(self, position, site, conditional):
        return self.choose(position, site, conditional)


@pytest.fixture
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("threads", [1, 3], indirect=True)
@pytest.mark.parametrize("in_exact_mode", [False, True])
@pytest.mark.parametrize("cls", CLASSES)
def test_all_steps_at_once_are_the_steps_in_turn(cls, in_exact_mode, threads):
    """Samples and completions, for every number of images: what the loop draws step by step from the same uniforms."""
    model = exact_model(cls) if in_exact_mode else image_model(cls)
    for n in (1, 2, 7, GROUP + 1, 2 * GROUP + 5) if cls in CLASSES[:2] else (3, GROUP + 1):
        u, given = torch.rand(n, len(model.sites()), dtype=torch.float64), events(model, n).long()
        u[0, :3] = torch.tensor([0.0, 0.5, 1 - 2.0**-53])
        for known in (None, torch.rand(given.shape) < 0.5, torch.ones_like(given, dtype=torch.bool)):
            draw = sampling.Draw(u, None if known is None else given, known)
            at_once = sampling.walk(model, n, draw)
            assert torch.equal(at_once, sampling.walk(model, n, InTurn(draw)))
            assert known is None or torch.equal(at_once[known], given[known])
            assert known is None or known.all() or n < 7 or not torch.equal(at_once, given)


def test_all_steps_at_once_from_what_broadcasts_or_is_wrong():
    """As step by step: masks are broadcast, a mask without events says nothing, what is no level is refused."""
    model, n = image_model(), 30
    u, given = torch.rand(n, 90, dtype=torch.float64), events(model, n).long()
    known = torch.rand(1, 3, 5, 6) < 0.5
    for draw in (sampling.Draw(u, given, known), sampling.Draw(u, None, known), sampling.Draw(u, given)):
        assert torch.equal(sampling.walk(model, n, draw), sampling.walk(model, n, InTurn(draw)))
    for value in (-1, 4, 2**40):
        with pytest.raises(IndexError):
            sampling.walk(model, n, sampling.Draw(u, torch.full_like(given, value), known))
        assert sampling.walk(model, n, sampling.Draw(u, torch.full_like(given, value), ~known & known)).max() < 4


def test_a_walk_at_once_overrides_nothing(monkeypatch):
    """A choice of another kind, or a walk by the model's own steps, is asked at every site."""

    class Greedy(sampling.Draw):
        def __call__(self, position, site, conditional):
            return conditional.argmax(-1)

        def whole(self, walk):
            return None

    model, u = image_model(), torch.rand(2, 90, dtype=torch.float64)
    greedy = sampling.walk(model, 2, Greedy(u))
    assert torch.equal(greedy, sampling.walk(model, 2, InTurn(lambda position, site, pmf: pmf.argmax(-1))))
    assert not torch.equal(greedy, sampling.walk(model, 2, sampling.Draw(u)))
    asked, usual = [], ImageWalk.conditional
    monkeypatch.setattr(ImageWalk, "conditional", lambda walk: asked.append(1) or usual(walk))
    sampling.walk(model, 2, sampling.Draw(u), method="steps")
    assert len(asked) == 90
    sampling.walk(model, 2, sampling.Draw(u), method="compiled")
    assert len(asked) == 90


def test_a_walk_at_once_asks_the_compiled_code(monkeypatch):
    """Neither conditionals nor values pass through Python; a choice of another kind is asked at every site."""
    model = image_model()
    monkeypatch.setattr(CompiledWalk, "conditional", lambda self: pytest.fail("a step was taken by itself"))
    assert model.sample(2).shape == (2, 3, 5, 6)
    assert sampling.sample(model, 0).shape == (0, 3, 5, 6)
    with pytest.raises(pytest.fail.Exception):
        sampling.walk(model, 2, InTurn(lambda position, site, pmf: pmf.argmax(-1)))


@pytest.mark.parametrize("threads", [1, 2, 3], indirect=True)
@pytest.mark.parametrize("cls", [PixelCNN, PixelCNNMADE])
def test_every_number_of_images(cls, threads):
    """One image, part of a group, a group, several groups with a rest: every tile and share is used."""
    twin = exact_model(cls)
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
        for cls in CLASSES:
            twin = exact_model(cls, carrier)
            x = events(twin, GROUP + 9)
            assert torch.equal(frequencies(twin, x), passes(twin, x))
    finally:
        code.chainrule_limit(2)


@pytest.mark.parametrize("cls", CLASSES)
def test_clamps(cls):
    """Grids far too narrow for what comes: every layer clamps, above and (layer norms) below, as PyTorch does."""
    model = image_model(cls)
    scales = copy.deepcopy(scales_of(cls))
    for grid in scales["layers"].values():
        if "high" in grid:
            grid["low"], grid["high"] = grid["low"] // 9, grid["high"] // 9
    twin, wide = exact(model, scales), exact_model(cls)
    x = events(twin, GROUP + 5)
    expected = passes(twin, x)
    assert torch.equal(frequencies(twin, x), expected)
    assert torch.equal((walked(twin, x) * 2.0**22).int(), expected)
    assert not torch.equal(expected, passes(wide, x))


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize(
    ("shape", "levels", "filters", "blocks", "layer_norm"),
    [
        ((1, 1, 1), 2, 4, 1, True),
        ((1, 9, 2), 2, 7, 3, False),
        ((2, 4, 9), 17, 33, 1, True),
        ((3, 4, 4), 64, 16, 1, True),
        ((5, 3, 3), 5, 10, 0, True),
    ],
)
def test_odd_shapes(cls, shape, levels, filters, blocks, layer_norm):
    """Widths that fill no register, images smaller than the kernel, scaled inputs, no blocks, no layer norm."""
    model = image_model(cls, shape, levels, filters, blocks, layer_norm=layer_norm)
    x = events(model, GROUP + 2)
    twin = exact(model, calibrate(model, x))
    expected = passes(twin, x)
    assert torch.equal(frequencies(twin, x), expected)
    assert torch.equal((walked(twin, x) * 2.0**22).int(), expected)


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("levels", [4, 20])
def test_float_models_agree_up_to_rounding(cls, levels):
    """Float32 sums in another order; the reference is float64."""
    model = image_model(cls, levels=levels)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.7)
    x = events(model, GROUP + 3)
    compiled = walked(model, x, "compiled")
    assert (compiled - walked(model, x, "steps")).abs().max() < 1e-4
    assert (compiled - walked(model.double(), x, "steps")).abs().max() < 1e-4
    assert (compiled.sum(-1) - 1).abs().max() < 1e-12


@pytest.mark.parametrize("trunk", ["masked", "gated", "attention", "snail"])
@pytest.mark.parametrize("head", ["factorised", "made", "logistic"])
@pytest.mark.parametrize(("levels", "layer_norm"), [(3, True), (20, False)])
def test_every_trunk_with_every_head(trunk, head, levels, layer_norm):
    """Tables, edges and walks in exact mode: those of the parallel pass, whatever stands on what."""
    torch.manual_seed(0)
    model = ImageModel((2, 4, 5), levels, trunk, head, filters=6, blocks=2, layer_norm=layer_norm)
    model, x = randomised(model, dtype=torch.float32), events(model, 5)
    twin = exact(model, calibrate(model, x))
    expected, symbols = passes(twin, x), torch.stack([x[sampling.at(site)] for site in twin.sites()])
    with torch.no_grad():
        assert isinstance(started(twin, 5), CompiledWalk)
    assert torch.equal(frequencies(twin, x), expected)
    assert torch.equal((walked(twin, x) * 2.0**22).int(), expected)
    assert torch.equal(edges(twin, x).flatten(0, 1), edges_of(symbols.flatten(), expected.flatten(0, 1)))


def started(model, batch):
    """The walk that a model gets, a compiled one."""
    walk = sampling.engines.start(model, batch)
    assert isinstance(walk, CompiledWalk)
    return walk


def test_what_was_given_stays_as_it_was():
    """Earlier probabilities are not overwritten by later ones, and values may change after they were observed."""
    twin = exact_model()
    x = events(twin, 3)
    expected = passes(twin, x).double() * 2.0**-22
    with torch.no_grad():
        walk, given, value = started(twin, 3), [], torch.zeros(3, dtype=torch.long)
        for position, site in enumerate(twin.sites()):
            if position % 5:
                given.append((position, walk.conditional()))
                assert torch.equal(walk.conditional(), given[-1][1])
            value.copy_(x[sampling.at(site)])
            walk.observe(value)
            value.fill_(0)
    for position, pmf in given:
        assert torch.equal(pmf, expected[position])


def test_where_pytorch_takes_the_steps(monkeypatch):
    """While gradients are recorded, in other types than float32, for other models, and where it is switched off."""
    model = image_model()
    assert lower(model) is None
    with torch.no_grad():
        assert lower(model) is not None
        others = [
            image_model().double(),
            MADE((2,), 4),
            image_model(GatedPixelCNN, classes=2),
            ImageModel((3, 4, 4), 8, "masked", "quantile", 8, 1),
            ImageModel((3, 4, 4), 8, "attention", "made", 8, 1, classes=2),
            ImageModel((1, 65, 64), 8, "snail", "made", 8, 1),  # more keys than there is room for
        ]
        assert not any(lower(other) for other in others)
        monkeypatch.setenv("CHAINRULE_COMPILED", "0")
        assert lower(model) is None
        with pytest.raises(ModelError, match="engine 'compiled' cannot run this model here"):
            sampling.engines.start(model, 2, method="compiled")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("softmax", Softmax),
        ("trunk", MaskedTrunk),
        ("trunk.input", MaskedConv2d),
        ("trunk.hidden", MaskedConv2d),
        ("trunk.norm", ChannelLayerNorm),
        ("trunk.blocks.1", ResidualBlock),
        ("trunk.blocks.1.norm", ChannelLayerNorm),
        ("trunk.blocks.1.reduce", MaskedConv2d),
        ("trunk.blocks.1.spatial", MaskedConv2d),
        ("trunk.blocks.1.expand", MaskedConv2d),
        ("head", MADEHead),
        ("head.made.layers.0", MaskedLinear),
        ("head.made.output", MaskedLinear),
        ("head.made.from_auxiliary", torch.nn.Linear),
    ],
)
def test_what_does_something_else_is_left_to_pytorch(name, kind):
    """Programs are made of the very classes that they are written for: subclasses may differ."""
    model = image_model()
    part = model.get_submodule(name)
    assert type(part) is kind
    with torch.no_grad():
        assert lower(model) is not None
        part.__class__ = type("Other", (kind,), {})
        assert lower(model) is None


@pytest.mark.parametrize("method", ["start", "features", "_logits"])
def test_a_model_with_steps_of_its_own_takes_them(method):
    """And one that only names its trunk and head is as good as chainrule's own, exact or not."""
    own = type(
        "Own", (PixelCNN,), {method: lambda self, *arguments: getattr(super(PixelCNN, self), method)(*arguments)}
    )
    factorised = image_model()
    factorised.head = FactorisedHead(3, 4, 20, factorised.encoding)
    with torch.no_grad():
        assert lower(image_model(own)) is None
        assert lower(image_model(type("Named", (PixelCNN,), {}))) is not None
        assert lower(exact_model()) is not None
        assert lower(factorised) is not None


def test_other_defaults_of_the_caller_change_nothing():
    """A default type or device is for the caller's own tensors."""
    twin = exact_model()
    x = events(twin, GROUP + 1)
    expected = passes(twin, x)
    torch.set_default_dtype(torch.bfloat16)
    try:
        assert torch.equal(frequencies(twin, x), expected)
    finally:
        torch.set_default_dtype(torch.float32)
    with torch.device("meta"), torch.no_grad():
        program = lower(twin)
        assert torch.equal(score(program, x), expected)
        assert torch.equal((CompiledWalk(program, 2).conditional() * 2.0**22).int(), expected[0, :1].expand(2, -1))


@pytest.mark.parametrize("value", [-1, 4, 10**9])
def test_a_value_that_is_no_level(value):
    twin = exact_model()
    with torch.no_grad():
        walk = started(twin, 3)
        with pytest.raises(IndexError, match="4 levels"):
            walk.observe(torch.tensor([0, value, 1]))
        walk.observe(torch.tensor(1))  # one for all
        assert walk.conditional().shape == (3, 4)


def test_nan_stays_nan():
    """A float model that went wrong says so, however its steps are taken."""
    model = image_model()
    with torch.no_grad():
        model.trunk.hidden.weight[3, 2] = float("nan")
        assert bool(started(model, 2).conditional().isnan().all())


def test_a_library_of_another_version_is_not_used(monkeypatch):
    monkeypatch.setattr(native.library, "ProgramRecord", native.walk.program.OperationRecord)
    native.library.library.cache_clear()
    try:
        assert not native.available()
    finally:
        native.library.library.cache_clear()


def test_a_program_is_a_picture_of_the_model():
    """A walk goes on with the weights that it began with."""
    model = image_model()
    x = events(model, 2)
    before = walked(model, x)
    with torch.no_grad():
        walk = started(model, 2)
        for parameter in model.parameters():
            parameter.mul_(-1)
        for position, site in enumerate(model.sites()):
            assert torch.equal(walk.conditional(), before[position])
            walk.observe(x[sampling.at(site)])


def test_no_images():
    twin = exact_model()
    assert frequencies(twin, torch.zeros(0, 3, 5, 6, dtype=torch.long)).shape == (90, 0, 4)
    assert twin.sample(0).shape == (0, 3, 5, 6)


@pytest.mark.parametrize("threads", [2], indirect=True)
def test_several_walks_at_once(threads):
    """Python threads that walk at the same time share one set of workers, or do without."""
    twin = exact_model()
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
    twin = exact_model()
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
    twin = exact_model()
    x = events(twin, 6 * GROUP)
    expected = passes(twin, x)
    for count in (2, 4, 1, 6):
        torch.set_num_threads(count)
        assert torch.equal(frequencies(twin, x), expected)
