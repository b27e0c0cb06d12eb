"""Compiled walks over fronts: in exact mode bit for bit the plain ones, for every head, size, register and thread."""

from __future__ import annotations

import pytest
import torch

import chainrule as cr
from chainrule import compiled, sampling
from chainrule.codec.coder import Decoder
from chainrule.codec.event_coding import Encoding, decode_events
from chainrule.compiled.library import library
from chainrule.compiled.walk import compiled_fronts
from chainrule.compiled.walk.lowering import by_fronts, lower
from chainrule.errors import ModelError
from chainrule.fixedpoint import calibrate, edges, order_of
from chainrule.models import ImageModel
from chainrule.models.front_walk import front_order
from chainrule.sampling import engines
from laws import randomised

pytestmark = pytest.mark.skipif(not compiled.available(), reason="chainrule was installed without a C compiler")

KINDS = [  # head, levels, layer norm, carrier
    ("factorised", 3, False, "auto"),
    ("made", 4, True, "float64"),
    ("logistic", 5, True, "auto"),
    ("logistic", 256, False, "float64"),
    ("logistic", 256, True, "float32"),
]
SIZES = [(1, 1), (1, 9), (9, 1), (4, 3), (5, 12)]


def model_of(head, levels, layer_norm, carrier, channels=3, trunk="masked"):
    """An exact model of any size, calibrated on noise."""
    torch.manual_seed(0)
    kinds = 2 if levels == 256 and not layer_norm else None
    model = ImageModel(
        (channels, None, None), levels, trunk, head, filters=9, blocks=2, layer_norm=layer_norm, prediction=kinds
    )
    model = randomised(model, dtype=torch.float32)
    noise = torch.randint(levels, (2, channels, 6, 6), generator=torch.Generator().manual_seed(0))
    return model, cr.exact(model, calibrate(model, noise, carrier=carrier))


@pytest.fixture(scope="module", params=KINDS, ids=str)
def models(request):
    return model_of(*request.param)


@pytest.fixture(params=[1, 3])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def noise_for(model, n, size):
    return torch.randint(model.levels, (n, model.shape[0], *size), generator=torch.Generator().manual_seed(n))


def plainly(monkeypatch):
    monkeypatch.setattr(engines, "FASTER", {})


@pytest.mark.slow
@pytest.mark.parametrize("size", [(18, 65), (30, 105)])
def test_a_picture_wider_than_what_a_line_remembers(size, monkeypatch):
    """A front's cells are kept by several threads at once: none may take the place of one that another still reads."""
    model = model_of("logistic", 256, False, "float32")[1].sized(*size)
    x = noise_for(model, 1, size) // 9 + 2 * torch.arange(size[1])
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        found = [edges(model, x, fronts=True) for _ in range(3)]
    finally:
        torch.set_num_threads(before)
    raster = edges(model, x.repeat(24, 1, 1, 1))[:, :1]
    wanted = torch.empty_like(raster)
    wanted[order_of(model)] = raster
    assert all(torch.equal(one, wanted[front_order(*model.shape)]) for one in found)


@pytest.mark.slow
def test_a_picture_taller_than_what_least_squares_look_at(monkeypatch):
    """Sums of columns lose the row that is too far away, by fronts and in raster order."""
    model = model_of("logistic", 256, False, "float32")[1].sized(33, 26)
    x = noise_for(model, 1, (33, 26)) // 9 + 5 * torch.arange(26)
    found = [edges(model, x), edges(model, x, fronts=True), edges(model, x.repeat(24, 1, 1, 1))[:, :1]]
    words = Encoding(model, x).words()
    assert torch.equal(decode_events(model, words, 1), x)
    plainly(monkeypatch)
    wanted = edges(model, x)
    assert torch.equal(found[0], wanted)
    assert torch.equal(found[1], edges(model, x, fronts=True))
    assert torch.equal(found[2], wanted)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("n", [1, 3])
def test_edges_and_words_are_the_plain_ones(models, size, n, threads, monkeypatch):
    """Both orders of sites; and what one writes, the other reads: the plain walk over fronts too."""
    model = models[1].sized(*size)
    x = noise_for(model, n, size)
    found = [edges(model, x), edges(model, x, fronts=True)]
    assert found[0].shape == (x[0].numel(), n, 2)
    words = Encoding(model, x).words()
    assert torch.equal(decode_events(model, words, n), x)
    if threads > 1:
        return
    plainly(monkeypatch)
    plain = [edges(model, x), edges(model, x, fronts=True)]
    assert all(torch.equal(a, b) for a, b in zip(found, plain, strict=True))
    assert Encoding(model, x).words() == words
    assert torch.equal(decode_events(model, words, n), x)


@pytest.mark.parametrize("registers", [0, 1])
def test_every_kind_of_processor(models, registers):
    model = models[1].sized(7, 40)
    x = noise_for(model, 2, (7, 40))
    words = Encoding(model, x).words()
    library().chainrule_limit(registers)
    try:
        assert Encoding(model, x).words() == words
        assert torch.equal(decode_events(model, words, 2), x)
    finally:
        library().chainrule_limit(2)


@pytest.mark.parametrize("size", [(1, 1), (4, 3), (2, 10)])
def test_draws_are_those_of_the_steps(models, size, threads):
    """From the same uniforms, which belong to entries, not to the order in which they are met."""
    model = models[1].sized(*size)
    u = torch.rand(3, model.dims, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    given = noise_for(model, 3, size)
    known = torch.rand(given.shape, generator=torch.Generator().manual_seed(1)) < 0.4
    with torch.no_grad(), model.arithmetic():
        walk = engines.fronts(model, 3)
        for draw in (sampling.Draw(u), sampling.Draw(u, given, known)):
            assert torch.equal(draw.whole(walk), sampling.walk(model, 3, draw, method="steps"))


def test_words_that_nobody_wrote_are_levels_still(models):
    """Whatever the words are: a decoder stays within bounds, and says in the end that they do not fit."""
    model = models[1].sized(6, 11)
    noise = torch.randint(1, 2**31, (400,), generator=torch.Generator().manual_seed(0)).numpy().astype("<u4")
    with torch.no_grad():
        decoder = Decoder(noise.tobytes())
        x = decoder.whole(engines.fronts(model, 1))
    assert 0 <= int(x.min()) <= int(x.max()) < model.levels
    with pytest.raises(cr.CodecError):
        decode_events(model, noise.tobytes(), 1)


def test_a_damaged_float_model_is_refused(models):
    model = models[0].sized(4, 5)
    walk_u = torch.full((1, model.dims), 0.5, dtype=torch.float64)
    with torch.no_grad():
        bias = model.head.output.bias if hasattr(model.head, "output") else model.head.made.output.bias
        before = bias.clone()
        bias.fill_(float("nan"))
        with pytest.raises(ModelError, match="not finite"):
            engines.fronts(model, 1).draw(walk_u)
        bias.copy_(before)
        assert int(engines.fronts(model, 1).draw(walk_u).min()) >= 0


def test_interrupts_are_possible(models, monkeypatch):
    """The C code comes back every few pixels, and goes on where it was."""
    model = models[1].sized(8, 20)
    x = noise_for(model, 2, (8, 20))
    words = Encoding(model, x).words()
    monkeypatch.setattr(compiled_fronts, "PIXELS", 3)
    assert Encoding(model, x).words() == words
    assert torch.equal(decode_events(model, words, 2), x)


def test_memory_does_not_grow_with_the_width():
    """What a picture needs: some lines of memory for each row, whatever their length."""
    _, model = model_of(*KINDS[2])
    with torch.no_grad():
        narrow, wide = lower(model.sized(10, 50), fronts=True), lower(model.sized(10, 5000), fronts=True)
    assert narrow.record.memory == wide.record.memory


def test_gated_trunks_have_no_fronts():
    """Their vertical stack looks to the right in its own row; edges come in raster order."""
    _, model = model_of("logistic", 20, True, "auto", trunk="gated")
    sized = model.sized(5, 6)
    x = noise_for(sized, 2, (5, 6))
    with torch.no_grad():
        assert lower(sized, fronts=True) is None
        assert lower(sized) is not None
        assert engines.fronts(sized, 1) is None
    assert not sized.coded_by_fronts
    assert torch.equal(decode_events(sized, Encoding(sized, x).words(), 2), x)


def test_the_order_of_several_pictures(models):
    """At each entry one picture after the other, as docs/format.md has it."""
    model = models[1].sized(3, 6)
    x = noise_for(model, 2, (3, 6))
    both = edges(model, x, fronts=True)
    for n in range(2):
        assert torch.equal(both[:, n : n + 1], edges(model, x[n : n + 1], fronts=True))
    assert sorted(front_order(3, 3, 6).tolist()) == list(range(54))


def test_programs_of_exact_models_are_kept(models):
    """One serves pictures of every size; a float model's may change, and is made anew."""
    _, model = models
    with torch.no_grad():
        assert by_fronts(model.sized(3, 4)) is by_fronts(model.sized(9, 2)) is not None
        assert by_fronts(models[0].sized(3, 4)) is not by_fronts(models[0].sized(3, 4))
